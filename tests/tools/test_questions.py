"""The banks are checked, and the cells made from them show what they should."""

import ast
import base64
import copy
import json
import re
import subprocess
import sys
import zlib

import jupytercards
import jupyterquiz
import pytest

from tools import questions
from tools.course import ROOT

QUOTES = 'Says "yes", "no" and "perhaps", and it\'s a back\\slash. '
BANK = {
    "lecture": 1,
    "title": "Neurons",
    "questions": [
        {
            "id": "L1-Q1",
            "question": "One?",
            "type": "multiple_choice",
            "answers": [
                {"answer": "yes", "correct": True, "feedback": "Right."},
                {"answer": "no", "correct": False, "feedback": "Mixed up with none."},
            ],
        },
        {
            "id": "L1-Q2",
            "question": "Which?",
            "type": "many_choice",
            "answers": [
                {"answer": "this", "correct": True, "feedback": "Right."},
                {"answer": "that", "correct": True, "feedback": "Right, too."},
            ],
        },
        {
            "id": "L1-C1",
            "question": "How many?",
            "type": "numeric",
            "precision": 3,
            "computed": "1 + 1",
            "answers": [
                {"type": "value", "value": 2, "correct": True, "feedback": "Right."},
                {"type": "range", "range": [3, 9], "correct": False, "feedback": "Too many."},
                {"type": "default", "feedback": "Count again."},
            ],
        },
    ],
    "glossary": {
        "ReLU": "The function max(0, z), which is 0 below 0 and z above.",
        "Sum": "A long definition, " * 12,
        "Oja's rule": QUOTES * 4,
        'A "fit"': 'A word in "marks", and "again".',
        "Σ": "x" * 76,
    },
}


def write_bank(folder, bank):
    """Write `bank` as the bank of its lecture in `folder`; return the file."""
    path = folder / f"lecture_{bank['lecture']}.json"
    path.write_text(json.dumps(bank), encoding="utf-8")
    return path


# ---- banks ----


def test_the_banks_of_the_course_are_right():
    """There is one for each lecture."""
    assert list(questions.read_banks()) == list(questions.LECTURES)


def test_a_right_bank_comes_back(tmp_path):
    """What is read is what the file holds."""
    assert questions.read_bank(write_bank(tmp_path, BANK)) == BANK
    assert questions.read_banks(tmp_path) == {1: BANK}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b, q: b.pop("title"), r"top level: 'title' is a required"),
        (lambda b, q: b.update(lecture="1"), r"lecture: '1' is not of type 'integer'"),
        (lambda b, q: b.update(lecture=2), r"lecture: 2 is not the number in the file"),
        (lambda b, q: q.append(3), r"questions\[3\]: 3 is not of type 'object'"),
        (lambda b, q: q[0].pop("id"), r"questions\[0\]: 'id' is a required property"),
        (lambda b, q: q[0].update(id="Q1"), r"Q1, id: 'Q1' does not match"),
        (lambda b, q: q[0].update(id="L2-Q1"), r"L2-Q1: the id must start with L1-"),
        (lambda b, q: q[2].update(id="L1-Q1"), r"L1-Q1: the id is used twice"),
        (lambda b, q: q[0].update(type="radio"), r"L1-Q1, type: 'radio' is not one of"),
        (lambda b, q: q[0].update(computed="1"), r"L1-Q1: .*'computed' was unexpected"),
        (lambda b, q: q[0].update(question=" "), r"L1-Q1, question: ' ' does not mat"),
        (lambda b, q: q[0]["answers"][1].pop("feedback"), r"L1-Q1, answers\[1\]: 'feedback' is a required property"),
        (
            lambda b, q: q[0]["answers"][1].update(correct=True),
            r"L1-Q1, answers: multiple_choice with 2 answers that are correct",
        ),
        (
            lambda b, q: q[0]["answers"][0].update(correct=False),
            r"L1-Q1, answers: multiple_choice with 0 answers that are correct",
        ),
        (
            lambda b, q: q[1]["answers"][0].update(correct=False),
            r"L1-Q2, answers: many_choice with 1 answers that are correct",
        ),
        (
            lambda b, q: q[2]["answers"][0].update(correct=False),
            r"L1-C1, answers: numeric with 0 answers that are correct",
        ),
        (lambda b, q: q[2].pop("computed"), r"L1-C1: 'computed' is a required"),
        (lambda b, q: q[2].update(precision=1), r"L1-C1, precision: 1 is less than"),
        (lambda b, q: q[2]["answers"].pop(), r"L1-C1, answers: 0 of the type 'default"),
        (lambda b, q: q[2]["answers"][0].update(type="many"), r"L1-C1, answers\[0\]\.type: 'many' is not one of"),
        (lambda b, q: q[2]["answers"][1].update(range=[1]), r"L1-C1, answers\[1\]\.range: \[1\] is too short"),
        (lambda b, q: q[2]["answers"][1].update(correct=True), r"L1-C1, answers\[1\]\.correct: False was expected"),
        (lambda b, q: b["glossary"].update(ReLU=""), r"glossary.ReLU: '' does not mat"),
    ],
)
def test_malformed_banks_are_explained(tmp_path, change, message):
    """The message names the file, the question and the field."""
    bank = copy.deepcopy(BANK)
    path = write_bank(tmp_path, BANK)
    change(bank, bank["questions"])
    path.write_text(json.dumps(bank), encoding="utf-8")
    with pytest.raises(questions.BankError, match=f"lecture_1.json: {message}"):
        questions.read_banks(tmp_path)


