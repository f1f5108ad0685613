"""The speed benchmarks fit the notebooks that they measure, and their records say what was measured."""

import ast
import json

import pytest

from tools import benchmarks
from tools.course import ROOT
from tools.definitions import definitions_of_notebook
from tools.tables import ACCURACY, BENCHMARKS, sentence_on_accuracy, table_of_speed

NAMES = sorted(path.stem for path in benchmarks.FOLDER.glob("*.py"))


def test_all_benchmarks_are_in_the_table():
    """A new file in benchmarks/ needs its line in the table; one measures an accuracy and has a sentence."""
    assert set(NAMES) == {*BENCHMARKS, ACCURACY}


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_uses_what_its_notebook_has(name):
    """Each nb.x is defined in the notebook, so that a renamed function is noticed before the next measurement."""
    source = (benchmarks.FOLDER / f"{name}.py").read_text(encoding="utf-8")
    _, tree = definitions_of_notebook(benchmarks.notebook_of(source))
    defined = set().union(*(benchmarks.bound_by(node) for node in tree.body))
    assert benchmarks.names_in_use(source) <= defined


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_record_says_what_was_measured(name):
    """Ratio, processor and versions; and the table marks a record of older code as such."""
    path = ROOT / "results" / "benchmarks" / f"{name}.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    (row,) = [
        line for line in table_of_speed(path.parent).splitlines() if line.startswith(f"| {BENCHMARKS[path.stem][0]}")
    ]
    assert record["benchmark"] == path.stem and record["ratio"] > 0
    if benchmarks.is_current(record):
        assert record["processor"] and record["versions"]["numpy"] and "older code" not in row
    else:
        assert "measured on older code" in row


def test_the_accuracy_is_a_mean_over_seeds_and_marked_when_the_code_is_older(tmp_path):
    """The stored record is current or marked; a record of other code is marked; without one there is no sentence."""
    stored = json.loads((ROOT / "results" / "benchmarks" / f"{ACCURACY}.json").read_text(encoding="utf-8"))
    sentence = sentence_on_accuracy(ROOT / "results" / "benchmarks")
    assert f"(n = {stored['test']['seeds']})" in sentence and stored["test"]["seeds"] >= 10
    assert stored["test"]["accuracy_mean"] - 2 * stored["test"]["standard_error"] >= 0.995  # as notebook 06 says
    assert ("older code" in sentence) is not benchmarks.is_current(stored)
    assert sentence_on_accuracy(tmp_path) == ""
    (tmp_path / f"{ACCURACY}.json").write_text(json.dumps(stored | {"code_sha256": "of older code"}))
    assert "(measured on older code)" in sentence_on_accuracy(tmp_path)


def test_what_is_needed_is_followed_through_others():
    """f needs g, and g needs A; h and B do not count."""
    source = "import math\nA = 1\nB = 2\ndef g():\n    return A\ndef f():\n    return g()\ndef h():\n    return B"
    found = [ast.unparse(node).splitlines()[0] for node in benchmarks.needed(ast.parse(source), {"f"})]
    assert found == ["A = 1", "def g():", "def f():"]


def test_the_hash_follows_the_code(tmp_path, monkeypatch):
    """Another text of the benchmark gives another hash; a record without one is never current."""
    monkeypatch.setattr(benchmarks, "FOLDER", tmp_path)
    for text in ("x = 1", "x = 2"):
        (tmp_path / "a.py").write_text(f'{text}\nnb = load_definitions("01")\n')
        record = {"benchmark": "a", "code_sha256": benchmarks.hash_of("a")}
        assert benchmarks.is_current(record)
    (tmp_path / "a.py").write_text('x = 3\nnb = load_definitions("01")\n')
    assert not benchmarks.is_current(record) and not benchmarks.is_current({"benchmark": "a"})


def test_the_hash_follows_what_is_imported(tmp_path, monkeypatch):
    """A benchmark that takes a function from another one is of older code when the other changes."""
    monkeypatch.setattr(benchmarks, "FOLDER", tmp_path)
    (tmp_path / "a.py").write_text('import math\nfrom b import f\nnb = load_definitions("01")\n')
    (tmp_path / "b.py").write_text("def f(): return 1\n")
    before = benchmarks.hash_of("a")
    (tmp_path / "b.py").write_text("def f(): return 2\n")
    assert benchmarks.hash_of("a") != before
