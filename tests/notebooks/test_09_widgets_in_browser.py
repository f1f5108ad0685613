"""The playground of notebook 09, clicked in a real JupyterLab by a real browser."""

import browser
import pytest
from browser import wait_until

from tools.course import ROOT

missing = browser.find_browser() is None
pytestmark = pytest.mark.skipif(missing, reason=browser.NONE_FOUND)
PAGE = """
import sys
sys.path.insert(0, {root!r})
from tools.definitions import load_definitions
from IPython.display import display
nb = load_definitions("09", root=".")
grammar = nb.split_corpus(nb.draw_corpus(500, 0), "grammar", 1, 0)
nb.keras.utils.set_random_seed(0)
lms = {{}}
for name, reverse in (("forward", False), ("reverse", True)):
    model = nb.fast_model(len(grammar.words), nb.Plan(units=8), 1, reverse)
    lms[name] = nb.LanguageModel(model, grammar.vectorize, reverse)
playground = nb.Playground(lms, "i love")
display(playground.widget)
"""


@pytest.fixture
def lab(tmp_path):
    """Start JupyterLab with one notebook that shows the playground; return its address."""
    with browser.running_lab(tmp_path, {"play.ipynb": PAGE.format(root=str(ROOT))}) as address:
        yield address


def open_and_run(page, address):
    """Open the notebook in a browser's `page`, run its cells, return the text field."""
    browser.run_all_cells(page, address, "play.ipynb")
    text = page.locator(".jp-OutputArea textarea").first
    text.wait_for(timeout=120_000)
    return text


@pytest.fixture
def page():
    """Return a page of a browser."""
    with browser.running_browser() as running:
        yield running.new_page(viewport={"width": 1300, "height": 1000})


def test_click_through_the_playground(lab, page):
    """Predict, a click on a word, Write on (to either side) and Start over work."""
    text = open_and_run(page, lab)

    def words():
        return text.input_value().split()

    def press(name):
        page.get_by_role("button", name=name, exact=True).click()

    rows = page.locator(".widget-vbox .widget-vbox .widget-button")
    press("Predict")
    wait_until(lambda: rows.count() == 10, 60, "ten words")
    chosen = next(word for word in rows.all_inner_texts() if word != "<s>")
    rows.get_by_text(chosen, exact=True).first.click()
    wait_until(lambda: words() == ["i", "love", chosen], 60, "the word clicked")
    press("Write on")
    wait_until(lambda: len(words()) == 10, 60, "seven more words")
    page.locator(".jp-OutputArea select").select_option("reverse")
    before = words()
    press("Write on")
    wait_until(lambda: len(words()) == 17, 60, "seven words on the left")
    assert words()[7:] == before
    press("Start over")
    wait_until(lambda: words() == [] and rows.count() == 0, 60, "an empty text")
    text.fill("<b>xyzzy</b>")
    text.press("Tab")
    press("Predict")
    messages = page.locator(".jp-OutputArea .widget-html")
    message = messages.filter(has_text="Unknown words")
    message.wait_for(timeout=60_000)
    assert "xyzzy" in message.inner_text()
