"""The guidebook holds what its specification lists, and its quizzes are right."""

import json
import math
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from tools import questions
from tools.definitions import load_definitions
from tools.stills import VIEW

PATH = Path(__file__).with_name("specification.json")
SPECIFICATION = json.loads(PATH.read_text(encoding="utf-8"))
WANTED = {int(number): wanted for number, wanted in SPECIFICATION["lectures"].items()}
RUBRIC = ("claims", "evidence", "trade-offs", "limits")


def outputs_of(nb):
    """Return the outputs of all code cells of the notebook `nb` in one list."""
    return [output for cell in nb.cells for output in cell.get("outputs", [])]


class Lecture:
    """One lecture: its notebook, its bank, and what the specification wants of it."""

    def __init__(self, number):
        self.number, self.wanted = number, WANTED[number]
        self.path = questions.FOLDER / f"{self.wanted['file']}.ipynb"
        self.nb = nbformat.read(self.path, as_version=4)
        self.bank = questions.read_banks()[number]
        self.prose, self.code = (
            "\n\n".join(cell.source for cell in self.nb.cells if cell.cell_type == kind)
            for kind in ("markdown", "code")
        )

    def section(self, title):
        """Return the prose below the heading that contains `title`, subsections too."""
        pattern = rf"^(#+) [^\n]*{title}[^\n]*\n"
        match = re.search(pattern, self.prose, re.MULTILINE | re.IGNORECASE)
        assert match, f"{self.path.name} has no section '{title}'"
        rest = self.prose[match.end() :]
        end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
        return rest[: end.start()] if end else rest


@pytest.fixture(scope="module", params=sorted(WANTED), ids="lecture_{}".format)
def lecture(request):
    """Return each lecture in turn; a missing one is an error."""
    return Lecture(request.param)


def test_the_list_is_complete():
    """The list has as many questions, essays, terms and figures as it says itself."""
    for part, total in SPECIFICATION["totals"].items():
        assert sum(len(wanted[part]) for wanted in WANTED.values()) == total
    files = {number: wanted["file"] for number, wanted in WANTED.items()}
    assert files == questions.LECTURES


# ---- content ----


def test_figures_and_additions(lecture):
    """Each figure and each addition goes through save_figure under its prefix."""
    names = re.findall(r"save_figure\(\s*\w+,\s*f?[\"'](\w+)", lecture.code)
    wanted = lecture.wanted["figures"] + lecture.wanted["additions"]
    for prefix in wanted:
        found = any(re.match(rf"{prefix}(_|$)", name) for name in names)
        assert found, f"no figure {prefix}_... among {names}"
    outputs = outputs_of(lecture.nb)
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= len(wanted)


def test_something_moves(lecture):
    """The reader can move at least one figure."""
    outputs = outputs_of(lecture.nb)
    assert any(VIEW in output.get("data", {}) for output in outputs)


def test_every_question_has_a_twin_and_an_open_form(lecture):
    """Each question is in the quiz, and again in your own words, its answer folded."""
    ids = [question["id"] for question in lecture.bank["questions"]]
    for number in lecture.wanted["quiz"]:
        pattern = rf"L{lecture.number}-Q{number}[a-z]?"
        assert any(re.fullmatch(pattern, name) for name in ids), f"question {number}"
    folded = lecture.section("in your own words").count("<details>")
    assert folded >= len(lecture.wanted["quiz"])


def test_every_check_is_a_numeric_item(lecture):
    """For each number that the lecture computes there is a numeric item of its kind, with other inputs."""
    items = [question for question in lecture.bank["questions"] if "-C" in question["id"]]
    assert len(items) == len(lecture.wanted["checks"])


