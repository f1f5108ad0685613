"""The question banks of the guidebook, and the cells and the page made from them.

The banks, tools/bank/lecture_N.json, are the single source of every question and every
definition; tools/bank/schema.json says what they look like. `python -m tools sync`
writes what is made here into the notebooks.
"""

import base64
import json
import re
import zlib
from pathlib import Path

import nbformat
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from tools.course import ROOT

FOLDER = ROOT / "notebooks" / "guidebook"
BANK = Path(__file__).with_name("bank")
LECTURES = {
    1: "lecture_1_artificial_neurons",
    2: "lecture_2_perceptrons",
    3: "lecture_3_perceptron_learning",
    4: "lecture_4_gradient_descent",
    5: "lecture_5_backpropagation",
    6: "lecture_6_convolutional_networks",
    7: "lecture_7_recurrent_networks",
    8: "lecture_8_training_deep_networks",
    9: "lecture_9_attention_and_transformers",
}
LINE = 88  # characters
SCHEMA = Draft202012Validator(json.loads((BANK / "schema.json").read_text("utf-8")))


# ---- banks ----


class BankError(ValueError):
    """A bank that cannot be used; the message names file, question and field."""


def require(condition, path, place, message):
    """Raise a BankError naming the file `path` and the `place` if `condition` fails."""
    if not condition:
        raise BankError(f"{path.name}: {place}: {message}")


def place_of(error, bank):
    """Return where in `bank` an `error` is, such as L1-Q1, answers[0].type."""
    place = error.json_path.removeprefix("$").lstrip(".")
    found = re.match(r"questions\[(\d+)\]\.?", place)
    question = bank["questions"][int(found[1])] if found else None
    if isinstance(question, dict) and "id" in question:
        place = ", ".join(filter(None, (str(question["id"]), place[found.end() :])))
    return place or "top level"


def read_bank(path):
    """Return the bank in the JSON file `path`; BankError if something is wrong."""
    try:
        bank = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise BankError(f"{path.name}: {place}: not JSON, {error.msg}") from None
    if error := best_match(SCHEMA.iter_errors(bank)):
        require(False, path, place_of(error, bank), error.message)
    number, seen = bank["lecture"], set()
    fits = path.stem == f"lecture_{number}"
    require(fits, path, "lecture", f"{number} is not the number in the file's name")
    for question in bank["questions"]:
        name = question["id"]
        mine = name.startswith(f"L{number}-")
        require(mine, path, name, f"the id must start with L{number}-")
        require(name not in seen, path, name, "the id is used twice")
        seen.add(name)
        check_answers(path, question)
    return bank


def check_answers(path, question):
    """Raise a BankError unless the number of right answers fits the question's type."""
    answers, kind = question["answers"], question["type"]
    count = sum(answer.get("correct", False) for answer in answers)
    fits = count >= 2 if kind == "many_choice" else count == 1
    message = f"{kind} with {count} answers that are correct"
    require(fits, path, f"{question['id']}, answers", message)
    if kind == "numeric":
        count = sum(answer["type"] == "default" for answer in answers)
        message = f"{count} of the type 'default', there must be one"
        require(count == 1, path, f"{question['id']}, answers", message)


def read_banks(folder=BANK):
    """Return the banks in `folder` by lecture number.

    BankError if one of them is wrong, or if a term has two definitions.
    """
    banks, definitions = {}, {}
    for path in sorted(folder.glob("lecture_*.json")):
        bank = read_bank(path)
        banks[bank["lecture"]] = bank
        for term, text in bank["glossary"].items():
            other, where = definitions.setdefault(term, (text, path.name))
            message = f"{where} has another definition"
            require(text == other, path, f"glossary, {term}", message)
    return banks


# ---- cells ----


def pack(items):
    """Return `items` (JSON data) as text that shows no answer by accident."""
    text = json.dumps(items, ensure_ascii=False, sort_keys=True)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def unpack(packed):
    """Return the JSON data in `packed`, a text made by `pack`."""
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def agrees(source, wanted):
    """Return whether a cell's `source` says what the generated source `wanted` says.

    Packed data are compared unpacked: builds of zlib compress to different bytes.
    """

    def parts(text):
        lines = re.split(r'"([\w+/=]{60,})"  # noqa: E501\n', text)
        return lines[::2], list(map(unpack, lines[1::2]))

    try:
        return source == wanted or parts(source) == parts(wanted)
    except (ValueError, zlib.error):
        return False


def shown(question, hidden=("computed",)):
    """Return `question` without the fields `hidden`, which no reader gets to see."""
    return {key: value for key, value in question.items() if key not in hidden}


def quiz_cell(bank):
    """Return the source of a lecture's quiz cell; no word of a question is legible."""
    questions = [shown(item, ("id", "computed")) for item in bank["questions"]]
    names = " ".join(item["id"] for item in bank["questions"])
    script = (BANK / "quiz.js").read_text(encoding="utf-8")
    return f"""# @title Quiz: check yourself
import base64
import json
import zlib

from IPython.display import Javascript, display
from jupyterquiz import display_quiz

QUIZ = "{pack([questions, names, script])}"  # noqa: E501
questions, names, script = json.loads(zlib.decompress(base64.b64decode(QUIZ)))
display_quiz(
    questions,
    border_radius=6,
    question_alignment="left",
    max_width=760,
    colors={{"--items": names}},  # a CSS variable: tells the script what is asked
)
display(Javascript(script))  # how numbers are read, and the colors: tools/bank/quiz.js"""


