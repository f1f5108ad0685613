"""The single document, a page of `make run`, and what quizzes hand to the review, in a real browser."""

import json
import re

import browser
import nbformat
import pytest
from IPython.display import HTML

from tools import book
from tools.course import ROOT
from tools.page import as_html
from tools.questions import FOLDER, LECTURES, quiz_cell, read_banks

BANKS = read_banks()
missing = browser.find_browser() is None
pytestmark = pytest.mark.skipif(missing, reason=browser.NONE_FOUND)


@pytest.fixture(scope="module")
def chromium():
    """Return a browser for all tests of this file."""
    with browser.running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Return the path of the single document, made from the notebooks as they are."""
    path = tmp_path_factory.mktemp("document") / "guidebook.html"
    path.write_text(book.make_page(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def document(chromium, file):
    """Return (page, requests) of the single document, opened once."""
    return browser.open_offline(chromium, file)


def plain(text):
    """Return HTML `text` without its marks, as a reader sees it."""
    text = re.sub(r"<[^>]+>", "", text)
    for name, sign in {"&lt;": "<", "&gt;": ">", "&amp;": "&"}.items():
        text = text.replace(name, sign)
    return " ".join(text.split())


def feedback_of(quiz):
    """Return (text, whether in the style of a right answer) that `quiz` shows now."""
    box = quiz.locator(".Feedback")
    looks_right = "correct" in box.get_attribute("class").split()
    return " ".join(box.inner_text().split()), looks_right


def first_of_type(kind, bank):
    """Return (position, answers) of the first question of that type in `bank`."""
    types = [question["type"] for question in bank["questions"]]
    position = types.index(kind)
    return position, bank["questions"][position]["answers"]


def click_wrong_and_right(scope, bank):
    """Click a wrong and the right answer of the first choice in `scope`; check both."""
    position, answers = first_of_type("multiple_choice", bank)
    quiz = scope.locator(f'.Quiz[data-qnum="{position}"]').first
    for correct in (False, True):
        chosen = [answer for answer in answers if answer["correct"] is correct]
        expected = {plain(answer["feedback"]) for answer in chosen}
        mark = str(correct).lower()
        quiz.locator(f'.MCButton[data-correct="{mark}"]').first.click()
        text, looks_right = feedback_of(quiz)
        assert text in expected
        assert looks_right is correct


def type_number(quiz, text):
    """Type `text` into the field of `quiz`, as it is empty; return its feedback."""
    field = quiz.locator("input")
    field.fill("")
    field.press_sequentially(text)
    field.press("Enter")
    return feedback_of(quiz)


def type_wrong_and_right(scope, bank):
    """Type a wrong and the right number into the first field in `scope`; check both."""
    position, answers = first_of_type("numeric", bank)
    right = next(answer for answer in answers if answer.get("correct"))
    default = next(answer for answer in answers if answer["type"] == "default")
    quiz = scope.locator(f'.Quiz[data-qnum="{position}"]').first
    tries = ("-987654", default, False), (f"{right['value']:f}", right, True)
    for number, expected, correct in tries:
        assert type_number(quiz, number) == (plain(expected["feedback"]), correct)


@pytest.mark.parametrize("number", LECTURES)
def test_a_quiz_marks_itself(document, number):
    """A wrong and a right answer lead to their own feedback, by mouse and keyboard."""
    scope = document[0].locator(f"#{LECTURES[number]}")
    assert scope.locator(".Quiz").count() == len(BANKS[number]["questions"])
    click_wrong_and_right(scope, BANKS[number])
    type_wrong_and_right(scope, BANKS[number])


def quiz_of(document, name):
    """Return the question `name` of the single document."""
    number = int(name[1])
    ids = [question["id"] for question in BANKS[number]["questions"]]
    return document[0].locator(f'#{LECTURES[number]} .Quiz[data-qnum="{ids.index(name)}"]')


@pytest.mark.parametrize(
    ("name", "text", "right"),
    [
        ("L1-C4", "0", True),
        ("L1-C4", "0.04", False),
        ("L1-C1", "-0.4", True),
        ("L1-C1", "−0,4", True),
        ("L1-C1", "-2/5", True),
        ("L1-C1", "-.4", True),
        ("L1-C1", "-4e-1", True),
        ("L1-C1", "-0.44", False),
        ("L1-C1", "-0.36", False),
        ("L2-C1", "3", True),
        ("L2-C1", "3.4", False),
        ("L5-Q3b", "2.44e-4", True),
        ("L5-Q3b", "1/4096", True),
        ("L5-Q3b", "2e-4", False),
        ("L7-C1", "21632", True),
        ("L7-C1", "21633", False),
    ],
)
def test_numbers_are_read_as_meant(document, name, text, right):
    """Signs, commas and fractions are understood, and nothing is rounded generously."""
    feedback, looks_right = type_number(quiz_of(document, name), text)
    assert looks_right is right, feedback


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "Type a number first."),
        ("  ", "Type a number first."),
        ("0.4.2", "This is not a number; write it like −0.525, 1e-6 or 1/3."),
        ("1/0", "This is not a number; write it like −0.525, 1e-6 or 1/3."),
        ("abc", "This is not a number; write it like −0.525, 1e-6 or 1/3."),
        ("21,632", "21,632 can be read in two ways; write 21632 or 21.632."),
    ],
)
def test_what_is_no_number_is_not_marked(document, text, expected):
    """An empty field is not 0: the reader is told what is missing, and nothing looks right or wrong."""
    quiz = quiz_of(document, "L1-C4")
    assert type_number(quiz, text) == (expected, False)
    assert not quiz.locator(".incorrect, .incorrectButton, .correctButton").count()


def luminance(color):
    """Return the relative luminance (WCAG 2) of a color such as rgb(1, 2, 3)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Return the contrast (WCAG 2) of two colors, from 1 to 21."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


