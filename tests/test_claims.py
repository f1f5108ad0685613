"""The claims cell: verdicts, the record on disk, and failures that name themselves."""

import json
import math

import pytest
from notebook_loader import load_definitions


@pytest.fixture
def cell(tmp_path):
    """Return the definitions of the shared cells, writing below an empty folder."""
    return load_definitions("06", root=tmp_path)


def test_true_claims_pass_and_are_recorded(cell, tmp_path, capsys):
    """Claims that hold are written with their values, and verify() says so in one line."""
    claims = cell.Claims("nb", "laptop")
    claims.at_least("accuracy", [0.9, 1.0], 0.95)
    claims.at_most("loss", 0.1, 0.1)
    claims.equal("parameters", 7850, 7850)
    claims.table()
    claims.verify()
    assert capsys.readouterr().out == "No claim is out of its bound.\n"
    rows = json.loads((tmp_path / "logs/nb/claims.json").read_text())["claims"]
    assert [row["verdict"] for row in rows] == ["holds"] * 3
    assert rows[0]["value"] == pytest.approx(0.95)
    assert rows[0]["std"] == pytest.approx(0.0707, abs=1e-4)
    assert rows[0]["n"] == 2
    assert [row["measured"] for row in rows] == ["0.9500 ± 0.0707 (n = 2)", "0.1000", "7,850.0000"]


def test_tiny_numbers_stay_readable(cell):
    """A value that its decimals would not show is written with an exponent; zero stays zero."""
    assert [cell.Claims.number(value, 2) for value in (0.0, 1.234, 0.012, 3.2e-9, -3.2e-9)] == [
        "0.00", "1.23", "0.01", "3.2e-09", "-3.2e-09"
    ]  # fmt: skip


@pytest.mark.parametrize("value", [0.5, math.nan, -math.inf])
def test_false_claims_fail_by_name(cell, value):
    """A value out of its bound, not-a-number included, raises an error that names the claim."""
    claims = cell.Claims("nb", "laptop")
    claims.at_least("good claim", 1.0, 0.95)
    claims.at_least("bad claim", value, 0.95)
    with pytest.raises(AssertionError, match="bad claim") as error:
        claims.verify()
    assert "good claim" not in str(error.value)


def test_claims_on_real_data_are_not_tested_on_the_stand_in(cell):
    """Only the claims that need MNIST are set aside, and only without MNIST."""
    claims = cell.Claims("nb", "laptop", data="stand-in digits")
    claims.at_least("needs MNIST", 0.5, 0.95, needs_mnist=True)
    assert claims.rows[0]["verdict"] == "not tested"
    claims.at_least("needs nothing", 0.5, 0.95)
    with pytest.raises(AssertionError, match="needs nothing"):
        claims.verify()


def test_a_cell_run_twice_counts_once(cell):
    """Running a claim again replaces its row."""
    claims = cell.Claims("nb", "laptop")
    claims.at_least("accuracy", 0.5, 0.95)
    claims.at_least("accuracy", 0.97, 0.95)
    claims.verify()
    assert len(claims.rows) == 1


def test_unwritable_target_keeps_the_old_file(cell, tmp_path):
    """A write that breaks off leaves the older file whole and no temporary file behind."""
    path = tmp_path / "history.json"
    path.write_text("old")

    def broken(temporary):
        with open(temporary, "w") as file:
            file.write("ne")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        cell.write_atomically(path, broken)
    assert path.read_text() == "old"
    assert list(tmp_path.glob(".unfinished-*")) == []
