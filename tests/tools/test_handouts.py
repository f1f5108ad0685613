"""Hand-outs have no solution in them and run from top to bottom."""

import symtable

import nbformat
import pytest
from nbclient import NotebookClient

from tools.course import NOTEBOOKS
from tools.handouts import hand_out


def tags_of(cell):
    """Return the tags of a cell."""
    return cell.metadata.get("tags", [])


LESSONS = [
    path for path in NOTEBOOKS if any("solution" in tags_of(cell) for cell in nbformat.read(path, as_version=4).cells)
]


def names_in(source):
    """Return (global names that the Python text `source` makes, global names that it reads, also in functions)."""
    module = symtable.symtable(source, "cell", "exec")
    made = {symbol.get_name() for symbol in module.get_symbols() if symbol.is_assigned()}
    read = {symbol.get_name() for symbol in module.get_symbols() if symbol.is_referenced()}
    inner = module.get_children()
    while inner:
        scope = inner.pop()
        read |= {symbol.get_name() for symbol in scope.get_symbols() if symbol.is_global() and symbol.is_referenced()}
        inner += scope.get_children()
    return made, read


def borrowed(cells):
    """Return the names that only exercises and solutions among `cells` make, and that another cell reads."""
    own, theirs, read = set(), set(), set()
    for cell in cells:
        if cell.cell_type == "code":
            made, used = names_in(cell.source)
            if {"exercise", "solution"} & set(tags_of(cell)):
                theirs |= made
            else:
                own |= made
                read |= used
    return (theirs - own) & read


def test_every_experiment_has_solutions_and_every_lecture():
    """All nine notebooks and nine lectures let the reader write code."""
    stems = {path.stem for path in NOTEBOOKS if path.stem[0].isdigit() or path.stem.startswith("lecture_")}
    assert stems <= {path.stem for path in LESSONS}


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_nothing_depends_on_an_exercise(path):
    """No cell reads a name that only an exercise or a solution makes, so a hand-out runs as the notebook does."""
    assert borrowed(nbformat.read(path, as_version=4).cells) == set()


def test_the_check_above_can_fail():
    """A cell that calls the reader's function is found, also from within a function."""
    solution = nbformat.v4.new_code_cell("def f(x):\n    return x", metadata={"tags": ["solution"]})
    user = nbformat.v4.new_code_cell("def g():\n    y = f(1)\n    return y")
    assert borrowed([solution, user]) == {"f"}
    assert borrowed([nbformat.v4.new_code_cell("f = abs"), solution, user]) == set()


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_hand_out_shows_no_solution(path):
    """No solution and no output is left, and every exercise is."""
    nb = nbformat.read(path, as_version=4)
    solutions = [cell.source for cell in nb.cells if "solution" in tags_of(cell)]
    exercises = [cell.source for cell in nb.cells if "exercise" in tags_of(cell)]
    sheet = hand_out(nb)
    sources = [cell.source for cell in sheet.cells]
    assert not set(solutions) & set(sources) and set(exercises) <= set(sources)
    assert '"output_type"' not in nbformat.writes(sheet)


@pytest.mark.parametrize(
    "path", [path for path in LESSONS if path.stem[:2] in ("01", "02")], ids=lambda path: path.stem
)
def test_a_hand_out_runs(path, tmp_path):
    """The hand-outs of the two shortest notebooks run, and every exercise says `not yet`."""
    nb = hand_out(nbformat.read(path, as_version=4))
    NotebookClient(nb, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell in (cell for cell in nb.cells if "exercise" in tags_of(cell)):
        assert "".join(output.get("text", "") for output in cell.outputs).startswith("not yet: ")