def test_broken_json_is_located(tmp_path):
    """A bank that is not JSON is reported with line and column."""
    path = tmp_path / "lecture_1.json"
    path.write_text('{"lecture": 1,\n "title" 2}', encoding="utf-8")
    message = r"lecture_1.json: line 2, column 10: not JSON"
    with pytest.raises(questions.BankError, match=message):
        questions.read_bank(path)


def test_two_definitions_of_one_term_are_refused(tmp_path):
    """A term that two banks define differently is named, with both files."""
    write_bank(tmp_path, BANK)
    other = {"lecture": 2, "questions": [], "glossary": {"ReLU": "Something else."}}
    write_bank(tmp_path, BANK | other)
    message = r"lecture_2.json: glossary, ReLU: lecture_1.json has another definition"
    with pytest.raises(questions.BankError, match=message):
        questions.read_banks(tmp_path)


# ---- cells ----


def without_ids(bank):
    """Return the questions of `bank` with those fields only that a quiz shows."""
    return [
        {key: value for key, value in question.items() if key not in ("id", "computed")}
        for question in bank["questions"]
    ]


def shown_by(source, module, name, monkeypatch):
    """Execute the cell `source`; return (arguments, options) of its call of `name`."""
    calls = []
    monkeypatch.setattr(module, name, lambda *a, **options: calls.append((a, options)))
    exec(compile(source, "cell", "exec"), {})
    (call,) = calls
    return call


def test_quiz_cell_needs_no_other_cell(monkeypatch):
    """It shows the questions without their ids and expressions, and hides the words; the ids go beside them."""
    source = questions.quiz_cell(BANK)
    call = shown_by(source, jupyterquiz, "display_quiz", monkeypatch)
    options = {"border_radius": 6, "question_alignment": "left", "max_width": 760}
    options["colors"] = {"--items": "L1-Q1 L1-Q2 L1-C1"}
    assert call == ((without_ids(BANK),), options)
    (packed,) = re.findall(r'QUIZ = "(.*)"', source)
    script = (questions.BANK / "quiz.js").read_text(encoding="utf-8")
    assert questions.unpack(packed) == [without_ids(BANK), "L1-Q1 L1-Q2 L1-C1", script]
    for word in ("One?", "Mixed up", "Count again"):
        assert word not in source


