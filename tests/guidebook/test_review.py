"""The review page: its progress file, the order of what is due, the marking, and its buttons."""

import json
import sqlite3
import zipfile
from datetime import UTC, datetime, timedelta, timezone

import pytest
from fsrs import Rating

from tools.definitions import load_definitions

NOW = datetime(2026, 3, 1, 20, tzinfo=UTC)


def question(name, kind, text, *answers):
    """Return a question as in the bank; each answer is (text, whether it is right, feedback)."""
    answers = [dict(zip(("answer", "correct", "feedback"), answer)) for answer in answers]
    return {"id": name, "question": text, "type": kind, "answers": answers}


CHOICE = question(
    "L1-Q1", "multiple_choice", "Which?",
    ("right", True, "Yes."), ("wrong", False, "That is the other one."), ("odd", False, "That is neither."),
)  # fmt: skip
MANY = question(
    "L1-Q2", "many_choice", "Which two?",
    ("a", True, "a fits."), ("b", True, "b fits."), ("c", False, "c does not."),
)  # fmt: skip
NUMBER = {
    "id": "L2-C1", "question": "How much?", "type": "numeric", "precision": 3,
    "answers": [
        {"type": "value", "value": 0.525, "correct": True, "feedback": "Yes."},
        {"type": "range", "range": [0.09, 0.11], "correct": False, "feedback": "That is z."},
        {"type": "default", "feedback": "Compute z first."},
    ],
}  # fmt: skip
RECALL = {"id": "L3-T-epoch", "question": "Epoch", "type": "recall", "answers": [], "back": "One pass."}
QUESTIONS = {question["id"]: question for question in (CHOICE, MANY, NUMBER)}


@pytest.fixture(scope="module")
def review(tmp_path_factory):
    """Return the definitions of the notebook; its folders are made in a temporary place."""
    return load_definitions("review", tmp_path_factory.mktemp("root"))


@pytest.fixture
def path(tmp_path):
    """Return where a progress file would be; there is none on the first day."""
    return tmp_path / "data" / "progress.json"


def entry(name, days_ago, rating=Rating.Good):
    """Return an answer to `name`, given that many days before NOW."""
    return [name, (NOW - timedelta(days=days_ago)).isoformat(), int(rating)]


# ---- the progress file ----


def test_first_day_works_without_a_file(review, path):
    """Without a file there are no answers, all questions are new, and nothing is written by looking."""
    answers, message = review.load_answers(path)
    assert answers == [] and "first day" in message
    assert review.due_now(answers, QUESTIONS, NOW) == list(QUESTIONS)[: review.NEW_PER_DAY]
    assert not path.parent.exists()


def test_answers_are_recorded_and_read_again(review, path):
    """What is recorded comes back in order, and each record adds to what the file has."""
    review.record_answers(path, [entry("L1-Q1", 1)])
    answers = review.record_answers(path, [entry("L1-Q2", 0, Rating.Again)])
    assert review.load_answers(path)[0] == answers
    assert [(name, rating) for name, _, rating in answers] == [("L1-Q1", 3), ("L1-Q2", 1)]


@pytest.mark.parametrize(
    "content",
    [b"", b'{"answers": [["L1-Q1", "2026-', b"\xff\xfe\x00", b"[]", b'{"answers": 3}', b'{"cards": []}',
     b'{"answers": [["L1-Q1", "2026-03-01T20:00:00", 3]]}', b'{"answers": [["L1-Q1", "2026-03-01T20:00:00+00:00", 7]]}',
     b'{"answers": [["L1-Q1", 5, 3]]}', b'{"answers": [[1, 2]]}',
     b'{"answers": [["L1-Q1", "2026-03-01T20:00:00+00:00", 3, "exam"]]}'],
)  # fmt: skip
def test_a_damaged_file_is_put_aside_and_kept(review, path, content):
    """Each kind of damage leads to a message, an empty list, and an untouched copy, also the second time."""
    for number in (1, 2):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        answers, message = review.load_answers(path)
        assert answers == [] and f"progress.json.damaged-{number}" in message
        assert (path.parent / f"progress.json.damaged-{number}").read_bytes() == content
    review.record_answers(path, [entry("L1-Q1", 0)])
    assert len(review.load_answers(path)[0]) == 1


