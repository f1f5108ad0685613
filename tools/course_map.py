"""The map of the course as an SVG picture: what to read before what, from the links in the opening cards."""

import html
import re

import nbformat

WIDTH, HEIGHT, GAP_X, GAP_Y = 176, 58, 34, 18  # of a box, and between two of them, in pixels


def card_of(path):
    """Return (short title, minutes to run, stems of the notebooks to read before) from the card of a notebook."""
    card = nbformat.read(path, as_version=4).cells[0].source
    title = re.sub(r"^# (Lecture \d+: )?", "", card.splitlines()[0]).split(":")[0].split(", then")[0]
    minutes = re.search(r"\*\*Minutes\*\*\D*([\d.]+)", card)[1]
    before = re.search(r"\*\*Before\*\*.*", card)[0]
    return title, minutes, re.findall(r"\]\((?:[^)]*/)?([^)/#]+)\.ipynb", before)


def columns_of(needs):
    """Return {stem: column}: one to the right of the last thing it needs, from `needs`, {stem: stems before}."""
    columns = {}

    def column(stem):
        if stem not in columns:
            columns[stem] = max((column(other) + 1 for other in needs[stem]), default=0)
        return columns[stem]

    for stem in needs:
        column(stem)
    return columns


def direct(needs):
    """Return `needs`, {stem: stems before}, without what follows from the rest by way of another notebook."""

    def all_before(stem):
        return set(needs[stem]).union(*map(all_before, needs[stem]))

    return {
        stem: [b for b in before if not any(b in all_before(other) for other in before)]
        for stem, before in needs.items()
    }


def wrapped(text, width=23):
    """Return at most two lines of at most about `width` characters with the words of `text`."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines[:2] if len(lines) < 3 else [lines[0], lines[1].rstrip(",") + "…"]


def box(stem, card, x, y):
    """Return the SVG of one notebook: a box at (x, y) with number, title and minutes, which leads to its page."""
    title, minutes, _ = card
    lecture = stem.startswith("lecture_")
    folder = "notebooks/guidebook" if lecture else "notebooks"
    number = f"Lecture {stem.split('_')[1]}" if lecture else stem[:2]
    lines = [f"{number} · {minutes} min", *wrapped(title)]
    text = "".join(
        f'<text x="{x + 10}" y="{y + 18 + 15 * i}" class="{"meta" if i == 0 else "name"}">{html.escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    kind = "lecture" if lecture else "notebook"
    return (
        f'<a href="{folder}/{stem}.html"><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="8" '
        f'class="{kind}"/>{text}</a>'
    )


def map_as_svg(notebooks):
    """Return the SVG of the experiments (upper part) and lectures (lower part) among the paths `notebooks`.

    An arrow leads from a notebook to each one that names it in its card as to be read before.
    """
    cards = {path.stem: card_of(path) for path in notebooks if re.match(r"\d\d_|lecture_", path.stem)}
    known = {stem: [other for other in card[2] if other in cards and other != stem] for stem, card in cards.items()}
    places, top = {}, 0
    for start in (r"\d\d_", "lecture_"):
        group = {
            stem: [b for b in before if re.match(start, b)] for stem, before in known.items() if re.match(start, stem)
        }
        rows = {}
        for stem, column in columns_of(group).items():
            row = rows[column] = rows.get(column, -1) + 1
            places[stem] = (column * (WIDTH + GAP_X), top + row * (HEIGHT + GAP_Y))
        top += (max(rows.values(), default=-1) + 1) * (HEIGHT + GAP_Y) + GAP_Y
    arrows = []
    for stem, before in direct(known).items():
        for other in before:
            same = stem.startswith("lecture_") == other.startswith("lecture_")
            if same:
                (x0, y0), (x1, y1) = places[other], places[stem]
                x0, y0, y1 = x0 + WIDTH, y0 + HEIGHT / 2, y1 + HEIGHT / 2
                bend = max(20, (x1 - x0) / 2)
                arrows.append(f"M{x0} {y0} C{x0 + bend} {y0} {x1 - bend} {y1} {x1 - 3} {y1}")
    width = max(x for x, _ in places.values()) + WIDTH
    lines = "".join(f'<path d="{arrow}" marker-end="url(#head)"/>' for arrow in arrows)
    boxes = "".join(box(stem, cards[stem], *places[stem]) for stem in places)
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z"/></marker></defs>'
    )
    label = "Map of the course: boxes are notebooks and lectures, an arrow leads from what to read before"
    return (
        f'<div class="course-map"><svg viewBox="-4 -4 {width + 8} {top}" role="group" aria-label="{label}">'
        f"{head}{lines}{boxes}</svg></div>"
    )
