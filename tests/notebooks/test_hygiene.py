"""What every notebook owes its readers, checked on the committed files."""

import ast
import re
from statistics import median, quantiles

import nbformat
import pytest

from tools.course import NOTEBOOKS, ROOT, repository

MAX_CELL_LINES = 40  # not blank
MAX_FILE_KB = 2500
FORBIDDEN = ("/root/", "/home/", "/tmp/", "C:\\Users")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    """Return (path, notebook) of each notebook in turn."""
    return request.param, nbformat.read(request.param, as_version=4)


def code_cells(nb, folded=True):
    """Return the code cells of `nb`, without those that are folded under a title if `folded` is False."""
    return [c for c in nb.cells if c.cell_type == "code" and (folded or not c.source.startswith("# @title "))]


def test_executed_in_order_and_without_errors(notebook):
    """Every code cell is executed, from the first to the last, and none ends in an error or on stderr."""
    cells = code_cells(notebook[1])
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert not any(o.output_type == "error" or o.get("name") == "stderr" for o in cell.outputs), cell.source


def test_cells_are_small_and_not_empty(notebook):
    """No cell is empty, none has more than 40 lines that are not blank, prose comes at least every fourth cell."""
    run, too_long = 0, []
    for cell in notebook[1].cells:
        assert cell.source.strip(), "an empty cell"
        folded = cell.source.startswith("# @title ")
        run = 0 if cell.cell_type == "markdown" else run + (not folded)
        assert run <= 3, f"more than three code cells without prose:\n{cell.source}"
        lines = [line for line in cell.source.splitlines() if line.strip()]
        if cell.cell_type == "code" and not folded and len(lines) > MAX_CELL_LINES:
            too_long.append(lines[0])
    assert too_long == []


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
    address = f"colab.research.google.com/github/{repository()}/blob/main/{path.relative_to(ROOT).as_posix()})"
    assert address in first
    for word in ("**Question**", "**You will**", "**Before**", "**Minutes**"):
        assert word in first
    objectives = re.findall(r"^ *[-*] ", first, re.MULTILINE)
    assert 3 <= len(objectives) <= 5


def test_lines_fit_into_colab(notebook):
    """No line of code is longer than 88 characters, packed questions aside, and ruff formats all of it."""
    for cell in code_cells(notebook[1]):
        for line in cell.source.splitlines():
            assert len(line) <= 88 or "noqa: E501" in line, line
        assert "fmt: skip" not in cell.source and "fmt: off" not in cell.source


def test_imports_stand_in_one_cell(notebook):
    """Beside the folded cells one cell imports, and it comes before the subject."""
    importing = [
        number
        for number, cell in enumerate(code_cells(notebook[1], folded=False))
        if any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(cell.source).body)
    ]
    assert importing in ([], [1]), f"cells {importing} of those that are not folded"  # cell 0 has the parameters


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
    for cell in code_cells(notebook[1]):
        code = "\n".join(line for line in cell.source.splitlines() if not line.lstrip().startswith("#"))
        if drawing.search(code) and "save_figure" in code and "blank_axes(" not in code:
            assert re.search(r"xlabel|label_outer|supxlabel", code), f"no label on x:\n{code}"
            assert re.search(r"ylabel|supylabel", code), f"no label on y:\n{code}"


def claims_in(cell):
    """Return the calls of claim() in a code cell."""
    calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "claim"]


def test_claims_are_compared_and_checked_at_the_end(notebook):
    """Verdicts stand in cells whose output is compared; the last code cell is check_claims(), and compared, too."""
    cells = code_cells(notebook[1])
    for cell in cells:
        if claims_in(cell):
            assert "nbval-ignore-output" not in cell.metadata.get("tags", []), cell.source
    (checking,) = [cell for cell in cells if cell.source.strip() == "check_claims()"]
    assert "nbval-ignore-output" not in checking.metadata.get("tags", [])
    assert not any(claims_in(cell) for cell in cells[cells.index(checking) :]), "a claim after the check"


def test_every_claim_holds_in_the_stored_run(notebook):
    """The stored outputs have a verdict for each claim, and it is `holds`; statements are plain text."""
    claims = [
        output for cell in code_cells(notebook[1]) for output in cell.outputs if "claim" in output.get("metadata", {})
    ]
    assert claims
    for output in claims:
        assert output.data["text/plain"].startswith("holds: "), output.data["text/plain"]
        assert "<" not in output.data["text/plain"]


EXPERIMENTS = [path for path in NOTEBOOKS if path.name[0].isdigit()]
LECTURES = [path for path in NOTEBOOKS if path.name.startswith("lecture_")]


@pytest.mark.parametrize("path", EXPERIMENTS + LECTURES, ids=lambda p: p.stem)
def test_a_lesson_has_small_cells_and_prose(path):
    """Median code cell at most 8 lines, nine of ten at most 20, none over 30; 1.1 prose cells per code cell.

    Lectures derive on paper and compute in few cells: median at most 11, nine of ten at most 22.
    """
    nb = nbformat.read(path, as_version=4)
    sizes = [len([line for line in c.source.splitlines() if line.strip()]) for c in code_cells(nb, folded=False)]
    assert median(sizes) <= (8 if path in EXPERIMENTS else 11)
    assert quantiles(sizes, n=10)[-1] <= (20 if path in EXPERIMENTS else 22)
    assert max(sizes) <= 30
    assert sum(cell.cell_type == "markdown" for cell in nb.cells) >= 1.1 * len(sizes)


@pytest.mark.parametrize("path", EXPERIMENTS + LECTURES, ids=lambda p: p.stem)
def test_a_lesson_lets_the_reader_write_code(path):
    """At least four exercises, in a lecture two; each stub gets `not yet`, and the folded solution after it `right`."""
    cells = nbformat.read(path, as_version=4).cells
    exercises = [i for i, cell in enumerate(cells) if "exercise" in cell.metadata.get("tags", [])]
    assert len(exercises) >= (4 if path in EXPERIMENTS else 2)
    for i in exercises:
        text = "".join(output.get("text", "") for output in cells[i].outputs)
        assert text.startswith("not yet: "), text
        solution = cells[i + 1]
        assert "solution" in solution.metadata.tags and solution.source.startswith("# @title Solution")
        assert "right: " in "".join(output.get("text", "") for output in solution.outputs)


def test_links_to_local_files_resolve(notebook):
    """A relative link leads to a file of this repository."""
    path, nb = notebook
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)\s#]+)", cell.source):
                assert (path.parent / target).exists(), target
