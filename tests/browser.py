"""Find a browser for the tests: the system's Chromium or Chrome, else Playwright's own.

python tests/browser.py    print its path; the exit status is 1 if there is none
"""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

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


if __name__ == "__main__":
    found = find_browser()
    print(found or NONE_FOUND)
    sys.exit(found is None)
