"""The playground of notebook 09, clicked in a real JupyterLab by a real browser."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

TESTS = Path(__file__).resolve().parent
PAGE = """
import sys
sys.path.insert(0, {tests!r})
from notebook_loader import load_definitions
from IPython.display import display
nb = load_definitions("09", root=".")
grammar = nb.split_corpus(nb.draw_corpus(500, 0), "grammar", 1, 0)
nb.keras.utils.set_random_seed(0)
speakers = {{}}
for name, reverse in (("forward", False), ("reverse", True)):
    model = nb.LanguageModel(len(grammar.vocabulary), 8, reverse=reverse)
    model.build()
    speakers[name] = (model, grammar.vocabulary)
playground = nb.Playground(speakers, "i love")
display(playground.widget)
"""


def find_browser():
    """Return the options with which Playwright starts a browser on this machine, or None."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if path := shutil.which(name):
            return {"executable_path": path}
    with contextlib.suppress(ImportError):
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            if Path(playwright.chromium.executable_path).exists():
                return {}
    return None


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
    """Start JupyterLab on a folder with one notebook that shows the playground; return its address."""
    cell = nbformat.v4.new_code_cell(PAGE.format(tests=str(TESTS)))
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), tmp_path / "play.ipynb")
    port = free_port()
    options = [f"--port={port}", "--no-browser", "--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path}"]
    options += ["--allow-root", "--ServerApp.port_retries=0", "--LabApp.news_url=", "--LabApp.check_for_updates_class="]
    environment = dict(os.environ, HOME=str(tmp_path), JUPYTER_CONFIG_DIR=str(tmp_path / "config"), OMP_NUM_THREADS="1")
    command = [sys.executable, "-m", "jupyterlab", *options]
    with (tmp_path / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: urllib.request.urlopen(f"{address}/api/status", timeout=5), 90, "JupyterLab")
        yield address
    finally:
        server.terminate()
        server.wait(20)


def kernel_is_ready(address):
    """Return whether the one kernel of the server is idle and connected."""
    sessions = json.load(urllib.request.urlopen(f"{address}/api/sessions", timeout=5))
    return any(s["kernel"]["execution_state"] == "idle" and s["kernel"]["connections"] for s in sessions)


def test_click_through_the_playground(lab):
    """Predict shows ten words, a click appends one, Write on writes to either side, Start over empties the text."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser test")
    browser_options = find_browser()
    if browser_options is None:
        pytest.skip("no Chromium or Chrome was found on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(args=["--no-sandbox", "--disable-gpu"], **browser_options)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.goto(f"{lab}/lab/tree/play.ipynb")
        page.wait_for_selector(".jp-Notebook", timeout=90_000)
        wait_until(lambda: kernel_is_ready(lab), 90, "an idle kernel")
        page.keyboard.press("Escape")
        page.click("text=Run >> nth=0")
        page.click("text=Run All Cells >> nth=0")
        text = page.locator(".jp-OutputArea textarea").first
        text.wait_for(timeout=120_000)

        def words():
            return text.input_value().split()

        words_of_rows = page.locator(".widget-vbox .widget-vbox .widget-button")
        page.get_by_role("button", name="Predict", exact=True).click()
        wait_until(lambda: words_of_rows.count() == 10, 60, "ten words")
        chosen = next(word for word in words_of_rows.all_inner_texts() if word != "<s>")
        words_of_rows.get_by_text(chosen, exact=True).first.click()
        wait_until(lambda: words() == ["i", "love", chosen], 60, "the word that was clicked")
        page.get_by_role("button", name="Write on", exact=True).click()
        wait_until(lambda: len(words()) == 10, 60, "seven more words")
        page.locator(".jp-OutputArea select").select_option("reverse")
        before = words()
        page.get_by_role("button", name="Write on", exact=True).click()
        wait_until(lambda: len(words()) == 17 and words()[7:] == before, 60, "seven words on the left")
        page.get_by_role("button", name="Start over", exact=True).click()
        wait_until(lambda: words() == [] and words_of_rows.count() == 0, 60, "an empty text")
        text.fill("<b>xyzzy</b>")
        text.press("Tab")
        page.get_by_role("button", name="Predict", exact=True).click()
        message = page.locator(".jp-OutputArea .widget-html").filter(has_text="Unknown words")
        message.wait_for(timeout=60_000)
        assert "xyzzy" in message.inner_text()
        browser.close()
