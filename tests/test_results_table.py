"""The table of results in the README is the one that the reference measurements give."""

import json

import pytest
import results_table
from notebook_loader import NOTEBOOKS, ROOT

REFERENCE = ROOT / "logs" / "reference"


def test_the_readme_is_not_stale():
    """Renew it with `make results`."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert results_table.with_table(readme, REFERENCE) == readme


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*.json")), ids=lambda path: path.stem)
def test_reference_measurements_hold(path):
    """A reference is a run of an existing notebook on real data in which every claim holds."""
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["notebook"] in {notebook.stem for notebook in NOTEBOOKS}
    assert {row["verdict"] for row in record["claims"]} == {"holds"}
    assert any(row["headline"] for row in record["claims"])


def test_a_changed_measurement_makes_the_table_stale(tmp_path):
    """A new value in a reference changes the table, and a README without marks is refused."""
    row = {"claim": "c", "value": 0.5, "std": None, "n": 1, "relation": "≥", "bound": 0.4, "digits": 2}
    record = {"notebook": "06_x", "budget": "laptop", "claims": [row | {"headline": True}]}
    (tmp_path / "06_x.json").write_text(json.dumps(record))
    readme = f"a\n{results_table.BEGIN}\n{results_table.END}\nb\n"
    first = results_table.with_table(readme, tmp_path)
    assert "| 06 | c | 0.50 | ≥ 0.40 | laptop |" in first
    assert results_table.with_table(first, tmp_path) == first
    record["claims"][0]["value"] = 0.6
    (tmp_path / "06_x.json").write_text(json.dumps(record))
    assert results_table.with_table(first, tmp_path) != first
    with pytest.raises(ValueError, match="README"):
        results_table.with_table("no marks", tmp_path)