COLORS = """element => {
  const at = node => { while (getComputedStyle(node).backgroundColor === "rgba(0, 0, 0, 0)") node = node.parentNode;
    return getComputedStyle(node).backgroundColor; };
  return [getComputedStyle(element).color, at(element), at(element.parentNode)];
}"""
DARK = "body { background: #111; color: #ddd; } input { background: #111; color: #ddd; }"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everything_in_a_quiz_can_be_read(chromium, file, theme):
    """Text in fields, buttons, questions and feedback has a contrast of 4.5, before and after an answer."""
    page, _ = browser.open_offline(chromium, file)
    page.emulate_media(color_scheme=theme)
    if theme == "dark":
        page.add_style_tag(content=DARK)
    quizzes = [page.locator(f"#{LECTURES[1]} .Quiz").nth(i) for i in range(len(BANKS[1]["questions"]))]
    for state in ("before", "wrong", "right"):
        for quiz in quizzes:
            fields, mark = quiz.locator("input.Input-text"), str(state == "right").lower()
            if state != "before" and fields.count():
                type_number(quiz, "0" if state == "wrong" else "-0.4")
            elif state != "before":
                quiz.locator(f'.MCButton[data-correct="{mark}"]').first.click()
        page.wait_for_timeout(1000)  # colors move to where they stay
        parts = page.locator(f"#{LECTURES[1]}").locator(
            ".Input-text, .InpLabel, .MCButton, .Feedback, .Quiz > div > div"
        )
        for part in parts.all():
            if part.is_visible():
                text, ground, _ = part.evaluate(COLORS)
                assert contrast(text, ground) >= 4.5, (state, part.get_attribute("class"), text, ground)
        for field in page.locator(f"#{LECTURES[1]} .Input-text").all():
            _, ground, around = field.evaluate(COLORS)
            assert contrast(ground, around) >= 4.5, (state, ground, around)
    page.close()


@pytest.mark.parametrize("number", LECTURES)
def test_formulas_figures_and_cards(document, number):
    """Formulas are MathML, pictures have alternative texts, and cards turn."""
    scope = document[0].locator(f"#{LECTURES[number]}")
    assert scope.locator("math").count() > 5
    assert scope.locator("merror").count() == 0
    assert scope.locator("img").count() >= 4
    for picture in scope.locator("img").all():
        assert len(picture.get_attribute("alt")) >= 30
        assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
    cards = scope.locator(".flip-container").first
    front = cards.locator(".front .flashcardtext").first.inner_text()
    assert plain(front) == plain(next(iter(BANKS[number]["glossary"])))
    cards.click()
    assert "flip" in cards.get_attribute("class").split()


def test_the_contents_lead_to_every_chapter(document):
    """Every link of the table of contents has its target, and a click goes there."""
    page, _ = document
    links = page.locator("nav a")
    targets = [link.get_attribute("href") for link in links.all()]
    assert len(targets) > 20
    elements = "[...document.querySelectorAll('[id]')]"
    ids = page.evaluate(f"{elements}.map(element => '#' + element.id)")
    assert set(targets) <= set(ids)
    page.locator("nav > details > ul > li").last.locator("a").first.click()
    assert page.evaluate("location.hash") == "#review"


