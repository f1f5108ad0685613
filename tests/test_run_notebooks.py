"""The runner behind `make run`: progress, verdicts, HTML copies, and a failure that does not stop the rest."""

import json
import re

import nbformat
import pytest
import run_notebooks
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

CLAIMS = """
import json, pathlib
folder = pathlib.Path("../logs/01_good")
folder.mkdir(parents=True, exist_ok=True)
rows = [{"verdict": "holds"}, {"verdict": "holds"}, {"verdict": "not tested"}]
(folder / "claims.json").write_text(json.dumps({"claims": rows}))
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return a repository with a notebook that works, one that fails, and one that works again."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(run_notebooks, "ROOT", tmp_path)
    sources = {"01_good": CLAIMS, "02_bad": "raise ValueError('broken on purpose')", "03_plain": "print('done')"}
    for name, source in sources.items():
        cells = [new_markdown_cell("# Title\n\nA formula, $x^2$."), new_code_cell(source)]
        nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / f"{name}.ipynb")
    return tmp_path


def run(monkeypatch, *arguments):
    """Call the runner's main() with these command-line arguments and return its exit status."""
    monkeypatch.setattr("sys.argv", ["run_notebooks.py", *arguments])
    return run_notebooks.main()


def test_a_failure_does_not_stop_the_others(root, monkeypatch, capsys):
    """All three run, the table names each verdict, pages are written, and the exit status is 1."""
    assert run(monkeypatch) == 1
    output = capsys.readouterr().out
    assert re.search(r"01_good +\d+  2 claims hold, 1 need real data", output)
    assert re.search(r"02_bad +\d+  FAILED  ValueError: broken on purpose", output)
    assert re.search(r"03_plain +\d+  ran, makes no claims", output)
    assert "[3/3] 03_plain: cell 1/1" in output
    pages = root / "logs" / "html"
    assert {page.name for page in pages.iterdir()} == {"01_good.html", "02_bad.html", "03_plain.html"}
    assert "broken on purpose" in (pages / "02_bad.html").read_text(encoding="utf-8")


def test_one_notebook_by_its_number(root, monkeypatch, capsys):
    """A number runs that notebook alone, and success is exit status 0."""
    assert run(monkeypatch, "03") == 0
    assert "01_good" not in capsys.readouterr().out


def test_unknown_notebook_lists_the_known_ones(root, monkeypatch):
    """A number that fits nothing ends at once with a list of names."""
    with pytest.raises(SystemExit, match=r"No notebook starts with '07'(.|\n)*01_good(.|\n)*03_plain"):
        run(monkeypatch, "07")


def test_outputs_are_stored_only_on_demand_and_only_if_all_is_well(root, monkeypatch):
    """--save stores the outputs of a notebook that ran, and leaves one that failed as it was."""
    before = {path: path.read_bytes() for path in (root / "notebooks").glob("*.ipynb")}
    run(monkeypatch)
    assert {path: path.read_bytes() for path in before} == before
    run(monkeypatch, "--save", "02", "03")
    bad, plain = root / "notebooks" / "02_bad.ipynb", root / "notebooks" / "03_plain.ipynb"
    assert bad.read_bytes() == before[bad]
    (output,) = json.loads(plain.read_text())["cells"][1]["outputs"]
    assert output["text"] == ["done\n"]


def test_old_claims_are_not_taken_for_new_ones(root, monkeypatch, capsys):
    """claims.json of an earlier run does not count for a run that wrote none."""
    folder = root / "logs" / "03_plain"
    folder.mkdir(parents=True)
    (folder / "claims.json").write_text(json.dumps({"claims": [{"verdict": "holds"}]}))
    assert run_notebooks.verdict(root / "notebooks" / "03_plain.ipynb", None, 4e9) == "ran, makes no claims"


def test_pages_need_no_network_and_show_formulas(root, monkeypatch):
    """Formulas become MathML, no script comes from another host, and folded answers stay folded."""
    text = "$a_1$ and\n\n$$\\frac{1}{2}\n= b$$\n\n<details><summary>Answer</summary>\n\nhidden\n\n</details>"
    page = run_notebooks.as_html(new_notebook(cells=[new_markdown_cell(text)]), "title")
    assert page.count("<math") == 2 and "$" not in page.split("<body")[1].split("<details")[0].split("</script>")[-1]
    assert not re.search(r'<(script|link)[^>]*(src|href)="https?:', page)
    assert re.search(r"<summary>Answer</summary>\s*<p>hidden</p>\s*</details>", page)


def test_progress_bars_are_stored_in_their_last_state():
    """Pieces of text are joined, and what a carriage return overwrote is gone; other outputs stay."""
    pieces = [new_output("stream", name="stdout", text=text) for text in ("10%\r", "50%\r100%\n", "after\n")]
    pieces.insert(2, new_output("display_data", data={"text/plain": "figure"}))
    texts = [output.get("text", "figure") for output in run_notebooks.as_on_a_terminal(pieces)]
    assert texts == ["100%\n", "figure", "after\n"]
