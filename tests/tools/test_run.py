"""The runner behind `make run`: progress, verdicts, HTML copies, and a failure that does not stop the rest."""

import io
import json
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import page, results, run
from tools.course import code_hash

CLAIMS = """
from IPython.display import display
facts = {"mean": 1.0, "std": 0.0, "n": 1, "limit": 0.0, "bound": "at least 0", "measured": "1", "headline": True}
for verdict in ("holds: a", "holds: b", "not tested here: c"):
    display({"text/plain": verdict, "text/html": verdict}, raw=True, metadata={"claim": facts})
"""
PARAMETERS = """BUDGET = "laptop"
SEED = 0"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return a repository with a notebook that makes claims, one that fails, and one that works and makes none."""
    (tmp_path / "notebooks").mkdir()
    sources = {"01_good": CLAIMS, "02_bad": "raise ValueError('broken on purpose')", "03_plain": "print(BUDGET, SEED)"}
    for name, source in sources.items():
        cells = [new_markdown_cell("# Title\n\nA formula, $x^2$.")]
        cells += [new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), new_code_cell(source)]
        nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / f"{name}.ipynb")
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "NOTEBOOKS", sorted((tmp_path / "notebooks").glob("*.ipynb")))
    return tmp_path


def call(monkeypatch, *arguments):
    """Call the runner's main() with these command-line arguments and return its exit status."""
    monkeypatch.setattr("sys.argv", ["run", *arguments])
    return run.main()


def test_a_failure_does_not_stop_the_others(root, monkeypatch, capsys):
    """All three run, the table names each verdict, pages are written, and the exit status is 1."""
    assert call(monkeypatch) == 1
    output = capsys.readouterr().out
    assert re.search(r"01_good +\d+  2 claims hold, 1 not tested here", output)
    assert re.search(r"02_bad +\d+  FAILED  ValueError: broken on purpose", output)
    assert re.search(r"03_plain +\d+  ran, makes no claims", output)
    assert re.search(r"cell 6/6 .* 3 of 3 done", output)
    pages = root / "logs" / "html"
    assert {page.name for page in pages.iterdir()} == {"01_good.html", "02_bad.html", "03_plain.html"}
    assert "broken on purpose" in (pages / "02_bad.html").read_text(encoding="utf-8")


def test_two_run_at_once_and_the_long_one_first(root, monkeypatch, capsys):
    """Each of two notebooks waits for a file that the other writes: that ends only if they run at the same time."""
    wait = "import pathlib, time\npathlib.Path('{}').touch()\nwhile not pathlib.Path('{}').exists(): time.sleep(0.1)"
    for name, source in {"01_good": wait.format("a", "b"), "03_plain": wait.format("b", "a")}.items():
        path = root / "notebooks" / f"{name}.ipynb"
        nb = nbformat.read(path, as_version=4)
        nb.cells[-1].source = source
        nbformat.write(nb, path)
    assert call(monkeypatch, "-j", "2", "01", "03") == 0
    output = capsys.readouterr().out
    assert output.index("01_good  ") < output.index("03_plain  "), "the table keeps the order of the course"
    (root / "results").mkdir()
    (root / "results" / "02_bad.json").write_text('{"seconds": 7}')
    assert [run.seconds_of(path) for path in run.NOTEBOOKS[:2]] == [float("inf"), 7]


def test_one_notebook_by_its_number(root, monkeypatch, capsys):
    """A number runs that notebook alone, and success is exit status 0."""
    assert call(monkeypatch, "03") == 0
    assert "01_good" not in capsys.readouterr().out


def test_unknown_notebook_lists_the_known_ones(root, monkeypatch):
    """A number that fits nothing ends at once with a list of names."""
    with pytest.raises(SystemExit, match=r"No notebook starts with '07'(.|\n)*01_good(.|\n)*03_plain"):
        call(monkeypatch, "07")


def test_parameters_are_injected_after_the_tagged_cell(root, monkeypatch):
    """-p NAME VALUE sets a word or a number, and the file keeps its own values."""
    assert call(monkeypatch, "-p", "BUDGET", "full", "-p", "SEED", "7", "03") == 0
    assert "full 7" in (root / "logs" / "html" / "03_plain.html").read_text(encoding="utf-8")
    assert json.loads((root / "logs" / "03_plain" / "record.json").read_text())["budget"] == "full"


def test_an_unknown_parameter_is_named(root, monkeypatch, capsys):
    """A misspelled parameter is an error that lists the known ones."""
    assert call(monkeypatch, "-p", "BUGDET", "full", "03") == 1
    assert "no parameter BUGDET; there are BUDGET, SEED" in capsys.readouterr().out


