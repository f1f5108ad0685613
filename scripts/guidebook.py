"""Keep the guidebook in step with its question banks, and make it one document.

python scripts/guidebook.py           say what is out of date; the exit status is 1 if anything is
python scripts/guidebook.py --sync    write it: quizzes, glossaries and flash cards of the lectures, the questions in
                                      review.ipynb, and the page glossary.md
python scripts/guidebook.py --html    make logs/html/guidebook.html from the executed notebooks

The banks, notebooks/guidebook/bank/lecture_N.json, are the single source of every question and definition.
"""

import argparse
import base64
import json
import re
import subprocess
import sys
import zlib
from pathlib import Path

import nbformat
from guidebook_page import make_page
from run_notebooks import write_atomically

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks" / "guidebook"
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
LINE = 120  # characters


# ---- banks ----


class BankError(ValueError):
    """A question bank that cannot be used; the message names the file, the question and the field."""


def read_bank(path):
    """Return the bank in the JSON file `path`, checked; BankError if something is missing or wrong."""
    try:
        bank = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise BankError(f"{path.name}: not JSON, line {error.lineno}, column {error.colno}: {error.msg}") from None
    for field, kind in {"lecture": int, "title": str, "questions": list, "glossary": dict}.items():
        require(isinstance(bank, dict) and isinstance(bank.get(field), kind), path, "top level", field, kind.__name__)
    require(path.stem == f"lecture_{bank['lecture']}", path, "top level", "lecture", f"the number in {path.name}")
    seen = set()
    for number, question in enumerate(bank["questions"], 1):
        name = question.get("id", f"number {number}") if isinstance(question, dict) else f"number {number}"
        check_question(path, name, question, bank["lecture"])
        require(name not in seen, path, name, "id", "not used twice")
        seen.add(name)
    for term, text in bank["glossary"].items():
        require(isinstance(text, str) and text.strip(), path, f"glossary, {term}", "definition", "a text")
    return bank


def require(condition, path, question, field, wanted):
    """Raise a BankError that names file, question and field unless `condition` holds."""
    if not condition:
        raise BankError(f"{path.name}: {question}: '{field}' must be {wanted}")


def check_question(path, name, question, lecture):
    """Raise a BankError if `question` of the bank `path` is malformed."""
    require(isinstance(question, dict), path, name, "question", "an object")
    pattern = rf"L{lecture}-(Q\d+[a-z]?|C\d+)"
    require(re.fullmatch(pattern, str(question.get("id"))), path, name, "id", f"like L{lecture}-Q1 or L{lecture}-C1")
    text = question.get("question")
    require(isinstance(text, str) and text.strip(), path, name, "question", "a text")
    kinds = ("multiple_choice", "many_choice", "numeric")
    require(question.get("type") in kinds, path, name, "type", "one of " + ", ".join(kinds))
    answers = question.get("answers")
    require(isinstance(answers, list) and len(answers) >= 2, path, name, "answers", "a list of two or more")
    for answer in answers:
        feedback = answer.get("feedback")
        require(isinstance(feedback, str) and feedback.strip(), path, name, "feedback", f"a text in {answer}")
    if question["type"] == "numeric":
        check_numeric(path, name, question)
        return
    for answer in answers:
        require(isinstance(answer.get("answer"), str), path, name, "answer", f"a text in {answer}")
        require(isinstance(answer.get("correct"), bool), path, name, "correct", f"true or false in {answer}")
    num_right = sum(answer["correct"] for answer in answers)
    fits = num_right == 1 if question["type"] == "multiple_choice" else 1 < num_right <= len(answers)
    require(fits, path, name, "correct", f"true in {'one answer' if num_right != 1 else 'several answers'}")