def test_no_right_number_is_printed_above(lecture):
    """A number that a numeric item asks for, of three digits or more, stands nowhere else in the lecture."""
    sources = [cell.source for cell in lecture.nb.cells if not cell.source.startswith("# @title Quiz")]
    kinds = ("text/plain", "text/html", "text/markdown")
    shown = [output.get("text", "") for output in outputs_of(lecture.nb)]
    shown += [output.get("data", {}).get(kind, "") for output in outputs_of(lecture.nb) for kind in kinds]
    printed = re.findall(r"\d[\d,]*(?:\.\d+)?", "\n".join(sources + shown))
    printed = {number.replace(",", "") for number in printed}
    for question in lecture.bank["questions"]:
        for answer in question["answers"]:
            if question["type"] == "numeric" and answer.get("correct"):
                digits = f"{abs(answer['value']):.12g}"
                assert len(digits.replace(".", "").strip("0")) < 3 or digits not in printed, question["id"]


def test_essays_have_rubrics(lecture):
    """Each essay prompt is there, with a folded rubric of four parts."""
    section = lecture.section("essay prompts")
    for phrase in lecture.wanted["essays"]:
        assert re.search(phrase, section, re.IGNORECASE | re.DOTALL), phrase
    rubrics = re.findall(r"<details>(.*?)</details>", section, re.DOTALL)
    assert len(rubrics) >= len(lecture.wanted["essays"])
    for rubric in rubrics:
        missing = [word for word in RUBRIC if word not in rubric.lower()]
        assert not missing, rubric[:100]


def test_glossary_is_complete(lecture):
    """The lecture's glossary has exactly the terms of the specification."""
    assert sorted(lecture.bank["glossary"]) == sorted(lecture.wanted["glossary"])


def test_videos_and_links(lecture):
    """Each video is linked, not embedded; an experiment that belongs here is named."""
    for video in lecture.wanted["videos"]:
        assert f"https://www.youtube.com/watch?v={video}" in lecture.prose, video
    assert not re.search(r"<iframe|<video|YouTubeVideo", lecture.prose + lecture.code)
    if "lab" in lecture.wanted:
        assert re.search(lecture.wanted["lab"], lecture.prose, re.IGNORECASE)


# ---- quizzes ----


def is_hit(answer, value, tolerance):
    """Return whether the numeric `answer` is the one that `value` leads to."""
    if answer["type"] == "value":
        return abs(answer["value"] - value) <= tolerance + 1e-9 * abs(value)
    if answer["type"] == "range":
        return answer["range"][0] <= value < answer["range"][1]
    return False


def tolerance_of(question):
    """Return half a unit of the last digit that must be right, 0 if the answer must be exact."""
    right = abs(next(answer["value"] for answer in question["answers"] if answer.get("correct")))
    digits = question.get("precision")
    return 0.5 * 10.0 ** (math.floor(math.log10(right)) + 1 - digits) if digits and right else 0.0


def test_numbers_are_what_the_code_computes(lecture):
    """The right number, and it alone, equals its expression over the lecture's code."""
    definitions = vars(load_definitions(f"lecture_{lecture.number}_"))
    names = {"np": np, "torch": torch, "math": math} | definitions
    for question in lecture.bank["questions"]:
        if question["type"] != "numeric":
            continue
        value = float(eval(question["computed"], names))
        for answer in question["answers"]:
            hit = is_hit(answer, value, tolerance_of(question))
            right = answer.get("correct", False)
            assert hit == right, f"{question['id']}: computed {value}, answer {answer}"


def test_question_cell_shows_no_answer(lecture):
    """The quiz cell has no word of a question, an answer or its feedback."""
    sources = [cell.source for cell in lecture.nb.cells]
    (cell,) = [source for source in sources if source.startswith("# @title Quiz")]
    for question in lecture.bank["questions"]:
        assert question["question"] not in cell
        for answer in question["answers"]:
            assert answer["feedback"] not in cell
            text = answer.get("answer", "")  # a short one, such as 3, says nothing
            assert len(text) < 8 or text not in cell


