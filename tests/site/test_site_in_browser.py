"""The site in a real browser, from the disk and without a network: pages, quizzes, search, live figures, access."""

import json
import math

import browser
import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe

from tools import site
from tools.course import NOTEBOOKS, ROOT
from tools.questions import LECTURES

pytestmark = pytest.mark.skipif(browser.find_browser() is None, reason=browser.NONE_FOUND)
PAGES = ["index", "try", "results", "contributing", "notebooks/guidebook/glossary"]
PAGES += [path.relative_to(ROOT).with_suffix("").as_posix() for path in NOTEBOOKS]


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """Return the folder of the site, built from the notebooks as they are; Sphinx must not warn."""
    folder = tmp_path_factory.mktemp("site")
    assert site.build(folder) == 0
    return folder / "html"


@pytest.fixture(scope="module")
def chromium():
    """Return a browser for all tests of this file."""
    with browser.running_browser() as running:
        yield running


def open_page(chromium, html, name, width=1300, scheme="light"):
    """Open a page of the site; return (page, what went wrong: errors, warnings, and requests to any host)."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
    page.goto((html / f"{name}.html").as_uri(), wait_until="load")
    page.wait_for_timeout(300)
    return page, wrong


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_and_everyone_can_use_it(chromium, html, name):
    """No error, no other host; axe-core finds no serious fault in light and dark; a phone needs no sideways scroll.

    The colors of code are looked at on one page for all.
    """
    page, wrong = open_page(chromium, html, name)
    assert wrong == []
    outside = None if name == "notebooks/02_xor" else {"exclude": [[".highlight"], ["math"]]}
    for scheme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", scheme)
        page.wait_for_timeout(600)  # colors change slowly
        faults = Axe().run(page, outside, {"preload": False}).response["violations"]
        serious = [fault for fault in faults if fault["impact"] in ("serious", "critical")]
        assert [(scheme, fault["id"], fault["nodes"][0]["html"][:200]) for fault in serious] == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for picture in page.locator("article img").all():
        assert len(picture.get_attribute("alt")) >= 5
    page.context.close()


def test_every_link_of_the_site_has_its_target(html):
    """Links between pages lead to a file that is there, and their anchors to an element."""
    from bs4 import BeautifulSoup

    soups = {path: BeautifulSoup(path.read_text("utf-8"), "html.parser") for path in html.rglob("*.html")}
    ids = {path: {tag["id"] for tag in soup.find_all(id=True)} for path, soup in soups.items()}
    lost = []
    for path, soup in soups.items():
        for link in soup.select("article a[href]"):
            place, _, anchor = link["href"].partition("#")
            if ":" in place:
                continue
            target = (path.parent / place).resolve() if place else path
            if not target.exists() or (anchor and target in ids and anchor not in ids[target]):
                lost.append(f"{path.relative_to(html)}: {link['href']}")
    assert lost == []


@pytest.mark.parametrize("number", LECTURES)
def test_a_quiz_marks_a_wrong_and_a_right_answer(chromium, html, number):
    """The first choice of each quiz answers a wrong and a right click."""
    page, _ = open_page(chromium, html, f"notebooks/guidebook/{LECTURES[number]}")
    quiz = page.locator(".Quiz:has(.MCButton)").first
    for correct in (False, True):
        quiz.locator(f'.MCButton[data-correct="{str(correct).lower()}"]').first.click()
        assert ("correct" in quiz.locator(".Feedback").get_attribute("class").split()) is correct
    page.context.close()


def test_search_finds_perplexity(chromium, html):
    """The search page names notebook 09."""
    page, wrong = open_page(chromium, html, "search")
    page.goto((html / "search.html").as_uri() + "?q=perplexity")
    page.wait_for_selector("#search-results li")
    assert "language model" in page.locator("#search-results").inner_text()
    assert wrong == []
    page.context.close()


def test_dark_mode_is_in_the_menu(chromium, html):
    """The menu of the theme changes the background."""
    page, _ = open_page(chromium, html, "index")
    colors = {}
    for mode in ("Dark", "Light"):
        page.locator("button.theme-switch-button").first.click()
        page.get_by_text(mode, exact=True).first.click()
        page.wait_for_timeout(600)
        colors[mode] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert page.evaluate("document.documentElement.dataset.theme") == mode.lower()
    assert colors["Dark"] != colors["Light"]
    page.context.close()


def test_a_page_leads_to_colab_the_notebook_and_its_hand_out(chromium, html):
    """The links under the title have their targets; the hand-out has no solution."""
    page, _ = open_page(chromium, html, "notebooks/02_xor")
    links = {link.inner_text(): link.get_attribute("href") for link in page.locator("article p a").all()[:4]}
    assert list(links) == ["Open in Colab", "Download the notebook", "Hand-out without solutions", "Source"]
    assert (html / "notebooks" / links["Download the notebook"]).resolve().exists()
    text = (html / "notebooks" / links["Hand-out without solutions"]).resolve().read_text("utf-8")
    assert "# @title Solution" not in text and "# @title Check" in text
    page.context.close()


# ---- the live figures ----


@pytest.fixture(scope="module")
def live(chromium, html):
    """Return the page with the three live figures."""
    page, wrong = open_page(chromium, html, "try")
    yield page
    assert wrong == []


def test_descent_agrees_with_numpy(live):
    """The path of the page is that of gradient descent in NumPy; the sentence follows the slider."""
    u, t = np.random.default_rng(0).standard_normal((2, 20))
    path = np.array(live.evaluate("([u, t]) => descend(u, t, 0.3, -0.2, 0.1, 5)", [u.tolist(), t.tolist()]))
    w, b = 0.3, -0.2
    for row in path:
        error = w * u + b - t
        assert row == pytest.approx([w, b, (error**2).mean()], rel=1e-12)
        w, b = w - 0.1 * 2 * (error * u).mean(), b - 0.1 * 2 * error.mean()
    slider = live.locator('[data-live="descent"] input').first
    text = live.locator('[data-live="descent"] output')
    slider.fill("0.1")
    assert "explodes" in text.inner_text()
    slider.fill("-0.3")
    assert "w = 1.800, b = 32.00" in text.inner_text()


@pytest.mark.parametrize("bypass", [False, True])
def test_xor_agrees_with_torch(live, bypass):
    """Ten steps of the page's training give PyTorch's weights."""
    rng = np.random.default_rng(1)
    net = {name: rng.uniform(-1, 1, shape).tolist() for name, shape in [("W", (2, 2)), ("b", 2), ("v", 2), ("u", 2)]}
    net |= {"c": 0.1, "bypass": bypass}
    trained = live.evaluate("net => { for (let i = 0; i < 10; i++) trainStep(net, 2); return net; }", net)
    X = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64)
    t = torch.tensor([0, 1, 1, 0], dtype=torch.float64)
    names = ["W", "b", "v", "c"] + ["u"] * bypass
    weights = {name: torch.tensor(net[name], dtype=torch.float64, requires_grad=True) for name in names}
    optimizer = torch.optim.SGD(weights.values(), lr=2)
    for _ in range(10):
        z = torch.sigmoid(X @ weights["W"].T + weights["b"]) @ weights["v"] + weights["c"]
        y = torch.sigmoid(z + X @ weights["u"] if bypass else z)
        optimizer.zero_grad()
        ((y - t) ** 2).mean().backward()
        optimizer.step()
    for name in names:
        assert np.array(trained[name]) == pytest.approx(weights[name].detach().numpy(), rel=1e-9)


def test_xor_learns_on_the_page(live):
    """Four hidden units solve XOR by pressing Train (a start that fails may be drawn anew)."""
    figure = live.locator('[data-live="xor"]')
    figure.locator("select").first.select_option("4")
    for _ in range(5):
        figure.get_by_role("button", name="Train").click()
        figure.get_by_role("button", name="Train").wait_for(timeout=60_000)
        if "4 of 4" in figure.locator("output").inner_text():
            return
        figure.get_by_role("button", name="New start").click()
    pytest.fail("no start of five solved XOR")


def test_the_digit_network_agrees_with_torch(live):
    """The page's probabilities are those of the same network in PyTorch."""
    text = (site.SITE / "_static" / "digits.js").read_text("utf-8")
    stored = json.loads(text[text.index("{") : text.rindex(";")])
    x = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps = x
    for layer in stored["convolutions"]:
        shape = (len(layer["bias"]), layer["channels"], layer["kernel"], layer["kernel"])
        weight, bias = (torch.tensor(layer[name], dtype=torch.float64) for name in ("weight", "bias"))
        maps = torch.max_pool2d(torch.relu(torch.conv2d(maps, weight.reshape(shape), bias)), 2)
    weight, bias = (torch.tensor(stored["dense"][name], dtype=torch.float64) for name in ("weight", "bias"))
    expected = torch.softmax(maps.flatten(1) @ weight.reshape(10, -1).T + bias, 1).numpy()
    for image, probabilities in zip(x.flatten(1).tolist(), expected):
        measured = live.evaluate("image => classify(image, DIGITS)", image)
        assert measured == pytest.approx(probabilities, abs=1e-9)