def check_numeric(path, name, question):
    """Raise a BankError if the numeric `question` lacks its right value, its expression or its default."""
    answers = question["answers"]
    right = [answer for answer in answers if answer.get("correct")]
    wanted = "true in one answer that has a 'value'"
    require(len(right) == 1 and isinstance(right[0].get("value"), int | float), path, name, "correct", wanted)
    require(isinstance(question.get("computed"), str), path, name, "computed", "a Python expression")
    require(isinstance(question.get("precision", 1), int), path, name, "precision", "a number of significant digits")
    require(sum(a.get("type") == "default" for a in answers) == 1, path, name, "type", "'default' in one answer")
    for answer in answers:
        known = {"value": "value" in answer, "range": len(answer.get("range", ())) == 2, "default": True}
        require(known.get(answer.get("type"), False), path, name, "type", f"value, range or default in {answer}")


def read_banks(folder=FOLDER):
    """Return the banks of `folder` by lecture number; BankError if one is wrong or a term has two definitions."""
    banks, definitions = {}, {}
    for path in sorted((folder / "bank").glob("lecture_*.json")):
        bank = read_bank(path)
        banks[bank["lecture"]] = bank
        for term, text in bank["glossary"].items():
            other, where = definitions.setdefault(term, (text, path.name))
            require(text == other, path, f"glossary, {term}", "definition", f"the same as in {where}")
    return banks


# ---- cells ----


def pack(items):
    """Return `items` (JSON data) compressed as text, so that no answer can be read by accident."""
    text = json.dumps(items, ensure_ascii=False, sort_keys=True)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def anchor(term):
    """Return the anchor of a glossary `term`: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", term.lower()).strip("-")


def formatted(code):
    """Return `code` as ruff formats it in the notebooks."""
    command = [sys.executable, "-m", "ruff", "format", "--config", str(ROOT / "pyproject.toml"), "-"]
    result = subprocess.run(command, input=code, capture_output=True, text=True, encoding="utf-8", check=True)
    return result.stdout.rstrip("\n")


def quiz_cell(bank):
    """Return the source of the quiz cell of a lecture."""
    return f'QUIZ = "{pack(bank["questions"])}"  # noqa: E501\nshow_quiz(QUIZ)'


def glossary_text(bank):
    """Return the Markdown list of a lecture's terms, each with an anchor and a link to the glossary page."""
    return "\n".join(
        f'- <a id="{anchor(term)}"></a>**{term}**: {text} [↗](glossary.md#{anchor(term)})'
        for term, text in bank["glossary"].items()
    )


def dictionary_entry(term, text):
    """Return one line of the flash-card cell, or several if the definition is too long for one."""
    key, value = json.dumps(term, ensure_ascii=False), json.dumps(text, ensure_ascii=False)
    line = f"    {key}: {value},"
    if len(line) <= LINE:
        return line
    words, pieces = re.findall(r"\S+\s*", text), [""]
    for word in words:
        if len(pieces[-1]) + len(word) > LINE - 12:
            pieces.append("")
        pieces[-1] += word
    return f"    {key}: (\n" + "\n".join(f"        {json.dumps(p, ensure_ascii=False)}" for p in pieces) + "\n    ),"


def cards_cell(bank):
    """Return the source of the flash-card cell of a lecture."""
    lines = "\n".join(dictionary_entry(term, text) for term, text in bank["glossary"].items())
    return formatted(f"GLOSSARY = {{\n{lines}\n}}\nshow_cards(GLOSSARY)")


def review_cell(banks):
    """Return the source of the cell of review.ipynb that holds the questions of all lectures."""
    parts = [{key: bank[key] for key in ("lecture", "title", "questions")} for _, bank in sorted(banks.items())]
    return f'BANKS = "{pack(parts)}"  # noqa: E501'


