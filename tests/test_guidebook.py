"""The guidebook holds what its specification lists, its quizzes are right, and its pages agree with the banks."""

import ast
import json
import math
import re

import guidebook
import guidebook_page
import nbformat
import numpy as np
import pytest
import run_notebooks
import torch
from notebook_loader import ROOT, load_definitions

SPECIFICATION = json.loads((ROOT / "tests" / "guidebook" / "specification.json").read_text(encoding="utf-8"))
WANTED = {int(number): wanted for number, wanted in SPECIFICATION["lectures"].items()}
WIDGET = "application/vnd.jupyter.widget-view+json"
RUBRIC = ("claims", "evidence", "trade-offs", "limits")


class Lecture:
    """One lecture: its notebook, its bank, and what the specification wants of it."""

    def __init__(self, number):
        self.number, self.wanted = number, WANTED[number]
        self.path = guidebook.FOLDER / f"{self.wanted['file']}.ipynb"
        if not self.path.exists():
            pytest.skip(f"{self.path.name} is not written yet")
        self.nb = nbformat.read(self.path, as_version=4)
        self.bank = guidebook.read_banks()[number]
        self.prose = "\n\n".join(cell.source for cell in self.nb.cells if cell.cell_type == "markdown")
        self.code = "\n".join(cell.source for cell in self.nb.cells if cell.cell_type == "code")

    def section(self, title):
        """Return the prose from the heading that contains `title` to the next one of the same or a higher level."""
        match = re.search(rf"^(#+) [^\n]*{title}[^\n]*\n", self.prose, re.MULTILINE | re.IGNORECASE)
        assert match, f"{self.path.name} has no section '{title}'"
        rest = self.prose[match.end() :]
        end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
        return rest[: end.start()] if end else rest


@pytest.fixture(scope="module", params=sorted(WANTED), ids=lambda number: f"lecture_{number}")
def lecture(request):
    """Return each lecture in turn; one that does not exist yet is skipped."""
    return Lecture(request.param)


def test_the_list_is_complete():
    """The list has the numbers that the specification gives: 30 questions, 19 essays, 57 entries, 22 figures."""
    for part, total in SPECIFICATION["totals"].items():
        assert sum(len(wanted[part]) for wanted in WANTED.values()) == total
    assert [wanted["file"] for _, wanted in sorted(WANTED.items())] == list(guidebook.LECTURES.values())


# ---- content ----


def test_figures_and_additions(lecture):
    """Each figure and each addition is drawn by code through save_figure, under its prefix."""
    names = re.findall(r"save_figure\(\s*\w+,\s*f?[\"'](\w+)", lecture.code)
    for prefix in lecture.wanted["figures"] + lecture.wanted["additions"]:
        assert any(re.match(rf"{prefix}(_|$)", name) for name in names), f"no figure {prefix}_... among {names}"
    pictures = [o for c in lecture.nb.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) >= len(lecture.wanted["figures"] + lecture.wanted["additions"])


def test_something_moves(lecture):
    """The reader can move at least one figure."""
    assert any(WIDGET in output.get("data", {}) for cell in lecture.nb.cells for output in cell.get("outputs", []))


def test_every_question_has_a_twin_and_an_open_form(lecture):
    """Each question of the specification is in the quiz, and again in your own words with a folded answer."""
    ids = [question["id"] for question in lecture.bank["questions"]]
    for number in lecture.wanted["quiz"]:
        assert any(re.fullmatch(rf"L{lecture.number}-Q{number}[a-z]?", name) for name in ids), f"question {number}"
    assert lecture.section("in your own words").count("<details>") >= len(lecture.wanted["quiz"])


def test_every_check_is_a_numeric_item(lecture):
    """Each number of the specification's Check line is the right answer of a numeric item of its own."""
    checks = [question for question in lecture.bank["questions"] if "-C" in question["id"]]
    values = [next(a["value"] for a in question["answers"] if a.get("correct")) for question in checks]
    for wanted in lecture.wanted["checks"]:
        match = next((v for v in values if math.isclose(v, wanted, rel_tol=1e-9, abs_tol=1e-12)), None)
        match = match if match is not None else next((v for v in values if math.isclose(v, wanted, rel_tol=5e-3)), None)
        assert match is not None, f"no numeric item for {wanted} among {values}"
        values.remove(match)


