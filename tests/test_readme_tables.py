"""The tables in the README are those that the notebooks and the reference measurements give."""

import json

import pytest
import readme_tables
from notebook_loader import NOTEBOOKS, ROOT

REFERENCE = ROOT / "logs" / "reference"


def test_the_readme_is_not_stale():
    """Renew it with `make results`."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme_tables.with_tables(readme) == readme


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*.json")), ids=lambda path: path.stem)
def test_reference_measurements_hold(path):
    """A reference is a run of an existing notebook on real data in which every claim holds."""
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["notebook"] in {notebook.stem for notebook in NOTEBOOKS}
    assert {row["verdict"] for row in record["claims"]} == {"holds"}
    assert any(row["headline"] for row in record["claims"])


def test_a_changed_measurement_changes_the_table(tmp_path):
    """A new value in a reference changes the table of results."""
    row = {"claim": "c", "measured": "0.50", "limit": "≥ 0.40"}
    record = {"notebook": "06_x", "budget": "laptop", "claims": [row | {"headline": True}]}
    (tmp_path / "06_x.json").write_text(json.dumps(record))
    first = readme_tables.table_of_results(tmp_path)
    assert "| 06 | c | 0.50 | ≥ 0.40 |  |" in first
    record["claims"][0]["measured"] = "0.60"
    (tmp_path / "06_x.json").write_text(json.dumps(record))
    assert readme_tables.table_of_results(tmp_path) == first.replace("0.50", "0.60")


def test_both_budgets_stand_in_one_row(tmp_path):
    """A claim of both budgets has one row; a claim of one budget leaves the other's cell empty."""
    row = {"claim": "c", "measured": "0.50", "limit": "≥ 0.40", "headline": True}
    record = {"notebook": "06_x", "budget": "laptop", "claims": [row]}
    (tmp_path / "06_x.json").write_text(json.dumps(record))
    rows = [row | {"measured": "0.70"}, row | {"claim": "d"}]
    record = {"notebook": "06_x", "budget": "full", "claims": rows}
    (tmp_path / "06_x.full.json").write_text(json.dumps(record))
    lines = readme_tables.table_of_results(tmp_path).splitlines()
    assert lines[2:] == ["| 06 | c | 0.50 | ≥ 0.40 | 0.70 |", "| 06 | d |  |  | 0.50, ≥ 0.40 |"]


def test_filling_replaces_only_what_is_between_the_marks():
    """Text around the marks stays, filling twice changes nothing more, and a README without marks is refused."""
    readme = "a\n<!-- t: begin -->\nold\n<!-- t: end -->\nb\n"
    filled = readme_tables.fill(readme, "t", "new")
    assert filled == readme.replace("old", "new")
    assert readme_tables.fill(filled, "t", "new") == filled
    with pytest.raises(ValueError, match="README"):
        readme_tables.fill("no marks", "t", "new")


def test_only_good_runs_on_real_data_are_taken_over(tmp_path):
    """A run on the stand-in, or with a failed claim, never becomes a reference."""
    for name, data, verdict in [
        ("01_a", "MNIST", "holds"),
        ("02_b", "stand-in digits", "holds"),
        ("03_c", "MNIST", "FAILS"),
    ]:
        (tmp_path / "logs" / name).mkdir(parents=True)
        record = {"notebook": name, "data": data, "budget": "laptop", "claims": [{"verdict": verdict}]}
        (tmp_path / "logs" / name / "claims.json").write_text(json.dumps(record))
    (tmp_path / "reference").mkdir()
    readme_tables.take_over(tmp_path / "logs", tmp_path / "reference")
    assert [path.name for path in (tmp_path / "reference").iterdir()] == ["01_a.json"]
