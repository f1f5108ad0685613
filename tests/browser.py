"""Find a browser for the tests: the system's Chromium or Chrome, else Playwright's own.

python tests/browser.py    print its path; the exit status is 1 if there is none
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress

import nbformat
from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NONE_FOUND = "no browser found; `make browser` tries to install Chromium"


def works(path):
    """Return whether `path` is a browser that starts and tells its version."""
    try:
        subprocess.run([path, "--version"], capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def playwright_chromium():
    """Return the path at which Playwright keeps its Chromium, be it there or not."""
    with sync_playwright() as playwright:
        return playwright.chromium.executable_path


def find_browser():
    """Return the path of a browser that starts, or None."""
    for path in filter(None, map(shutil.which, NAMES)):
        if works(path):
            return path
    path = playwright_chromium()
    return path if os.path.exists(path) and works(path) else None


@contextmanager
def running_browser():
    """Yield a headless browser, and close it at the end."""
    options = {"executable_path": find_browser(), "args": ["--no-sandbox", "--disable-gpu"]}
    with sync_playwright() as playwright, playwright.chromium.launch(**options) as it:
        yield it


def open_offline(browser, path, width=1300, height=900):
    """Open the file `path` in a window of that size without a network.

    Returns (page, addresses that it asked for). The list grows while the page is used;
    any file other than `path` counts, too.
    """
    page, asked = browser.new_page(viewport={"width": width, "height": height}), []

    def decide(route):
        if route.request.url == path.as_uri():
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    page.route(lambda url: not url.startswith("data:"), decide)
    page.goto(path.as_uri(), wait_until="load")
    page.wait_for_timeout(800)  # quizzes and cards build themselves
    return page, asked


def wait_until(condition, seconds, what):
    """Wait until `condition()` is true; fail with `what` after so many `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError):
            if condition():
                return
        time.sleep(0.5)
    raise AssertionError(f"waited {seconds} s for {what}")


@contextmanager
def running_lab(folder, notebooks):
    """Start JupyterLab in `folder` with `notebooks`, {file name: code of the one cell}; yield its address.

    The server stops at the end. Its settings are not the user's.
    """
    for name, source in notebooks.items():
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        cells = [nbformat.v4.new_code_cell(source)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / name)
    with socket.socket() as listener:  # a port that nobody listens on
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    options = [f"--port={port}", "--no-browser", "--allow-root", "--IdentityProvider.token="]
    options += [f"--ServerApp.root_dir={folder}", "--ServerApp.port_retries=0"]
    options += ["--LabApp.news_url=", "--LabApp.check_for_updates_class="]
    own = {"HOME": str(folder), "JUPYTER_CONFIG_DIR": str(folder / "config"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "jupyterlab", *options]
    with (folder / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=os.environ | own, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: urllib.request.urlopen(f"{address}/api/status", timeout=5), 90, "JupyterLab")
        yield address
    finally:
        server.terminate()
        server.wait(20)


def run_all_cells(page, address, name):
    """Open the notebook `name` of the server at `address` in `page`, and run its cells."""

    def is_ready():
        sessions = json.load(urllib.request.urlopen(f"{address}/api/sessions", timeout=5))
        mine = [session["kernel"] for session in sessions if session["path"] == name]
        return any(kernel["execution_state"] == "idle" and kernel["connections"] for kernel in mine)

    page.goto(f"{address}/lab/workspaces/{name.split('.')[0]}/tree/{name}")
    page.wait_for_selector(".jp-Notebook", timeout=90_000)
    wait_until(is_ready, 90, "an idle kernel")
    page.keyboard.press("Escape")
    page.click("text=Run >> nth=0")
    page.click("text=Run All Cells >> nth=0")


if __name__ == "__main__":
    found = find_browser()
    print(found or NONE_FOUND)
    sys.exit(found is None)