def test_print_unfolds_answers(document):
    """In print, chapters start a page, answers are open, code of tools is not there."""
    page, _ = document
    folded = page.locator("main details:not([open])").count()
    assert folded > 10
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("main details:not([open])").count() == 0
    assert not page.locator("nav").is_visible()
    style = "element => getComputedStyle(element).breakBefore"
    assert page.locator("article").first.evaluate(style) == "page"
    assert not any(tool.is_visible() for tool in page.locator("details.tool").all())
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.locator("main details:not([open])").count() == folded


def test_it_fits_a_phone(chromium, file):
    """At 390 pixels the page is not wider than the screen; the contents are folded."""
    phone, asked = browser.open_offline(chromium, file, 390, 844)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    assert phone.locator("nav > details").get_attribute("open") is None
    assert asked == []


def test_nobody_else_is_asked(document):
    """Opening and using the document (this test is its last) asked nobody else."""
    assert document[1] == []


def test_page_of_make_run_has_a_working_quiz_and_no_widget(chromium, tmp_path):
    """The HTML copy of a single lecture works without kernel and network, too."""
    number = min(LECTURES)
    nb = nbformat.read(FOLDER / f"{LECTURES[number]}.ipynb", as_version=4)
    state = {"version_major": 2, "version_minor": 0, "state": {}}
    nb.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": state}
    path = tmp_path / "lecture.html"
    path.write_text(as_html(nb, "lecture"), encoding="utf-8")
    page, asked = browser.open_offline(chromium, path)
    click_wrong_and_right(page.locator("body"), BANKS[number])
    assert page.locator("math").count() > 5
    assert page.get_by_alt_text("No description").count() == 0
    assert asked == []


# ---- what quizzes hand to the review ----

JUPYTER = '<script id="jupyter-config-data" type="application/json">{}</script>'  # on each page of a Jupyter server
KEPT = """Object.entries(localStorage).map(([key, right]) => [...key.split(" "), right])
    .filter(entry => entry[0] === "course-quiz").sort((a, b) => a[2] < b[2] ? -1 : 1)"""
FORBID = (
    """Object.defineProperty(window, "localStorage", { get() { throw new DOMException("no", "SecurityError"); } })"""
)


def open_quiz(chromium, path, head=""):
    """Write a page with the quiz of lecture 1, as its cell is now, to `path`; open it and return it."""
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("IPython.display.display", shown.append)
        patch.setattr("jupyterquiz.dynamic.display.display", shown.append)
        exec(quiz_cell(BANKS[1]), {})
    kinds = ["text/html" if isinstance(one, HTML) else "application/javascript" for one in shown]
    outputs = [nbformat.v4.new_output("display_data", {kind: one.data}) for kind, one in zip(kinds, shown)]
    body = "".join(map(book.output_as_html, outputs))
    path.write_text(f"<!DOCTYPE html><meta charset='utf-8'>{head}{body}", encoding="utf-8")
    return browser.open_offline(chromium, path)[0]


def item_of(page, name):
    """Return the question `name` of lecture 1 on a `page` that shows its quiz."""
    ids = [question["id"] for question in BANKS[1]["questions"]]
    return page.locator(f'.Quiz[data-qnum="{ids.index(name)}"]')


def choose(quiz, right, num=1):
    """Click `num` options of `quiz` that are right, or that are not."""
    for option in quiz.locator(f'.MCButton[data-correct="{str(right).lower()}"]').all()[:num]:
        option.click()


def test_the_first_answer_to_an_item_is_kept(chromium, tmp_path):
    """Once for each quiz that is shown, with its time; several options make one answer, and no number makes none."""
    page = open_quiz(chromium, tmp_path / "quiz.html", JUPYTER)
    for right in (False, True):
        choose(item_of(page, "L1-Q1"), right)
    choose(item_of(page, "L1-Q2"), True)
    for text in ("", "abc", "-0.4", "7"):
        type_number(item_of(page, "L1-C1"), text)
    choose(item_of(page, "L1-Q2b"), True, 1)
    expected = [["L1-Q1", "false"], ["L1-Q2", "true"], ["L1-C1", "true"]]
    kept = page.evaluate(KEPT)
    assert [[name, right] for _, name, _, right in kept] == expected
    now = page.evaluate("new Date().toISOString()")
    assert all(len(time) == len(now) and now[:13] >= time[:13] for _, _, time, _ in kept)
    choose(item_of(page, "L1-Q2b"), True, 9)
    page.reload()
    choose(item_of(page, "L1-Q2b"), True, 1)
    choose(item_of(page, "L1-Q2b"), False, 1)
    choose(item_of(page, "L1-Q2b"), True, 9)
    expected += [["L1-Q2b", "true"], ["L1-Q2b", "false"]]
    assert [[name, right] for _, name, _, right in page.evaluate(KEPT)] == expected
    page.close()


