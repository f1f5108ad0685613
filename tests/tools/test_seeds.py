"""`tools seeds` runs a notebook with other seeds and names the claims that fail."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools import seeds

CELL = """
from IPython.display import display
def claim(statement, value, limit):
    verdict = "holds" if value >= limit else "FAILS"
    facts = {"mean": float(value), "limit": float(limit), "bound": f"at least {limit}"}
    display({"text/plain": f"{verdict}: {statement}"}, raw=True, metadata={"claim": facts})
claim("varies", SEED, 101)
claim("often fails", SEED, 102)
claim("never varies", 5, 1)
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Return a notebook whose claims depend on its seed; `tools seeds` finds no other."""
    cells = [new_code_cell('BUDGET = "laptop"\nSEED = 0', metadata={"tags": ["parameters"]}), new_code_cell(CELL)]
    nbformat.write(new_notebook(cells=cells), tmp_path / "01_good.ipynb")
    monkeypatch.setattr(seeds, "find_notebooks", lambda prefixes: [tmp_path / "01_good.ipynb"])
    return tmp_path / "01_good.ipynb"


def test_each_claim_is_counted_over_the_seeds(path, monkeypatch, capsys):
    """Three seeds, 101 to 103: one claim fails once, one never; what no seed changes is not listed."""
    monkeypatch.setattr("sys.argv", ["seeds", "--seeds", "3", "01"])
    assert seeds.main() == 1
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "0 102 ± 1 at least 101 1.0 varies" in lines
    assert "1 102 ± 1 at least 102 0.0 often fails" in lines
    assert not any("never varies" in line for line in lines)


def test_a_cell_that_breaks_is_named(path, monkeypatch, capsys):
    """An error that is no failed claim is printed with its seed."""
    nb = nbformat.read(path, as_version=4)
    nb.cells.append(new_code_cell("if SEED == 102: raise ValueError('broken on purpose')"))
    nbformat.write(nb, path)
    monkeypatch.setattr("sys.argv", ["seeds", "--seeds", "2", "01"])
    assert seeds.main() == 1
    assert "seed 102: ValueError: broken on purpose" in capsys.readouterr().out