def test_ink_is_prepared_as_mnist_prepares_it(live):
    """A stroke at the edge comes to the middle, 20 pixels long; an empty canvas gives null."""
    ink = np.zeros((140, 140))
    ink[5:105, 3:13] = 255
    image = np.array(live.evaluate("ink => Array.from(centerLikeMnist(ink, 140))", ink.ravel().tolist()))
    image = image.reshape(28, 28)
    rows, columns = np.nonzero(image)
    assert (rows.min(), rows.max(), columns.max() - columns.min()) == (4, 23, 1)
    assert math.isclose(image.sum(), 40)
    assert live.evaluate("ink => centerLikeMnist(ink, 140)", [0] * 140 * 140) is None


def test_a_drawn_one_is_read_as_a_one(live):
    """A vertical stroke by mouse is a 1; Clear empties the canvas; keys draw, too."""
    canvas, text = live.locator("canvas.draw"), live.locator('[data-live="digits"] output')
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    middle = box["x"] + box["width"] / 2
    live.mouse.move(middle, box["y"] + 50)
    live.mouse.down()
    live.mouse.move(middle, box["y"] + 230, steps=20)
    live.mouse.up()
    assert text.inner_text() == "The network reads a 1."
    live.locator('[data-live="digits"]').get_by_role("button", name="Clear").click()
    assert text.inner_text() == "Draw a digit."
    canvas.focus()
    live.keyboard.press(" ")
    for _ in range(16):
        live.keyboard.press("ArrowDown")
    assert text.inner_text() == "The network reads a 1."