def test_essays_have_rubrics(lecture):
    """Each essay prompt is there, with a folded rubric of four parts."""
    section = lecture.section("essay prompts")
    for phrase in lecture.wanted["essays"]:
        assert re.search(phrase, section, re.IGNORECASE | re.DOTALL), phrase
    rubrics = re.findall(r"<details>(.*?)</details>", section, re.DOTALL)
    assert len(rubrics) >= len(lecture.wanted["essays"])
    for rubric in rubrics:
        assert all(re.search(part, rubric, re.IGNORECASE) for part in RUBRIC), rubric[:100]


def test_glossary_is_complete(lecture):
    """The lecture's glossary has exactly the terms of the specification."""
    assert sorted(lecture.bank["glossary"]) == sorted(lecture.wanted["glossary"])


def test_videos_and_links(lecture):
    """Each video is linked, nothing is embedded, and the experiment that puts it to work is named."""
    for video in lecture.wanted["videos"]:
        assert f"https://www.youtube.com/watch?v={video}" in lecture.prose, video
    assert not re.search(r"<iframe|<video|YouTubeVideo", lecture.prose + lecture.code)
    assert re.search(lecture.wanted.get("lab", ""), lecture.prose, re.IGNORECASE)


# ---- quizzes ----


def test_numbers_are_what_the_code_computes(lecture):
    """Each numeric answer, and it alone, equals its expression, evaluated with the lecture's own definitions."""
    names = {"np": np, "torch": torch, "math": math} | vars(load_definitions(f"lecture_{lecture.number}_"))
    for question in lecture.bank["questions"]:
        if question["type"] != "numeric":
            continue
        value = float(eval(question["computed"], names))
        digits = question.get("precision", 12)
        for answer in question["answers"]:
            hit = "value" in answer and float(f"{answer['value']:.{digits}g}") == float(f"{value:.{digits}g}")
            hit = hit or ("range" in answer and answer["range"][0] <= value < answer["range"][1])
            assert hit == bool(answer.get("correct")), f"{question['id']}: computed {value}, answer {answer}"


def test_question_cell_shows_no_answer(lecture):
    """The source of the quiz cell has no word of a question, an answer or its feedback."""
    (cell,) = [cell.source for cell in lecture.nb.cells if cell.source.startswith('QUIZ = "')]
    for question in lecture.bank["questions"]:
        for text in [question["question"], *(a.get("answer", a["feedback"]) for a in question["answers"])]:
            assert len(text) < 8 or text not in cell


def test_stored_quiz_and_cards_are_those_of_the_bank(lecture):
    """The outputs in the notebook, which the pages show, were made from the bank as it is now."""
    outputs = [o for cell in lecture.nb.cells for o in cell.get("outputs", [])]
    scripts = "\n".join(output.get("data", {}).get("application/javascript", "") for output in outputs)
    questions = json.JSONDecoder().raw_decode(scripts, re.search(r"var questions\w+=", scripts).end())[0]
    wanted = [{k: v for k, v in q.items() if k not in ("id", "computed")} for q in lecture.bank["questions"]]
    assert questions == wanted, "execute the lecture again: make save NOTEBOOK=lecture_..."
    start = re.search(r"el\.dataset\.cards = JSON\.stringify\(", scripts).end()
    cards = json.JSONDecoder().raw_decode(scripts, start)[0]
    assert {card["front"]: card["back"] for card in cards} == lecture.bank["glossary"]


def test_options_do_not_give_themselves_away(lecture):
    """Options are few and different, and the right one is not always clearly the longest."""
    longest = []
    for question in lecture.bank["questions"]:
        if question["type"] == "multiple_choice":
            options = [answer["answer"] for answer in question["answers"]]
            assert 3 <= len(options) <= 5 and len(set(options)) == len(options), question["id"]
            right, *wrong = sorted(question["answers"], key=lambda answer: not answer["correct"])
            longest.append(len(right["answer"]) > 1.15 * max(len(answer["answer"]) for answer in wrong))
    assert not all(longest)


# ---- pages ----


def test_everything_is_in_step_with_the_banks():
    """Quizzes, glossaries, flash cards, the questions of the review and the glossary page are up to date."""
    assert guidebook.synchronize() == [], "repair with: python scripts/guidebook.py --sync"


def test_glossary_page_links_both_ways():
    """Each term on the page has its anchor and a link to each of its lectures, where the anchor is, too."""
    page = (guidebook.FOLDER / "glossary.md").read_text(encoding="utf-8")
    for number, bank in guidebook.read_banks().items():
        path = guidebook.FOLDER / f"{guidebook.LECTURES[number]}.ipynb"
        for term in bank["glossary"]:
            assert page.count(f'<a id="{guidebook.anchor(term)}"></a>**{term}**') == 1
            assert f"({path.name}#{guidebook.anchor(term)})" in page
            if path.exists():
                cells = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
                assert f'<a id="{guidebook.anchor(term)}"></a>**{term}**' in cells


