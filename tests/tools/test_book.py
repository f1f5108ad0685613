"""The single document and the pages of `make run` are whole and ask no other host."""

import re

import nbformat
import pytest

from tools import book, page
from tools.course import ROOT, repository
from tools.questions import FOLDER

BADGE = "[![Open In Colab](https://colab.research.google.com/badge.svg)](https://colab.research.google.com/x)"


def code(source, *outputs, tags=()):
    """Return a code cell with `source`, `outputs` and `tags`."""
    metadata = {"tags": list(tags)}
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), metadata=metadata)


def shown(data, **metadata):
    """Return the output of a cell that displays `data`, from MIME type to content."""
    return nbformat.v4.new_output("display_data", data=data, metadata=metadata)


def make(folder, *cells, markdown=""):
    """Return the document of the notebook "one" with `cells` and of the page "two"."""
    title = nbformat.v4.new_markdown_cell("# One")
    nbformat.write(nbformat.v4.new_notebook(cells=[title, *cells]), folder / "one.ipynb")
    (folder / "two.md").write_text(f"# Two\n\n{markdown}", encoding="utf-8")
    return book.make_page(folder, ["one", "two"], "someone/fork")


# ---- the document of the course ----


@pytest.fixture(scope="module")
def document():
    """Return the single document as text."""
    return book.make_page()


def test_document_asks_nobody_else(document):
    """No script, style, font or picture names a host, and the policy forbids it."""
    assert 'http-equiv="Content-Security-Policy"' in document
    assert "default-src 'none'" in document
    tags = "script|img|iframe|link|source|audio|video|embed|object"
    patterns = (
        rf"<(?:{tags})\b[^>]*?(?:src|href|data)=[\"']?(?!data:)(\w+:)?//",
        r"@import",
        r"url\(\s*[\"']?https?:",
        r"\.src\s*=\s*['\"]https?:",
        r"fetch\(['\"]http",
    )
    for pattern in patterns:
        assert not re.search(pattern, document), pattern


def test_document_links_resolve(document):
    """Links within the document have targets; others name files of the repository."""
    ids = set(re.findall(r'\bid="([^"]+)"', document))
    text = re.sub(r"<script>.*?</script>", "", document, flags=re.DOTALL)
    links = re.findall(r'<a\b[^>]*?href="([^"]+)"', text)
    inside = [link[1:] for link in links if link.startswith("#")]
    assert len(inside) > 100
    assert [link for link in inside if link not in ids] == []
    assert [link for link in links if not re.match(r"#|https?://|mailto:", link)] == []
    home = f"https://github.com/{repository()}/blob/main/"
    files = [link.removeprefix(home) for link in links if link.startswith(home)]
    assert files
    assert [f for f in files if not (ROOT / f.partition("#")[0]).exists()] == []


def test_document_has_formulas_and_no_bare_ones(document):
    """Formulas are MathML; none is left as TeX between dollar signs."""
    assert document.count("<math") > 50
    tags = "script|style|pre|code|annotation"
    prose = re.sub(rf"<({tags})\b.*?</\1>", "", document, flags=re.DOTALL)
    assert not re.search(r"\$[^$\n]{1,80}\\[a-z]+", prose)


def test_document_has_every_notebook_of_the_guidebook(document):
    """No lecture and no page of the folder is left out."""
    stems = {path.stem for path in FOLDER.iterdir() if path.suffix in (".ipynb", ".md")}
    assert set(re.findall(r'<article id="(\w+)">', document)) == stems


# ---- what becomes of a notebook ----


def test_hidden_cells_are_folded_under_their_titles(tmp_path):
    """A cell with the tag hide-input keeps its output; packed questions are cut."""
    packed = "x" * 400
    source = f'# @title Quiz: <one>\nQUIZ = "{packed}"'
    output = shown({"text/html": "<b>the quiz</b>"})
    text = make(tmp_path, code(source, output, tags=["hide-input"]))
    summary = '<details class="tool"><summary>Quiz: &lt;one&gt;</summary>'
    assert text.count(summary) == 1
    assert "# @title" not in text and packed not in text
    assert text.index(summary) < text.index("</details>", text.index(summary))
    assert text.index("<b>the quiz</b>") > text.index("</details>", text.index(summary))


