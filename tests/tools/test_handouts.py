"""Hand-outs have no solution in them and run from top to bottom."""

import nbformat
import pytest
from nbclient import NotebookClient

from tools.course import NOTEBOOKS
from tools.handouts import hand_out

LESSONS = [
    path
    for path in NOTEBOOKS
    if any("solution" in cell.metadata.get("tags", []) for cell in nbformat.read(path, as_version=4).cells)
]


def test_there_are_lessons_with_solutions():
    """The three XOR and regression lessons have exercises."""
    assert {path.name[:2] for path in LESSONS} >= {"01", "02", "03"}


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_hand_out_runs_and_shows_no_solution(path, tmp_path):
    """No solution, no output; all cells run, and every exercise says `not yet`."""
    nb = nbformat.read(path, as_version=4)
    solutions = [cell.source for cell in nb.cells if "solution" in cell.metadata.get("tags", [])]
    nb = hand_out(nb)
    text = nbformat.writes(nb)
    assert solutions and not any(source in [cell.source for cell in nb.cells] for source in solutions)
    assert '"output_type"' not in text
    NotebookClient(nb, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    exercises = [cell for cell in nb.cells if "exercise" in cell.metadata.get("tags", [])]
    for cell in exercises:
        assert "".join(output.get("text", "") for output in cell.outputs).startswith("not yet: ")