def test_a_file_that_cannot_be_put_aside_is_not_overwritten(review, path, monkeypatch):
    """If the damaged file cannot be renamed, recording fails and leaves it as it is."""
    path.parent.mkdir()
    path.write_bytes(b"damaged")
    monkeypatch.setattr(type(path), "rename", lambda *_: (_ for _ in ()).throw(PermissionError("read-only")))
    with pytest.raises(PermissionError):
        review.record_answers(path, [entry("L1-Q1", 0)])
    assert path.read_bytes() == b"damaged"


def test_an_interrupted_write_leaves_the_old_file(review, path, monkeypatch):
    """A crash before the last step keeps the old answers, and the error reaches the reader."""
    review.record_answers(path, [entry("L1-Q1", 0)])
    before = path.read_bytes()
    monkeypatch.setattr(type(path), "replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space"):
        review.record_answers(path, [entry("L1-Q2", 0)])
    assert path.read_bytes() == before


# ---- what is due ----


def test_due_order_is_weakest_first_then_new(review):
    """Of the due questions the one with the lowest recall comes first; new ones follow; fresh ones wait."""
    answers = [entry("L1-Q1", 30), entry("L1-Q2", 60)]
    assert review.due_now(answers, QUESTIONS, NOW) == ["L1-Q2", "L1-Q1", "L2-C1"]
    just_now = [*answers, entry("L1-Q2", 0)]
    assert review.due_now(just_now, QUESTIONS, NOW) == ["L1-Q1", "L2-C1"]


def test_a_wrong_answer_comes_back_in_this_sitting(review):
    """A failed card waits minutes, so it comes last today, and not "tomorrow"; a known one waits days."""
    wrong = [entry("L1-Q1", 0, Rating.Again)]
    assert review.due_now(wrong, QUESTIONS, NOW) == ["L1-Q2", "L1-Q1"]
    assert "L1-Q1" not in review.due_now([entry("L1-Q1", 0)], QUESTIONS, NOW)
    relearn = [entry("L1-Q1", 30), entry("L1-Q1", 0, Rating.Again)]
    assert review.due_now(relearn, {"L1-Q1": CHOICE}, NOW) == ["L1-Q1"]


def test_the_day_is_the_readers(review):
    """A card is due from four in the morning of its day on, in the reader's time zone, whatever the hour."""
    zone = timezone(timedelta(hours=9))
    evening = datetime(2026, 3, 1, 23, tzinfo=zone)  # 14 hours UTC
    answers = [["L1-Q1", evening.isoformat(), 3]]
    (card,) = review.replay(answers, QUESTIONS)[0].values()
    morning = card.due.astimezone(zone).replace(hour=4, minute=1)
    assert morning < card.due
    assert review.is_due(card, morning) and not review.is_due(card, morning - timedelta(minutes=2))


def test_a_day_asks_for_few_cards(review):
    """At most PER_DAY cards, NEW_PER_DAY new ones; those begun today count, and the reader may ask for more."""
    names = {f"L1-Q{number}": CHOICE for number in range(1, 40)}
    assert len(review.due_now([], names, NOW)) == review.NEW_PER_DAY
    assert len(review.due_now([], names, NOW, extra=5)) == review.NEW_PER_DAY + 5
    today = [entry("L1-Q1", 0, Rating.Easy)]
    assert len(review.due_now(today, names, NOW)) == review.NEW_PER_DAY - 1
    pile = [entry(name, 60) for name in list(names)[:20]]
    assert len(review.due_now(pile, names, NOW)) == review.PER_DAY
    assert not set(review.due_now(pile, names, NOW)) - set(list(names)[:20])


def test_quizzes_are_no_part_of_the_day(review):
    """Eleven answers in a lecture's quiz leave room for six cards, two of them new; what failed takes its turn."""
    names = {f"L1-Q{number}": CHOICE for number in range(1, 40)}
    quiz = [[*entry(name, 0.1), "quiz"] for name in list(names)[:11]]
    assert review.due_now(quiz, names, NOW) == ["L1-Q12", "L1-Q13"]
    assert len(review.due_now(quiz, names, NOW, extra=6)) == 8
    failed = [[*entry(name, 0.1, Rating.Again), "quiz"] for name in list(names)[:11]]
    assert review.due_now(failed, names, NOW) == list(names)[: review.PER_DAY]
    reviewed = [*failed, *(entry(name, 0) for name in list(names)[: review.PER_DAY])]
    assert review.due_now(reviewed, names, NOW) == []


