# shared cell: guidebook
import base64
import json
import zlib

import numpy as np
from jupytercards import display_flashcards
from jupyterquiz import display_quiz
from matplotlib.patches import Circle, FancyBboxPatch

WIDE = (9.0, 3.6)  # the two sizes of figures, in inches
TALL = (9.0, 5.4)


def unpack(packed):
    """Return the list of quiz questions in `packed`, a text made by scripts/guidebook.py so that no answer shows."""
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def show_quiz(packed):
    """Show the questions in `packed` as a quiz that marks itself and explains each wrong answer."""
    shown = [{key: value for key, value in item.items() if key not in ("id", "computed")} for item in unpack(packed)]
    display_quiz(shown, border_radius=6, question_alignment="left", max_width=760)


def show_cards(glossary):
    """Show `glossary`, a dictionary from term to definition, as flash cards: click to turn, arrow to go on."""
    display_flashcards([{"front": term, "back": text} for term, text in glossary.items()])


def blank_axes(ax, width, height):
    """Turn `ax` into a drawing board from (0, 0) to (width, height) with equal scales and no axes."""
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")


def draw_node(ax, x, y, text, color="C0", radius=0.35, fontsize=11):
    """Draw a unit: a circle around (x, y) with `text` in it."""
    ax.add_patch(Circle((x, y), radius, facecolor="white", edgecolor=color, linewidth=2, zorder=3))
    ax.text(x, y, text, ha="center", va="center", fontsize=fontsize, zorder=4)


def draw_box(ax, x, y, text, color="C0", width=1.6, height=0.7, fontsize=11):
    """Draw an operation: a rounded box centered on (x, y) with `text` in it."""
    corner = (x - width / 2, y - height / 2)
    style = {"boxstyle": "round,pad=0,rounding_size=0.12", "facecolor": "white", "edgecolor": color, "linewidth": 2}
    ax.add_patch(FancyBboxPatch(corner, width, height, zorder=3, **style))
    ax.text(x, y, text, ha="center", va="center", fontsize=fontsize, zorder=4)


def draw_arrow(ax, start, end, text="", color="0.3", width=1.5, offset=(0.0, 0.14), shrink=0.0, fontsize=10):
    """Draw an arrow from `start` to `end`, each (x, y), `width` points wide, with `text` beside its middle.

    `shrink` (data units) is left free at both ends, such as the radius of a unit.
    """
    start, end = np.asarray(start, float), np.asarray(end, float)
    gap = shrink * (end - start) / np.linalg.norm(end - start)
    arrow = {"arrowstyle": "-|>", "color": color, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end - gap, start + gap, arrowprops=arrow, zorder=2)
    if text:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
        middle = (start + end) / 2 + offset
        ax.text(*middle, text, ha="center", va="center", fontsize=fontsize, color=color, bbox=box, zorder=5)