@pytest.mark.parametrize("head", ["", JUPYTER], ids=["outside", "forbidden"])
def test_a_quiz_works_where_nothing_can_be_kept(chromium, tmp_path, head):
    """Outside Jupyter nothing is kept; where storage is forbidden nothing breaks; the marks are the same."""
    page, errors = open_quiz(chromium, tmp_path / "quiz.html", head), []
    page.on("pageerror", lambda error: errors.append(error))
    if head:
        page.evaluate(FORBID)
    click_wrong_and_right(page.locator("body"), BANKS[1])
    type_wrong_and_right(page.locator("body"), BANKS[1])
    assert errors == [] and (head or page.evaluate("localStorage.length") == 0)
    page.close()


REVIEW = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from datetime import datetime
from pathlib import Path
from IPython.display import display
from tools.definitions import load_definitions
review = load_definitions("review", ".")
path = Path("progress.json").absolute()
sitting = review.Sitting(review.QUESTIONS, path, lambda: datetime.now().astimezone())
display(review.ReviewPanel(sitting).box)
"""


@pytest.fixture
def lab(tmp_path):
    """Start JupyterLab with the quiz of lecture 1 and the panel of the review; return its address."""
    with browser.running_lab(tmp_path, {"quiz.ipynb": quiz_cell(BANKS[1]), "review.ipynb": REVIEW}) as address:
        yield address


def test_answers_reach_the_review_in_jupyterlab(chromium, lab, tmp_path):
    """Answered in a lecture's quiz, taken over when the panel opens and when it starts anew, and forgotten here."""
    context = chromium.new_context(viewport={"width": 1300, "height": 1000})
    lecture, review = context.new_page(), context.new_page()
    browser.run_all_cells(lecture, lab, "quiz.ipynb")
    item_of(lecture, "L1-Q1").wait_for(timeout=60_000)
    choose(item_of(lecture, "L1-Q1"), False)
    type_number(item_of(lecture, "L1-C1"), "-0.4")
    assert [entry[1::2] for entry in lecture.evaluate(KEPT)] == [["L1-Q1", "false"], ["L1-C1", "true"]]
    browser.run_all_cells(review, lab, "review.ipynb")
    panel = review.locator(".course-review")
    panel.get_by_text("Taken over from quizzes in lectures: 2.").wait_for(timeout=60_000)

    def answers():
        return [[name, *rest] for name, _, *rest in json.loads((tmp_path / "progress.json").read_text())["answers"]]

    assert answers() == [["L1-Q1", 1, "quiz"], ["L1-C1", 3, "quiz"]]
    browser.wait_until(lambda: lecture.evaluate(KEPT) == [], 20, "the browser to forget")
    start = panel.get_by_role("button", name="Start", exact=True)
    start.click()
    panel.get_by_text("Answers so far: 2.").wait_for(timeout=60_000)
    choose(item_of(lecture, "L1-Q2"), True)
    start.click()
    panel.get_by_text("Taken over from quizzes in lectures: 1.").wait_for(timeout=60_000)
    assert answers()[2:] == [["L1-Q2", 3, "quiz"]]
    context.close()


def test_nothing_is_cut_off_in_print(chromium, file):
    """At the width of a printed page (A4 with its margins) no formula, figure or table leaves the column."""
    page, _ = browser.open_offline(chromium, file, 658, 950)  # 174 mm at 96 pixels per inch
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    script = """() => [...document.querySelectorAll("main img, main math, main table, main pre")]
        .filter(part => part.getBoundingClientRect().width > 0)
        .filter(part => part.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
        .map(part => part.closest("article").id + ": " + part.outerHTML.slice(0, 120))"""
    assert page.evaluate(script) == []


def test_the_document_can_be_printed(file):
    """Chromium prints a PDF with many pages."""
    pdf = book.print_as_pdf(file)
    if pdf is None:
        pytest.skip("no Chromium or Chrome of the system")
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF") and content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") > 100