def test_unknown_questions_do_not_disturb(review):
    """Answers to a question that no longer exists are ignored, and the order of the file does not matter."""
    answers = [entry("L1-Q1", 1), entry("L9-Q77", 3), entry("L1-Q1", 5)]
    cards, tally = review.replay(answers, QUESTIONS)
    assert set(cards) == {"L1-Q1"} and tally == {"L1-Q1": [2, 0]}
    assert review.replay(answers[::-1], QUESTIONS)[0] == cards


def test_tables_of_weakness(review):
    """The tables count what was seen and wrong, and name the question with the lowest recall first."""
    answers = [entry("L1-Q1", 2), entry("L1-Q2", 2, Rating.Again)]
    table = review.by_lecture(answers, QUESTIONS, NOW)
    assert table.loc[1, ["cards", "seen", "wrong"]].tolist() == [2, 2, 1]
    assert table.loc[2, "seen"] == 0 and table.loc[2, "recall"] != table.loc[2, "recall"]
    assert review.weakest(answers, QUESTIONS, NOW, num=1).index.tolist() == ["L1-Q2"]
    assert review.weakest([], QUESTIONS, NOW).empty


def test_levels_outside_zero_and_one_are_refused(review):
    """days_until inverts retrievability and refuses a level that recall never reaches."""
    assert review.retrievability(review.days_until(0.7, 12.0), 12.0) == pytest.approx(0.7)
    for level in (0, 1, 1.5):
        with pytest.raises(ValueError, match="level"):
            review.days_until(level, 12.0)


# ---- marking ----


@pytest.mark.parametrize(
    ("question", "given", "expected"),
    [
        (CHOICE, [0], (True, "Yes.")),
        (CHOICE, [1], (False, "That is the other one.")),
        (MANY, [0, 1], (True, "a fits. b fits.")),
        (MANY, [0], (False, "a fits. But not all of them are marked.")),
        (MANY, [0, 1, 2], (False, "a fits. b fits. c does not.")),
        (NUMBER, "0.525", (True, "Yes.")),
        (NUMBER, "0.52497", (True, "Yes.")),
        (NUMBER, "21/40", (True, "Yes.")),
        (NUMBER, "0.1", (False, "That is z.")),
        (NUMBER, "0,525", (True, "Yes.")),
        (NUMBER, "0.5256", (False, "Compute z first.")),
        (NUMBER, "−3", (False, "Compute z first.")),
    ],
)
def test_marking(review, question, given, expected):
    """Choices and numbers are marked as the quizzes mark them, with the feedback of what was given."""
    assert review.mark(question, given) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "Type a number"), (" ", "Type a number"), ("abc", "like −0.525"), ("1/0", "like −0.525"),
     ("inf", "like"), ("nan", "like"), ("1_000", "like"), ("21,632", "write 21632 or 21.632")],
)  # fmt: skip
def test_text_that_is_no_number_is_refused(review, text, message):
    """A text that is no number is not 0 and not wrong: an error says how to write one."""
    with pytest.raises(ValueError, match=message):
        review.mark(NUMBER, text)


# ---- the panel ----


@pytest.fixture
def panel(review, path):
    """Return a panel on three questions and a recall card, an absent file and a clock that stands still."""
    cards = {**QUESTIONS, "L3-T-epoch": RECALL}
    return review.ReviewPanel(review.Sitting(cards, path, lambda: NOW))


def visible_rates(panel):
    """Return the labels of the rating buttons that the panel shows."""
    return [button.description[2:] for button in panel.rates.children if button.layout.display is None]


def begin(panel, *lectures):
    """Choose the `lectures` and start."""
    for number in lectures:
        panel.lectures.children[number - 1].value = True
    panel.start.click()


def choose(panel, text):
    """Press the toggle of the option `text` of the present question."""
    answers = panel.sitting.questions[panel.sitting.name]["answers"]
    position = [answers[k]["answer"] for k in panel.sitting.order].index(text)
    panel.options.children[position].value = True