def test_cards_cell_needs_no_other_cell(monkeypatch):
    """It shows each term with its definition, letter by letter, in lines that fit."""
    source = questions.cards_cell(BANK)
    (cards,), _ = shown_by(source, jupytercards, "display_flashcards", monkeypatch)
    assert {card["front"]: card["back"] for card in cards} == BANK["glossary"]
    assert max(map(len, source.splitlines())) <= questions.LINE


def test_review_cell_defines_the_lessons():
    """LESSONS has all lectures in order, their questions with ids, not expressions."""
    names = {}
    exec(questions.review_cell({2: BANK | {"title": "Second"}, 1: BANK}), names)
    assert [lesson["title"] for lesson in names["LESSONS"]] == ["Neurons", "Second"]
    asked = names["LESSONS"][0]["questions"]
    assert [question["id"] for question in asked] == ["L1-Q1", "L1-Q2", "L1-C1"]
    assert "computed" not in asked[2] and asked[:2] == BANK["questions"][:2]


def test_code_is_as_ruff_formats_it():
    """`make test` formats the notebooks, too, and must find nothing to change."""
    cells = (questions.quiz_cell(BANK), questions.cards_cell(BANK))
    command = [sys.executable, "-m", "ruff", "format", "--line-length=88"]
    command += ["--config", str(ROOT / "pyproject.toml"), "-"]
    options = {"capture_output": True, "encoding": "utf-8", "check": True}
    for source in (*cells, questions.review_cell({1: BANK})):
        result = subprocess.run(command, input=source + "\n", **options)
        assert result.stdout == source + "\n"


@pytest.mark.parametrize("text", ["plain", "it's", '"a"', QUOTES, "\\", "λ\n\t"])
def test_literals_are_the_text(text):
    """A string in the source is read as the text it was made from."""
    assert ast.literal_eval(questions.literal(text)) == text


def test_agreement_does_not_depend_on_the_compression():
    """The same data packed by another zlib agree; other data and other code do not."""
    source = questions.quiz_cell(BANK)
    (packed,) = re.findall(r'QUIZ = "(.*)"', source)
    raw = zlib.compress(zlib.decompress(base64.b64decode(packed)), 1)
    other = source.replace(packed, base64.b64encode(raw).decode())
    assert other != source and questions.agrees(other, source)
    changed = BANK | {"questions": BANK["questions"][:2]}
    assert not questions.agrees(questions.quiz_cell(changed), source)
    assert not questions.agrees(source.replace("760", "800"), source)
    assert not questions.agrees(source.replace(packed, "A" * 80), source)
    assert not questions.agrees('QUIZ = "old"', source)


def test_every_lecture_gets_its_cells():
    """Quiz, glossary and cards of each lecture, and the questions of the review."""
    wanted = questions.wanted_cells(questions.read_banks())
    assert list(wanted) == [*questions.LECTURES.values(), "review"]
    for stem, cells in wanted.items():
        kinds = [kind for kind, _, _ in cells]
        assert kinds == (["code"] if stem == "review" else ["code", "markdown", "code"])
        for kind, start, source in cells:
            assert source.startswith(start)
            assert start.startswith("# @title ") == (kind == "code")


def test_glossary_page_has_each_term_once():
    """Terms stand in alphabetical order, each with links to all of its lectures."""
    second = BANK | {"lecture": 2, "glossary": {"ReLU": BANK["glossary"]["ReLU"]}}
    page = questions.glossary_page({1: BANK, 2: second})
    terms = re.findall(r"\*\*(.*?)\*\*", page)
    assert terms == ["Σ", 'A "fit"', "Oja's rule", "ReLU", "Sum"]
    first, other = (f"{questions.LECTURES[number]}.ipynb" for number in (1, 2))
    assert f"(Lectures [1]({first}#relu), [2]({other}#relu))" in page
    assert f"(Lecture [1]({first}#oja-s-rule))" in page
    assert f"All {len(terms)} terms" in page
