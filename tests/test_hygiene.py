"""What every notebook owes its readers, checked on the committed files."""

import ast
import re

import nbformat
import pytest
from notebook_loader import NOTEBOOKS, ROOT
from sync_shared_cells import MARK

MAX_CELL_LINES = 40
MAX_FILE_KB = 2500
FORBIDDEN = ("/root/", "/home/", "/tmp/", "C:\\Users")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    """Return (path, notebook) of each notebook in turn."""
    return request.param, nbformat.read(request.param, as_version=4)


def code_cells(nb, shared=True):
    """Return the code cells of `nb`, without the shared ones if `shared` is False."""
    return [c for c in nb.cells if c.cell_type == "code" and (shared or not c.source.startswith(MARK))]


def test_executed_in_order_and_without_errors(notebook):
    """Every code cell is executed, from the first to the last, and none ends in an error or on stderr."""
    cells = code_cells(notebook[1])
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert not any(o.output_type == "error" or o.get("name") == "stderr" for o in cell.outputs), cell.source


def test_cells_are_small_and_not_empty(notebook):
    """No cell is empty, no code cell is longer than 40 lines, and prose comes at least every fourth cell."""
    run = 0
    for cell in notebook[1].cells:
        assert cell.source.strip(), "an empty cell"
        shared = cell.source.startswith(MARK)
        run = run + 1 if cell.cell_type == "code" and not shared else 0
        assert run <= 3, f"more than three code cells without prose:\n{cell.source}"
        if cell.cell_type == "code" and not shared:
            assert len(cell.source.splitlines()) <= MAX_CELL_LINES, cell.source


def test_file_is_small_and_names_no_machine(notebook):
    """The file stays small enough to open on GitHub, and no output carries a path of somebody's machine."""
    path, _ = notebook
    assert path.stat().st_size < MAX_FILE_KB * 1024
    text = path.read_text(encoding="utf-8")
    assert not [word for word in FORBIDDEN if word in text]


def test_opening_card(notebook):
    """The first cell has a title, a Colab badge with the notebook's own path, and the card."""
    path, nb = notebook
    first = nb.cells[0].source
    assert nb.cells[0].cell_type == "markdown"
    assert first.startswith("# ")
    badge = re.search(r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/blob/main/([\w./]+)", first)
    assert badge
    assert badge[2] == path.relative_to(ROOT).as_posix()
    assert badge[1] in (ROOT / "README.md").read_text(encoding="utf-8"), "the README names another repository"
    for word in ("**Question**", "**You will**", "**Before**", "**Minutes**"):
        assert word in first
    objectives = re.findall(r"^ *[-*] ", first, re.MULTILINE)
    assert 3 <= len(objectives) <= 5


def test_parameters_cell(notebook):
    """The first code cell is tagged `parameters` and sets the budget and the notebook's own name."""
    path, nb = notebook
    first = code_cells(nb)[0]
    assert "parameters" in first.metadata.get("tags", [])
    assert f'NOTEBOOK = "{path.stem}"' in first.source
    assert "BUDGET" in first.source


def test_exercises_have_folded_solutions(notebook):
    """Answers and solutions are folded, so that nobody reads them by accident."""
    text = "\n".join(cell.source for cell in notebook[1].cells if cell.cell_type == "markdown")
    assert text.count("<details>") == text.count("</details>") >= 3


def test_images_have_alternative_text(notebook):
    """Each picture in an output, and each image in the prose, says in words what it shows."""
    for cell in notebook[1].cells:
        if cell.cell_type == "markdown":
            assert "![](" not in cell.source
            assert not re.search(r"<img(?![^>]*alt=)", cell.source)
            continue
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                alt = output.metadata.get("image/png", {}).get("alt", "")
                assert len(alt) >= 30, f"no alternative text in:\n{cell.source}"


def test_functions_have_docstrings(notebook):
    """Each top-level function and class, and each public method, has a docstring."""
    for cell in code_cells(notebook[1]):
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert ast.get_docstring(node), node.name
            for method in getattr(node, "body", []) if isinstance(node, ast.ClassDef) else []:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    assert ast.get_docstring(method), f"{node.name}.{method.name}"


def test_axes_are_labeled(notebook):
    """A cell that draws curves, bars or points names both axes; a heat map or a diagram without axes has none."""
    drawing = re.compile(r"\.(plot|bar|barh|scatter|hist|semilogx|semilogy|loglog|errorbar|fill_between)\(")
    for cell in code_cells(notebook[1], shared=False):
        code = "\n".join(line for line in cell.source.splitlines() if not line.lstrip().startswith("#"))
        if drawing.search(code) and "save_figure" in code and "blank_axes(" not in code:
            assert re.search(r"xlabel|label_outer|supxlabel", code), f"no label on x:\n{code}"
            assert re.search(r"ylabel|supylabel", code), f"no label on y:\n{code}"


def test_claims_close_the_notebook(notebook):
    """The claims are verified, and that cell's output is compared on every run."""
    cells = code_cells(notebook[1])
    verifying = [cell for cell in cells if "claims.verify()" in cell.source]
    assert len(verifying) == 1
    assert "nbval-ignore-output" not in verifying[0].metadata.get("tags", [])


def test_links_to_local_files_resolve(notebook):
    """A relative link leads to a file of this repository."""
    path, nb = notebook
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)\s#]+)", cell.source):
                assert (path.parent / target).exists(), target