def rates_in(path):
    """Return the ratings in the progress file."""
    return [rating for _, _, rating, *_ in json.loads(path.read_text())["answers"]]


def test_panel_touches_no_file_before_start(panel, path):
    """Showing the panel reads and writes nothing; Start reads, the first rating writes."""
    assert not path.parent.exists()
    begin(panel)
    assert "L1-Q1" in panel.text.value and not path.exists()


def test_only_chosen_lectures_are_asked(panel, path):
    """Without a choice on the first day it is lecture 1; later the lectures that were begun."""
    begin(panel, 2)
    assert panel.sitting.due == ["L2-C1"]
    panel.start.click()
    panel.lectures.children[1].value = False
    panel.start.click()
    assert panel.sitting.lectures == {1}


def test_panel_from_question_to_summary(panel, path):
    """A wrong answer shows the right one and offers Again alone; the card comes back before the end."""
    begin(panel, 1)
    choose(panel, "wrong")
    panel.check.click()
    assert "That is the other one." in panel.note.value and visible_rates(panel) == ["Again"]
    assert "Right is: <b>right</b> (Yes.)" in panel.note.value
    panel.rates.children[0].click()
    for option in ("a", "b"):
        choose(panel, option)
    panel.check.click()
    assert visible_rates(panel) == ["Hard", "Good", "Easy"]
    panel.rates.children[3].click()
    assert panel.sitting.name == "L1-Q1"
    choose(panel, "right")
    panel.check.click()
    panel.rates.children[2].click()
    assert "3 answers, 2 of them right" in panel.text.value and "next card is due on" in panel.text.value
    assert rates_in(path) == [1, 4, 3]


def test_recall_cards_are_graded_by_the_reader(panel):
    """A term is shown, then its definition, then all four ratings."""
    begin(panel, 3)
    assert "Epoch" in panel.text.value and "One pass." not in panel.note.value
    panel.press("Enter")
    assert "One pass." in panel.note.value
    assert visible_rates(panel) == ["Again", "Hard", "Good", "Easy"]
    panel.press("3")
    assert [rating for _, _, rating in panel.sitting.given] == [3]


def test_everything_works_by_keyboard(panel, path):
    """Digits choose and rate, Enter goes on, u takes back."""
    begin(panel, 1)
    right = panel.sitting.order.index(0) + 1
    panel.press(str(right))
    panel.press("Enter")
    panel.press("Enter")
    assert rates_in(path) == [3] and panel.sitting.name == "L1-Q2"
    panel.press("u")
    assert rates_in(path) == [] and panel.sitting.name == "L1-Q1"
    panel.press("u")
    assert "nothing to undo" in panel.note.value


