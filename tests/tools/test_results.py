"""Committed measurements are those of the notebooks as they are; tables show what the records hold."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import results, tables
from tools.course import NOTEBOOKS, ROOT, code_hash

RECORDS = sorted((ROOT / "results").glob("*.json"))
ROW = {"claim": "c", "verdict": "holds", "measured": "0.50", "bound": "at least 0.4", "headline": True}
RECORD = {
    "notebook": "06_x",
    "budget": "laptop",
    "parameters": {},
    "data": "real",
    "seconds": 60.0,
    "processor": "P, 2 cores",
    "python": "3.11.7",
    "versions": {"numpy": "2.0"},
    "code_sha256": "0",
    "claims": [ROW],
}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_measurement_is_of_the_code_as_it_is(path):
    """A record holds a run on real data in which every claim held, with the code that the notebook has now."""
    record = json.loads(path.read_text(encoding="utf-8"))
    assert not results.obstacle(record)
    assert results.is_current(record), f"measure again: make save NOTEBOOK={record['notebook']}"
    assert record["seconds"] > 0 and record["processor"] and record["versions"]["numpy"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_has_its_record(path):
    """The record in results/ has exactly the claims that the stored outputs show."""
    record = json.loads((ROOT / "results" / f"{path.stem}.json").read_text(encoding="utf-8"))
    claims = results.claims_of(nbformat.read(path, as_version=4))
    assert [row["claim"] for row in record["claims"]] == [row["claim"] for row in claims]
    assert [row["measured"] for row in record["claims"]] == [row["measured"] for row in claims]


def test_the_hash_is_that_of_the_code_cells():
    """Prose, outputs, an injected cell and most of the set-up leave it; a change of code, claim or data does not."""
    nb = new_notebook(cells=[new_markdown_cell("prose"), new_code_cell("x = 1")])
    same = new_notebook(cells=[new_code_cell("x = 1", execution_count=3), new_markdown_cell("other prose")])
    same.cells.insert(0, new_code_cell("x = 2", metadata={"tags": ["injected-parameters"]}))
    same.cells.insert(0, new_code_cell("# @title Set-up: figures\nx = 3"))
    assert code_hash(nb) == code_hash(same)
    assert code_hash(nb) != code_hash(new_notebook(cells=[new_code_cell("x = 2")]))
    for name in ("claim", "load_mnist"):
        first, second = (
            new_notebook(cells=[new_code_cell(f"# @title Set-up: x\ndef {name}():\n    return {number}")])
            for number in (1, 2)
        )
        assert code_hash(first) != code_hash(second), "what it computes is measured"


def test_about_ten_results_stand_in_the_readme():
    """The README shows a selection: 8 to 14 rows; the page in results/ shows every claim."""
    rows = tables.table_of_results(ROOT / "results").splitlines()[2:]
    assert 8 <= len(rows) <= 14
    page = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    for path in RECORDS:
        for row in json.loads(path.read_text(encoding="utf-8"))["claims"]:
            assert f"| {row['claim']} | {row['measured']} | {row['bound']} |" in page


def test_tables_show_what_the_records_hold(tmp_path):
    """The README has headlines of the laptop budget alone; the page has everything, with processor and versions."""
    results.store(RECORD, tmp_path / "06_x.json")
    minor = ROW | {"claim": "d", "headline": False}
    results.store(
        RECORD | {"budget": "full", "claims": [ROW | {"measured": "0.70"}, minor]}, tmp_path / "06_x.full.json"
    )
    assert tables.table_of_results(tmp_path).splitlines()[2:] == ["| 06 | c | 0.50 | at least 0.4 |"]
    page = tables.results_page(tmp_path)
    assert "## 06_x, budget full" in page and "| c | 0.70 | at least 0.4 |" in page and "| d | 0.50 |" in page
    assert "60 seconds on P, 2 cores; Python 3.11.7, numpy 2.0." in page


def test_only_current_runs_on_real_data_are_taken_over(tmp_path, monkeypatch, capsys):
    """A run on the stand-in, with a failed claim, with another seed, or of older code never becomes a measurement."""
    changes = {
        "01_a": {},
        "02_b": {"data": "stand-in"},
        "03_c": {"claims": [ROW | {"verdict": "FAILS"}]},
        "04_d": {"parameters": {"SEED": 3}},
        "05_e": {"code_sha256": "older"},
    }
    monkeypatch.setattr(results, "is_current", lambda record: record["code_sha256"] == "0")
    for name, change in changes.items():
        results.store(RECORD | {"notebook": name} | change, tmp_path / "logs" / name / "record.json")
    results.take_over(tmp_path / "logs", tmp_path / "results")
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["01_a.json"]
    assert capsys.readouterr().out.count("not taken over") == 4


def test_filling_replaces_only_what_is_between_the_marks():
    """Text around the marks stays, filling twice changes nothing more, and a README without marks is refused."""
    readme = "a\n<!-- t: begin -->\nold\n<!-- t: end -->\nb\n"
    filled = tables.fill(readme, "t", "new")
    assert filled == readme.replace("old", "new")
    assert tables.fill(filled, "t", "new") == filled
    with pytest.raises(ValueError, match="README"):
        tables.fill("no marks", "t", "new")