def test_stored_quiz_and_cards_are_those_of_the_bank(lecture):
    """The outputs in the notebook, which the pages show, are those of the bank now."""
    scripts = "\n".join(output.get("data", {}).get("application/javascript", "") for output in outputs_of(lecture.nb))

    def data_after(pattern):
        start = re.search(pattern, scripts).end()
        return json.JSONDecoder().raw_decode(scripts, start)[0]

    hidden = ("id", "computed")
    wanted = [questions.shown(item, hidden) for item in lecture.bank["questions"]]
    stale = f"execute the lecture again: make save NOTEBOOK={lecture.path.stem}"
    assert data_after(r"var questions\w+=") == wanted, stale
    cards = data_after(r"el\.dataset\.cards = JSON\.stringify\(")
    terms = {card["front"]: card["back"] for card in cards}
    assert terms == lecture.bank["glossary"], stale


def test_options_do_not_give_themselves_away():
    """Options are few and different; over the bank, the right one is no longer than chance would have it."""
    longest, longer = [], []
    for bank in questions.read_banks().values():
        for question in bank["questions"]:
            if question["type"] == "multiple_choice":
                answers = question["answers"]
                assert 3 <= len(answers) <= 5, question["id"]
                assert len({a["answer"] for a in answers}) == len(answers), question["id"]
                (right,) = [len(a["answer"]) for a in answers if a["correct"]]
                others = [len(a["answer"]) for a in answers if not a["correct"]]
                longest.append(right > max(others))
                longer.append(np.mean([right > other for other in others]))
    assert np.mean(longest) <= 0.25
    assert 0.4 <= np.mean(longer) <= 0.6


TOPICS = (
    "ResNet", "augmentation", "features of a network that was trained on another task", "perplexity", "clipping",
    "encoder-decoder", "dead (dying) ReLU", "weight is shared", "beam search", "BERT",
)  # fmt: skip


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_has_a_question(topic):
    """What the lectures explain at length is asked, too."""
    asked = [question["question"] for bank in questions.read_banks().values() for question in bank["questions"]]
    assert any(topic in text for text in asked)


# ---- pages ----


def test_glossary_page_links_both_ways():
    """Each term has its anchor on the page and in its lectures, with a link there."""
    page = (questions.FOLDER / "glossary.md").read_text(encoding="utf-8")
    for number, bank in questions.read_banks().items():
        path = questions.FOLDER / f"{questions.LECTURES[number]}.ipynb"
        cells = nbformat.read(path, as_version=4).cells
        prose = "\n".join(cell.source for cell in cells)
        for term in bank["glossary"]:
            anchor = questions.anchor(term)
            assert page.count(f'<a id="{anchor}"></a>**{term}**') == 1
            assert f"({path.name}#{anchor})" in page
            assert f'<a id="{anchor}"></a>**{term}**' in prose


def test_review_packs_all_questions():
    """review.ipynb alone holds every question of every bank."""
    lessons = load_definitions("review").LESSONS
    packed = {lesson["lecture"]: lesson["questions"] for lesson in lessons}
    assert packed == {
        number: [questions.shown(question) for question in bank["questions"]]
        for number, bank in questions.read_banks().items()
    }
    for lesson in lessons:
        names = [name for name, _, _ in lesson["cards"]]
        assert sum("-S" in name for name in names) == len(WANTED[lesson["lecture"]]["quiz"])
        assert sum("-T-" in name for name in names) == len(WANTED[lesson["lecture"]]["glossary"])


def test_links_in_outputs_resolve():
    """A relative link in the output of a cell leads to a file."""
    num_links = 0
    for path in questions.FOLDER.glob("*.ipynb"):
        for output in outputs_of(nbformat.read(path, as_version=4)):
            page = output.get("data", {}).get("text/html", "")
            for link in re.findall(r'<a href="([^"#:]+)"', page):
                assert (path.parent / link).exists(), f"{path.name}: {link}"
                num_links += 1
    assert num_links > 0


def test_each_linked_paper_stands_in_the_resources(lecture):
    """A paper with an arXiv number or DOI that a lecture links is on the list of sources, too."""
    listed = nbformat.read(questions.FOLDER / "resources.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in listed.cells).lower()
    papers = set(re.findall(r"\]\(https://(?:arxiv\.org/abs|doi\.org)/([^)\s]+)\)", lecture.prose))
    assert papers and not {paper for paper in papers if paper.lower() not in text}
