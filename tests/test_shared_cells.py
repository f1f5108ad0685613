"""The shared cells are the same everywhere, and one function name means one function."""

import ast
from collections import defaultdict

import nbformat
import pytest
import sync_shared_cells
from notebook_loader import NOTEBOOKS

# Functions that may differ between notebooks: name -> reason.
DIFFERENT_ON_PURPOSE = {}


def functions_of(path):
    """Yield (name, body text) of each top-level function and class outside the shared cells of a notebook."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and not cell.source.startswith(sync_shared_cells.MARK):
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    yield node.name, ast.unparse(node)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_shared_cells_are_canonical(path):
    """The cells marked as shared equal tests/shared_cells/ byte for byte."""
    diffs = sync_shared_cells.differences(path)
    assert not diffs, "repair with: python tests/sync_shared_cells.py --write\n" + "\n".join(diffs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_has_paths_and_claims(path):
    """A notebook finds its folders and reports its claims through the shared cells."""
    names = [name for name, _ in sync_shared_cells.shared_cells(nbformat.read(path, as_version=4))]
    assert {"paths", "claims"} <= set(names)


def test_one_name_one_body():
    """A function that stands in two notebooks has the same text in both."""
    bodies = defaultdict(lambda: defaultdict(list))
    for path in NOTEBOOKS:
        for name, text in functions_of(path):
            bodies[name][text].append(path.stem)
    different = {
        name: list(texts.values())
        for name, texts in bodies.items()
        if len(texts) > 1 and name not in DIFFERENT_ON_PURPOSE
    }
    assert not different


def test_sync_finds_and_repairs_a_changed_cell(tmp_path):
    """A shared cell with one changed character is shown as a difference and repaired."""
    original = sync_shared_cells.canonical("claims")
    cell = nbformat.v4.new_code_cell(original.replace("≥", ">="))
    path = tmp_path / "changed.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    (diff,) = sync_shared_cells.differences(path)
    assert "≥" in diff
    sync_shared_cells.repair(path)
    assert sync_shared_cells.differences(path) == []


def test_unknown_shared_cell_is_named():
    """A misspelled shared cell leads to an error that lists the known ones."""
    with pytest.raises(KeyError, match=r"clams.*claims.*mnist.*paths"):
        sync_shared_cells.canonical("clams")