def test_review_packs_all_questions():
    """review.ipynb alone holds every question of every bank."""
    lessons = load_definitions("review").LESSONS
    assert {lesson["lecture"]: lesson["questions"] for lesson in lessons} == {
        number: bank["questions"] for number, bank in guidebook.read_banks().items()
    }


@pytest.fixture(scope="module")
def document():
    """Return the single document as text."""
    return guidebook_page.make_page(guidebook.FOLDER, [*guidebook.LECTURES.values(), "resources", "glossary", "review"])


def test_document_asks_nobody_else(document):
    """No script, style, font, picture or request of the document names another host, and its policy forbids it."""
    assert 'http-equiv="Content-Security-Policy"' in document and "default-src 'none'" in document
    loading = (
        r"<(?:script|img|iframe|link|source|audio|video|embed|object)\b[^>]*?(?:src|href|data)=[\"']?(?!data:)(\w+:)?//"
    )
    for pattern in (loading, r"@import", r"url\(\s*[\"']?https?:", r"\.src\s*=\s*['\"]https?:", r"fetch\(['\"]http"):
        assert not re.search(pattern, document), pattern


def test_document_links_resolve(document):
    """Each link within the document has its target, and links to other files lead to the repository's page."""
    ids = set(re.findall(r'\bid="([^"]+)"', document))
    links = re.findall(r'<a\b[^>]*?href="([^"]+)"', re.sub(r"<script>.*?</script>", "", document, flags=re.DOTALL))
    assert len(links) > 100
    assert [link for link in links if link.startswith("#") and link[1:] not in ids] == []
    for link in links:
        assert re.match(r"#|https?://|mailto:", link), link
        if found := re.match(r"https://github\.com/[\w.-]+/course/blob/main/([^#]+)", link):
            assert (ROOT / found[1]).exists() or "lecture_" in link, link


def test_document_has_formulas_and_no_bare_ones(document):
    """Formulas are MathML; none is left as TeX between dollar signs."""
    assert document.count("<math") > 50
    prose = re.sub(r"<(script|style|pre|code|annotation)\b.*?</\1>", "", document, flags=re.DOTALL)
    assert not re.search(r"\$[^$\n]{1,80}\\[a-z]+", prose)


def test_links_in_outputs_resolve():
    """A relative link in the output of a cell leads to a file, or to a lecture that is still to be written."""
    for path in guidebook.FOLDER.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                for link in re.findall(r'<a href="([^"#:]+)"', output.get("data", {}).get("text/html", "")):
                    assert (path.parent / link).exists() or link.startswith("lecture_"), link


def test_pages_of_make_run_need_no_other_host():
    """A page has no widget, no picture of another host, no packed questions, and keeps its alternative texts."""
    badge = "[![Open In Colab](https://colab.research.google.com/badge.svg)](https://colab.research.google.com/x)"
    alt = {"image/png": {"alt": "A < B"}}
    outputs = [
        nbformat.v4.new_output("display_data", data={WIDGET: {"model_id": "1"}, "text/plain": "IntSlider()"}),
        nbformat.v4.new_output("display_data", data={"image/png": "iVBORw0KGgo="}, metadata=alt),
    ]
    code = nbformat.v4.new_code_cell(f'QUIZ = "{"x" * 400}"', outputs=outputs)
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(badge), code])
    nb.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    page = run_notebooks.as_html(nb, "title")
    assert "unpkg" not in page and "badge.svg" not in page and "Open In Colab" in page
    assert "x" * 400 not in page and run_notebooks.STATIC in page and 'alt="A &lt; B"' in page
    assert "widgets" in nb.metadata and WIDGET in nb.cells[1].outputs[0].data


# ---- the tool itself ----