def glossary_page(banks):
    """Return the text of glossary.md: all terms in alphabetical order, each with links back to its lectures."""
    lectures, definitions = {}, {}
    for number, bank in sorted(banks.items()):
        for term, text in bank["glossary"].items():
            definitions[term] = text
            lectures.setdefault(term, []).append(number)
    lines = ["# Glossary", "", f"All {len(definitions)} terms of the guidebook, each with a link to its lectures.", ""]
    for term in sorted(definitions, key=lambda t: (anchor(t), t)):
        links = ", ".join(f"[{number}]({LECTURES[number]}.ipynb#{anchor(term)})" for number in lectures[term])
        word = "Lecture" if len(lectures[term]) == 1 else "Lectures"
        lines.append(f'- <a id="{anchor(term)}"></a>**{term}**: {definitions[term]} ({word} {links})')
    return "\n".join(lines) + "\n"


# ---- what is out of date ----

GENERATED = {  # part of a lecture: (cell type, how its first line starts, what it must be)
    "quiz": ("code", 'QUIZ = "', quiz_cell),
    "glossary": ("markdown", '- <a id="', glossary_text),
    "flash cards": ("code", "GLOSSARY = {", cards_cell),
}


def differing_cells(nb, wanted):
    """Yield (part, cell or None, text) for each generated cell of `nb` that is missing or not as `wanted`.

    `wanted` maps a part's name to (cell type, start of its source, the text that it must have).
    """
    for part, (kind, start, text) in wanted.items():
        found = [cell for cell in nb.cells if cell.cell_type == kind and cell.source.startswith(start)]
        if len(found) != 1:
            yield part, None, text
        elif found[0].source != text:
            yield part, found[0], text


def wanted_cells(banks, folder):
    """Yield (notebook path, wanted cells) for each notebook of `folder` that carries generated cells."""
    for number, bank in sorted(banks.items()):
        path = folder / f"{LECTURES[number]}.ipynb"
        if path.exists():
            yield path, {part: (kind, start, make(bank)) for part, (kind, start, make) in GENERATED.items()}
    if (folder / "review.ipynb").exists():
        yield folder / "review.ipynb", {"questions": ("code", 'BANKS = "', review_cell(banks))}


def synchronize(folder=FOLDER, write=False):
    """Return one sentence on each part of `folder` that is out of date; with `write`, bring it up to date.

    A cell that is missing altogether is only reported: its place is for the author to choose.
    """
    banks, problems = read_banks(folder), []
    for path, wanted in wanted_cells(banks, folder):
        nb, changed = nbformat.read(path, as_version=4), False
        for part, cell, text in differing_cells(nb, wanted):
            if cell is None:
                problems.append(f"{path.name}: needs exactly one cell with its {part}")
                continue
            cell.source, changed = text, True
            problems.append(f"{path.name}: {part} differ from the bank" + (", now written" if write else ""))
        if changed and write:
            write_atomically(path, nbformat.writes(nb) + "\n")
            problems.append(f"{path.name}: if questions or terms changed, run make save NOTEBOOK={path.stem}")
    page = folder / "glossary.md"
    if banks and (not page.exists() or page.read_text(encoding="utf-8") != glossary_page(banks)):
        problems.append("glossary.md: differs from the banks" + (", now written" if write else ""))
        if write:
            write_atomically(page, glossary_page(banks))
    return problems


def main():
    """Do what the command line asks; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sync", action="store_true", help="write what is out of date")
    parser.add_argument("--html", action="store_true", help="make logs/html/guidebook.html")
    options = parser.parse_args()
    if options.html:
        path = ROOT / "logs" / "html" / "guidebook.html"
        text = make_page(FOLDER, [*LECTURES.values(), "resources", "glossary", "review"])
        write_atomically(path, text)
        print(f"{path.relative_to(ROOT)}: {len(text) / 1e6:.1f} MB, one file, opens without a network")
        return 0
    try:
        problems = synchronize(write=options.sync)
    except BankError as error:
        print(f"This bank cannot be used. {error}")
        return 1
    print("\n".join(problems) or "The guidebook is in step with its banks.")
    return 0 if options.sync and not any("needs exactly" in problem for problem in problems) else bool(problems)


if __name__ == "__main__":
    sys.exit(main())
