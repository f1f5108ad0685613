"""The playground of notebook 09, clicked in a real JupyterLab by a real browser."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import browser
import nbformat
import pytest

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


def free_port():
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(condition, seconds, what):
    """Wait until `condition()` is true; fail with `what` after so many `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.5)
    pytest.fail(f"waited {seconds} s for {what}")


@pytest.fixture
def lab(tmp_path):
    """Start JupyterLab with one notebook that shows the playground; return its address.

    The server stops at the end of the test. Its settings are not the user's.
    """
    cell = nbformat.v4.new_code_cell(PAGE.format(root=str(ROOT)))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nb = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})
    nbformat.write(nb, tmp_path / "play.ipynb")
    port = free_port()
    options = [
        f"--port={port}",
        "--no-browser",
        "--allow-root",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={tmp_path}",
        "--ServerApp.port_retries=0",
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=",
    ]
    environment = os.environ | {
        "HOME": str(tmp_path),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "jupyterlab", *options]
    with (tmp_path / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    status = f"{address}/api/status"
    try:
        wait_until(lambda: urllib.request.urlopen(status, timeout=5), 90, "JupyterLab")
        yield address
    finally:
        server.terminate()
        server.wait(20)


def kernel_is_ready(address):
    """Return whether a kernel of the server at `address` is idle and connected."""
    answer = urllib.request.urlopen(f"{address}/api/sessions", timeout=5)
    kernels = [session["kernel"] for session in json.load(answer)]
    return any(k["execution_state"] == "idle" and k["connections"] for k in kernels)


def open_and_run(page, address):
    """Open the notebook in a browser's `page`, run its cells, return the text field."""
    page.goto(f"{address}/lab/tree/play.ipynb")
    page.wait_for_selector(".jp-Notebook", timeout=90_000)
    wait_until(lambda: kernel_is_ready(address), 90, "an idle kernel")
    page.keyboard.press("Escape")
    page.click("text=Run >> nth=0")
    page.click("text=Run All Cells >> nth=0")
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