BANK = {
    "lecture": 1,
    "title": "Neurons",
    "questions": [
        {
            "id": "L1-Q1", "question": "One?", "type": "multiple_choice",
            "answers": [
                {"answer": "yes", "correct": True, "feedback": "Right."},
                {"answer": "no", "correct": False, "feedback": "That mixes up one and none."},
            ],
        },
        {
            "id": "L1-C1", "question": "How many?", "type": "numeric", "precision": 3, "computed": "1 + 1",
            "answers": [
                {"type": "value", "value": 2, "correct": True, "feedback": "Right."},
                {"type": "default", "feedback": "Count again."},
            ],
        },
    ],
    "glossary": {"ReLU": "The function max(0, z).", "Sum": "A long definition, " * 12},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Return a guidebook folder with one bank, and one lecture and a review whose generated cells are out of date."""
    (tmp_path / "bank").mkdir()
    write_bank(tmp_path, BANK)
    old = ['QUIZ = "old"  # noqa: E501\nshow_quiz(QUIZ)', "GLOSSARY = {}\nshow_cards(GLOSSARY)"]
    cells = [nbformat.v4.new_markdown_cell("# Title"), *map(nbformat.v4.new_code_cell, old)]
    cells.append(nbformat.v4.new_markdown_cell('- <a id="old"></a>**Old**: gone'))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"{guidebook.LECTURES[1]}.ipynb")
    review = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('BANKS = "old"')])
    nbformat.write(review, tmp_path / "review.ipynb")
    return tmp_path


def write_bank(folder, bank):
    """Write `bank` as the bank of its lecture in `folder`."""
    (folder / "bank" / f"lecture_{bank['lecture']}.json").write_text(json.dumps(bank), encoding="utf-8")


def test_sync_reports_then_repairs(folder):
    """Without writing, each part that is out of date is named; after writing, nothing is left to do."""
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    problems = guidebook.synchronize(folder)
    assert len(problems) == 5
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    guidebook.synchronize(folder, write=True)
    assert guidebook.synchronize(folder) == []
    cells = nbformat.read(folder / f"{guidebook.LECTURES[1]}.ipynb", as_version=4).cells
    assert ast.literal_eval(cells[2].source.split("=", 1)[1].rsplit("\n", 1)[0].strip()) == BANK["glossary"]
    assert max(map(len, cells[2].source.splitlines())) <= guidebook.LINE
    assert '<a id="relu"></a>**ReLU**' in (folder / "glossary.md").read_text(encoding="utf-8")


def test_sync_names_a_missing_cell(folder):
    """A lecture without a cell for its quiz is reported, and stays reported after writing."""
    path = folder / f"{guidebook.LECTURES[1]}.ipynb"
    nb = nbformat.read(path, as_version=4)
    del nb.cells[1]
    nbformat.write(nb, path)
    guidebook.synchronize(folder, write=True)
    assert guidebook.synchronize(folder) == [f"{path.name}: needs exactly one cell with its quiz"]


def test_two_definitions_of_one_term_are_refused(folder):
    """A term that two banks define differently is named, with both files."""
    write_bank(folder, BANK | {"lecture": 2, "questions": [], "glossary": {"ReLU": "Something else."}})
    with pytest.raises(guidebook.BankError, match=r"lecture_2.json: glossary, ReLU: .* same as in lecture_1.json"):
        guidebook.read_banks(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q: q[0].update(id="Q1"), r"lecture_1.json: Q1: 'id' must be like L1-Q1"),
        (lambda q: q[1].update(id="L1-Q1"), r"L1-Q1: 'correct'|L1-Q1: 'id' must be not used twice"),
        (lambda q: q[0].update(type="radio"), r"L1-Q1: 'type' must be one of multiple_choice"),
        (lambda q: q[0]["answers"][1].pop("feedback"), r"L1-Q1: 'feedback' must be a text"),
        (lambda q: q[0]["answers"][1].update(correct=True), r"L1-Q1: 'correct' must be true in one answer"),
        (lambda q: q[1].pop("computed"), r"L1-C1: 'computed' must be a Python expression"),
        (lambda q: q[1]["answers"].pop(), r"L1-C1: 'answers' must be a list of two"),
        (lambda q: q[1]["answers"][1].update(type="range"), r"L1-C1: 'type' must be 'default' in one answer"),
    ],
)
def test_malformed_banks_are_explained(folder, change, message):
    """The message names the file, the question and the field."""
    bank = json.loads(json.dumps(BANK))
    change(bank["questions"])
    write_bank(folder, bank)
    with pytest.raises(guidebook.BankError, match=message):
        guidebook.read_banks(folder)


def test_broken_json_is_located(folder):
    """A bank that is not JSON is reported with line and column."""
    (folder / "bank" / "lecture_1.json").write_text('{"lecture": 1,\n "title" 2}')
    with pytest.raises(guidebook.BankError, match=r"lecture_1.json: not JSON, line 2, column 10"):
        guidebook.read_banks(folder)