def test_an_answer_that_cannot_be_saved_is_not_lost(panel, path, monkeypatch):
    """The panel says that saving failed, goes on, and writes all answers as soon as it can."""
    begin(panel, 2)
    with monkeypatch.context() as patch:
        patch.setattr(type(path), "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        panel.number.value = "0.525"
        panel.check.click()
        panel.rates.children[2].click()
    assert "Not saved: No space left. 1 answers are kept" in panel.note.value
    assert not path.exists() and "1 answers, 1 of them right" in panel.text.value
    panel.start.click()
    begin(panel, 3)
    panel.check.click()
    panel.rates.children[2].click()
    assert rates_in(path) == [3, 3]


def test_panel_asks_for_a_usable_answer(panel):
    """Check without a choice, or with two of one, explains what is wanted."""
    begin(panel, 1)
    panel.check.click()
    assert "Mark one right answer first" in panel.note.value
    choose(panel, "right")
    choose(panel, "odd")
    panel.check.click()
    assert "Mark one right answer first" in panel.note.value


def kept(name, days_ago, right=True):
    """Return what a browser keeps of an answer to `name` in a lecture's quiz, that many days before NOW."""
    moment = (NOW - timedelta(days=days_ago)).replace(tzinfo=None).isoformat(timespec="milliseconds")
    return [f"course-quiz {name} {moment}Z", str(right).lower()]


@pytest.fixture
def sent(panel, monkeypatch):
    """Return the list of what the panel tells the browser to forget."""
    messages = []
    monkeypatch.setattr(panel.quizzes, "send", lambda content: messages.append(content["forget"]))
    return messages


def test_quizzes_of_lectures_count_once(review, panel, path, sent):
    """Each answer counts at its time, right as Good and wrong as Again; handed over again, it counts no more."""
    handed = [kept("L1-Q2", 1, right=False), kept("L1-Q1", 3)]
    panel.take(handed)
    assert "Taken over from quizzes in lectures: 2." in panel.note.value
    quiz = [[*entry("L1-Q1", 3), "quiz"], [*entry("L1-Q2", 1, Rating.Again), "quiz"]]
    assert review.load_answers(path)[0] == quiz and sent == [[key for key, _ in handed]]
    cards, tally = review.replay(quiz, QUESTIONS)
    assert tally == {"L1-Q1": [1, 0], "L1-Q2": [0, 1]}
    assert cards["L1-Q1"].last_review == NOW - timedelta(days=3)
    note = panel.note.value
    panel.take(handed)
    assert review.load_answers(path)[0] == quiz and panel.note.value == note
    begin(panel)
    assert panel.sitting.lectures == {1} and "Answers so far: 2." in panel.note.value


def test_quizzes_count_only_what_is_known_and_newer(review, panel, path, sent):
    """An unknown item and an answer before the card's last one do not count, and are forgotten all the same."""
    review.record_answers(path, [entry("L1-Q1", 2)])
    panel.take([kept("L9-Q77", 0), kept("L1-Q1", 3), kept("L1-Q1", 2)])
    assert rates_in(path) == [3] and panel.note.value == "" and len(sent[0]) == 3
    panel.take([kept("L1-Q1", 1, right=False), kept("L1-Q1", 1.5)])
    assert [rating for _, _, rating, *_ in review.load_answers(path)[0]] == [3, 3, 1]


def test_the_browser_keeps_what_cannot_be_saved(review, panel, path, sent, monkeypatch):
    """If the file cannot be written nothing is forgotten; handed over again, the answers are saved once."""
    with monkeypatch.context() as patch:
        patch.setattr(type(path), "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        panel.take([kept("L1-Q1", 1)])
    assert "Not saved: No space left." in panel.note.value and sent == [[]]
    panel.take([kept("L1-Q1", 1)])
    assert len(review.load_answers(path)[0]) == 1 and len(sent[1]) == 1


def test_quizzes_do_not_disturb_a_card_that_is_open(panel, sent):
    """What comes in the middle of a sitting leaves the question and its explanation where they are."""
    begin(panel, 1)
    choose(panel, "wrong")
    panel.check.click()
    panel.take([kept("L1-Q2", 1)])
    assert "Taken over" in panel.note.value and "That is the other one." in panel.note.value
    assert panel.sitting.name == "L1-Q1" and visible_rates(panel) == ["Again"]


def test_buttons_that_make_no_sense_yet_are_off(panel):
    """Before Start there is nothing to undo and no day to lengthen; the key u does nothing, either."""
    assert panel.undo.disabled and panel.more.disabled
    panel.press("u")
    assert "Choose your lectures" in panel.text.value
    begin(panel, 1)
    assert not panel.undo.disabled and not panel.more.disabled
    turn = panel.quizzes.turn
    panel.start.click()
    assert panel.undo.disabled and panel.quizzes.turn == turn + 1  # the browser looks again


def test_panel_shows_tables_and_damage(panel, path):
    """The tables appear on demand, and a damaged file is announced in the panel."""
    path.parent.mkdir()
    path.write_text("damaged")
    panel.tables.click()
    assert "progress.json.damaged-1" in panel.note.value and "<table" in panel.note.value


def test_export_to_anki_and_as_a_table(review, panel, path):
    """The package has a note for each card, with formulas as Anki writes them; so has the table."""
    panel.export.click()
    assert "4 cards are in" in panel.note.value
    with zipfile.ZipFile(path.parent / "review.apkg") as package:
        package.extract("collection.anki2", path.parent)
    with sqlite3.connect(path.parent / "collection.anki2") as collection:
        assert collection.execute("select count(*) from notes").fetchone() == (4,)
        assert collection.execute("select count(*) from cards").fetchone() == (4,)
    assert "One pass." in (path.parent / "review.csv").read_text(encoding="utf-8")
    assert review.with_brackets("$a$ and $$b$$") == r"\(a\) and \[b\]"