def test_long_cells_are_folded_and_short_ones_open(tmp_path):
    """The fold says how long the code is."""
    long = "\n".join(f"a{i} = {i}" for i in range(book.FOLDED_FROM))
    text = make(tmp_path, code("short = 1"), code(long))
    assert text.count("<summary>Code (16 lines)</summary>") == 1
    assert text.index("short") < text.index("<summary>Code (16 lines)")


def test_parameters_and_the_end_of_the_claims_are_left_out(tmp_path):
    """Their outputs stay."""
    output = nbformat.v4.new_output("stream", text="No claim < failed.\n")
    cells = code("BUDGET = 1", tags=["parameters"]), code("check_claims()", output)
    text = make(tmp_path, *cells)
    assert "BUDGET" not in text and "check_claims" not in text
    assert "No claim &lt; failed." in text


def test_outputs_of_all_kinds(tmp_path):
    """Pictures keep their texts, widgets become a sentence, scripts name no host."""
    picture = shown({"image/png": "iVBORw0KGgo="}, **{"image/png": {"alt": "A < B"}})
    script = shown({"application/javascript": 'x.src = "https://cdn.js.org/</b>"'})
    plain = shown({"text/plain": "<object>"})
    widget = shown({page.VIEW: {"model_id": "1"}, "text/plain": "IntSlider()"})
    text = make(tmp_path, code("1", picture, script, plain, widget))
    assert '<img alt="A &lt; B" src="data:image/png;base64,iVBORw0KGgo=">' in text
    assert page.STATIC in text and "IntSlider" not in text
    assert "cdn.js.org" not in text
    assert "&lt;object&gt;" in text and "<object>" not in text


def test_links_lead_to_chapters_and_else_to_the_repository(tmp_path):
    """The repository is the one that is asked for, whatever the folder is called."""
    links = "[a](one.ipynb#One) [b](../01_x.ipynb#2.-Part) [c](#Two) [d](https://e.org)"
    text = make(tmp_path, markdown=links)
    home = "https://github.com/someone/fork/blob/main/notebooks/"
    for target in ("#one-one", f"{home}01_x.ipynb#2.-Part", "#two-two"):
        assert f'<a href="{target}"' in text
    assert '<a href="https://e.org"' in text


def test_equal_headings_get_different_anchors(tmp_path):
    """So that the table of contents leads to each."""
    text = make(tmp_path, markdown="## Claims\n\n## Claims\n")
    for name in ("two-claims", "two-claims-2"):
        assert text.count(f'id="{name}"') == 1
        assert f'<li><a href="#{name}">Claims</a></li>' in text


def test_a_missing_chapter_is_named(tmp_path):
    """A document without one of its chapters is not made."""
    make(tmp_path)
    with pytest.raises(FileNotFoundError, match="three"):
        book.make_page(tmp_path, ["one", "three"])


def test_a_folder_that_cannot_be_written_ends_in_a_sentence(monkeypatch, capsys):
    """The exit status says that there is no document."""

    def refuse(path, text):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(book, "make_page", lambda: "text")
    monkeypatch.setattr(book, "write_atomically", refuse)
    monkeypatch.setattr("sys.argv", ["book"])
    assert book.main() == 1
    assert "guidebook.html could not be written" in capsys.readouterr().out


# ---- pages of make run ----


def test_pages_of_make_run_need_no_other_host():
    """A page has no widget, no picture of another host, no packed questions.

    Pictures keep their alternative texts, and the notebook itself stays as it is.
    """
    picture = shown({"image/png": "iVBORw0KGgo="}, **{"image/png": {"alt": "A < B"}})
    widget = shown({page.VIEW: {"model_id": "1"}, "text/plain": "IntSlider()"})
    cell = code(f'QUIZ = "{"x" * 400}"', widget, picture)
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(BADGE), cell])
    state = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    nb.metadata["widgets"] = state
    text = page.as_html(nb, "title")
    assert "unpkg" not in text and "badge.svg" not in text and "Open In Colab" in text
    assert "x" * 400 not in text and page.STATIC in text and 'alt="A &lt; B"' in text
    assert nb.metadata["widgets"] == state
    assert page.VIEW in nb.cells[1].outputs[0].data