def recall_cards(number, bank):
    """Return [name, front, back] of the terms and the short answers of a lecture, for the reader's own grading."""
    cells = nbformat.read(FOLDER / f"{LECTURES[number]}.ipynb", as_version=4).cells
    prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    prose = re.split(r"^#+ In your own words\n", prose, flags=re.MULTILINE)[-1]
    prose = re.split(r"^#", prose, maxsplit=1, flags=re.MULTILINE)[0]
    short = re.findall(r"\*\*(\d+)\. (.+?)\*\*\s+<details>.*?</summary>\s+(.+?)\s+</details>", prose, re.DOTALL)
    cards = [[f"L{number}-S{place}", front, back] for place, front, back in short]
    return cards + [[f"L{number}-T-{anchor(term)}", term, text] for term, text in bank["glossary"].items()]


def review_cell(banks):
    """Return the source of the cell of review.ipynb with the questions and recall cards of all `banks`.

    It defines LESSONS: one {"lecture", "title", "questions", "cards"} for each lecture.
    """
    lessons = [
        {"lecture": number, "title": bank["title"], "questions": list(map(shown, bank["questions"])),
         "cards": recall_cards(number, bank)}
        for number, bank in sorted(banks.items())
    ]  # fmt: skip
    return f"""# @title Questions of all lectures
import base64
import json
import zlib

BANKS = "{pack(lessons)}"  # noqa: E501
LESSONS = json.loads(zlib.decompress(base64.b64decode(BANKS)))"""


def literal(text):
    """Return `text` as a Python string in the quotes that need fewer escapes."""
    double = json.dumps(text, ensure_ascii=False)
    if text.count('"') <= text.count("'"):
        return double
    return "'" + double[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"


def dictionary_entry(term, text):
    """Return lines of a Python dictionary, each at most LINE characters long."""
    line = f"    {literal(term)}: {literal(text)},"
    if len(line) <= LINE:
        return line
    pieces = [""]
    for word in re.findall(r"\s*\S+\s*", text):
        if pieces[-1] and len(literal(pieces[-1] + word)) > LINE - 8:
            pieces.append("")
        pieces[-1] += word
    lines = "\n".join(f"        {literal(piece)}" for piece in pieces)
    return f"    {literal(term)}: (\n{lines}\n    ),"


def cards_cell(bank):
    """Return the source of a lecture's cell with flash cards of its terms."""
    entries = "\n".join(dictionary_entry(*item) for item in bank["glossary"].items())
    cards = '[{"front": term, "back": text} for term, text in GLOSSARY.items()]'
    return f"""# @title Flash cards: all terms of this lecture
from jupytercards import display_flashcards

GLOSSARY = {{
{entries}
}}
display_flashcards({cards})"""


def anchor(term):
    """Return the anchor of a `term`: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", term.lower()).strip("-")


def entry(term, text, links):
    """Return a line of Markdown: `term` with its anchor, definition and `links`."""
    return f'- <a id="{anchor(term)}"></a>**{term}**: {text} {links}'


def glossary_cell(bank):
    """Return a lecture's terms as Markdown, each with a link to the glossary page."""
    return "\n".join(entry(term, text, f"[↗](glossary.md#{anchor(term)})") for term, text in bank["glossary"].items())


def wanted_cells(banks):
    """Return the generated cells of each notebook, by the stem of its file.

    Each is (cell type, how its source starts, its whole source). Every notebook must
    have exactly one cell of that type with that start.
    """
    cells = {}
    for number, bank in sorted(banks.items()):
        made = ("code", quiz_cell), ("markdown", glossary_cell), ("code", cards_cell)
        cells[LECTURES[number]] = [(kind, make(bank)) for kind, make in made]
    cells["review"] = [("code", review_cell(banks))]
    return {
        stem: [(kind, text.split("\n")[0] if kind == "code" else '- <a id="', text) for kind, text in pairs]
        for stem, pairs in cells.items()
    }


def glossary_page(banks):
    """Return the text of glossary.md: all terms, with links back to their lectures."""
    lectures, definitions = {}, {}
    for number, bank in sorted(banks.items()):
        for term, text in bank["glossary"].items():
            definitions[term] = text
            lectures.setdefault(term, []).append(number)
    scope = f"All {len(definitions)} terms of the guidebook"
    lines = ["# Glossary", "", f"{scope}, each with a link to its lectures.", ""]
    for term in sorted(definitions, key=lambda t: (anchor(t), t)):
        links = ", ".join(f"[{number}]({LECTURES[number]}.ipynb#{anchor(term)})" for number in lectures[term])
        word = "Lecture" if len(lectures[term]) == 1 else "Lectures"
        lines.append(entry(term, definitions[term], f"({word} {links})"))
    return "\n".join(lines) + "\n"
