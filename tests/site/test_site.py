"""What Sphinx is given: links that lead to pages, widgets as figures, and the map of the course."""

import re
from xml.etree import ElementTree

import nbformat
import pytest

from tools import site
from tools.course import NOTEBOOKS, ROOT, repository
from tools.course_map import card_of, columns_of, direct, map_as_svg, wrapped
from tools.stills import VIEW

LECTURE = "notebooks/guidebook/lecture_1_artificial_neurons.ipynb"


@pytest.mark.parametrize(
    ("link", "place", "target"),
    [
        ("02_xor.ipynb", "notebooks/01_linear.ipynb", "../notebooks/02_xor.html"),
        ("../02_xor.ipynb#5.-Your-turn", LECTURE, "../../notebooks/02_xor.html#your-turn"),
        ("../../README.md#the-notebooks", LECTURE, "../../index.html#the-notebooks"),
        ("glossary.md#bert", LECTURE, "../../notebooks/guidebook/glossary.html#bert"),
        ("#Quiz", LECTURE, "#quiz"),
        ("https://example.org/a.ipynb", LECTURE, "https://example.org/a.ipynb"),
        ("notebooks/02_xor.ipynb", "README.md", "notebooks/02_xor.html"),
        ("../tools/run.py", "notebooks/01_linear.ipynb", f"https://github.com/{repository()}/blob/main/tools/run.py"),
    ],
)
def test_a_link_leads_to_a_page_or_to_the_repository(link, place, target):
    """Files with a page are reached there, all others at the repository's address."""
    assert site.link_target(link, place) == target


def test_a_badge_becomes_a_line_of_links():
    """Colab, the notebook, the hand-out, the source; no picture of another host stays."""
    path = next(path for path in NOTEBOOKS if path.stem == "02_xor")
    page = site.as_page(nbformat.read(path, as_version=4), path)
    first = page.cells[0].source
    assert "![" not in first
    assert "Open in Colab" in first and "../_downloads/handouts/02_xor.ipynb" in first


def widget_page(name, data):
    """Return the outputs on the page of a notebook called `name` with a widget whose output has `data`, too."""
    output = nbformat.v4.new_output("display_data", data={VIEW: {"model_id": "1"}, "text/plain": "Box()", **data})
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("show()", outputs=[output])])
    return site.as_page(nb, ROOT / "notebooks" / name).cells[0].outputs


def test_a_widget_is_a_live_figure_a_still_or_nothing():
    """Three notebooks have a figure that works on the page; a still is shown elsewhere; never the name of an object."""
    assert 'data-live="xor"' in widget_page("02_xor.ipynb", {})[0].data["text/html"]
    (still,) = widget_page("07_cnn_vs_mlp.ipynb", {"image/png": "iVBORw0KGgo="})
    assert set(still.data) == {"image/png"}
    assert widget_page("07_cnn_vs_mlp.ipynb", {}) == []


def test_a_folded_cell_shows_its_title():
    """The title of `# @title` is what a reader clicks, and no part of the code."""
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("# @title Check: one\nx = 1")])
    cell = site.as_page(nb, ROOT / "notebooks" / "02_xor.ipynb").cells[0]
    assert (cell.source, cell.metadata["mystnb"]["code_prompt_show"]) == ("x = 1", "Check: one")


def test_the_landing_page_has_no_gap():
    """Map, tables and results stand in it, and the one address of pyproject.toml."""
    text = site.landing_page()
    assert "REPOSITORY" not in text and "<!--" not in text
    assert text.count("Colab](https://colab") == len(NOTEBOOKS)


# ---- the map ----


def test_columns_follow_what_comes_before():
    """A notebook stands one column to the right of the last one that it needs."""
    assert columns_of({"c": ["a", "b"], "b": ["a"], "a": []}) == {"a": 0, "b": 1, "c": 2}


def test_an_arrow_that_follows_from_others_is_left_out():
    """a before b before c: no arrow from a to c."""
    assert direct({"a": [], "b": ["a"], "c": ["a", "b"]}) == {"a": [], "b": ["a"], "c": ["b"]}


def test_titles_fit_their_boxes():
    """A title takes two lines; what is cut off is marked."""
    assert wrapped("A short title") == ["A short title"]
    lines = wrapped("A title that is much too long for two lines of a small box")
    assert len(lines) == 2 and lines[1].endswith("…")
    for path in NOTEBOOKS:
        assert all(len(line) <= 26 for line in wrapped(card_of(path)[0]))


def test_the_map_has_every_notebook_and_lecture_once():
    """A well-formed picture with a link to each page, and arrows."""
    page = map_as_svg(NOTEBOOKS)
    ElementTree.fromstring(page)
    targets = re.findall(r'href="([^"]+)"', page)
    stems = {path.stem for path in NOTEBOOKS if re.match(r"\d\d_|lecture_", path.stem)}
    assert sorted(re.sub(r".*/|\.html", "", target) for target in targets) == sorted(stems)
    assert page.count("marker-end") >= 10