def test_outputs_are_stored_only_on_demand_and_only_if_all_is_well(root, monkeypatch):
    """--save stores the outputs of a notebook that ran, and leaves one that failed, or was not tested, as it was."""
    before = {path: path.read_bytes() for path in (root / "notebooks").glob("*.ipynb")}
    call(monkeypatch)
    assert {path: path.read_bytes() for path in before} == before
    call(monkeypatch, "--save")
    good, bad, plain = sorted(before)
    assert bad.read_bytes() == before[bad] and good.read_bytes() == before[good]
    (output,) = json.loads(plain.read_text())["cells"][2]["outputs"]
    assert output["text"] == ["laptop 0\n"]


def test_saving_writes_the_record_with_the_hash_of_the_code(root, monkeypatch):
    """A run in which all claims hold leaves its measurements in results/; another budget has a file of its own."""
    path = root / "notebooks" / "01_good.ipynb"
    path.write_text(path.read_text().replace('\\"not tested here: c\\"', '\\"holds: c\\"'))
    assert call(monkeypatch, "--save", "01") == 0
    record = json.loads((root / "results" / "01_good.json").read_text())
    assert record["code_sha256"] == code_hash(nbformat.read(path, as_version=4))
    assert [row["claim"] for row in record["claims"]] == ["a", "b", "c"]
    assert record["versions"]["numpy"] and record["processor"] and record["python"]
    stored = path.read_bytes()
    assert call(monkeypatch, "--save", "-p", "BUDGET", "full", "01") == 0
    assert path.read_bytes() == stored
    full = json.loads((root / "results" / "01_good.full.json").read_text())
    assert full["budget"] == "full" and full["code_sha256"] == record["code_sha256"]


@pytest.mark.parametrize("what", ["disk", "signs"])
def test_the_table_of_verdicts_is_never_lost(root, monkeypatch, capsys, what):
    """Logs that cannot be written, or a terminal without a sign for the bar, leave the verdict where it is."""
    if what == "disk":
        (root / "logs").write_text("a file in the way")
    else:
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw := io.BytesIO(), encoding="ascii"))
    assert call(monkeypatch, "03") == 0
    if what == "disk":
        output = capsys.readouterr().out
        assert "03_plain: page and record could not be written" in output
    else:
        run.sys.stdout.flush()
        output = raw.getvalue().decode("ascii")
    assert re.search(r"03_plain +\d+  ran, makes no claims", output)


def test_pages_need_no_network_and_show_formulas():
    """Formulas become MathML, no script comes from another host, and folded answers stay folded."""
    text = "$a_1$ and\n\n$$\\frac{1}{2}\n= b$$\n\n<details><summary>Answer</summary>\n\nhidden\n\n</details>"
    html = page.as_html(new_notebook(cells=[new_markdown_cell(text)]), "title")
    assert html.count("<math") == 2 and "$" not in html.split("<body")[1].split("<details")[0].split("</script>")[-1]
    assert not re.search(r'<(script|link)[^>]*(src|href)="https?:', html)
    assert re.search(r"<summary>Answer</summary>\s*<p>hidden</p>\s*</details>", html)


def test_pages_fold_the_cells_that_are_tagged_so():
    """A cell tagged hide-input shows its title, and its code on demand; its output stays in view."""
    outputs = [new_output("stream", name="stdout", text="in view")]
    folded = new_code_cell("# @title Figure: A < B\nx = 1", metadata={"tags": ["hide-input"]}, outputs=outputs)
    html = page.as_html(new_notebook(cells=[folded, new_code_cell("y = 2")]), "title")
    assert html.count('<details class="folded">') == 1
    assert "<summary>Figure: A &lt; B</summary>" in html
    assert html.index("</details>") < html.index("in view")


def test_progress_bars_are_stored_in_their_last_state():
    """Pieces of text are joined, and what a carriage return overwrote is gone; other outputs stay."""
    pieces = [new_output("stream", name="stdout", text=text) for text in ("10%\r", "50%\r100%\n", "after\n")]
    pieces.insert(2, new_output("display_data", data={"text/plain": "figure"}))
    texts = [output.get("text", "figure") for output in run.as_on_a_terminal(pieces)]
    assert texts == ["100%\n", "figure", "after\n"]


def test_stand_in_data_and_other_seeds_are_not_published():
    """Only a run on real data with the notebook's own seed, in which all claims hold, may be published."""
    good = {"data": "real", "parameters": {}, "claims": [{"verdict": "holds", "claim": "c"}]}
    assert results.obstacle(good) == ""
    assert "data/" in results.obstacle(good | {"data": "stand-in"})
    assert "SEED" in results.obstacle(good | {"parameters": {"SEED": 3}})
    assert "c" in results.obstacle(good | {"claims": [{"verdict": "FAILS", "claim": "c"}]})
    assert "c" in results.obstacle(good | {"claims": [{"verdict": "not tested here", "claim": "c"}]})
