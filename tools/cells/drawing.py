# @title Set-up: a drawing board for units, boxes and arrows
from matplotlib.patches import FancyBboxPatch


def blank_axes(ax, width, height):
    """Turn `ax` into a drawing board from (0, 0) to (width, height)."""
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")


def draw_box(ax, x, y, text, color="C0", width=1.6, height=0.7, fontsize=11, shape=""):
    """Draw an operation: a rounded box around (x, y) with `text` in it."""
    place, look = (x - width / 2, y - height / 2), {"fc": "white", "ec": color, "lw": 2}
    shape = shape or "round,pad=0,rounding_size=0.12"
    ax.add_patch(FancyBboxPatch(place, width, height, shape, zorder=3, **look))
    ax.text(x, y, text, ha="center", va="center", fontsize=fontsize, zorder=4)


def draw_node(ax, x, y, text, color="C0", radius=0.35, fontsize=11):
    """Draw a unit: a circle around (x, y) with `text` in it."""
    draw_box(ax, x, y, text, color, 2 * radius, 2 * radius, fontsize, "circle,pad=0")


def draw_arrow(ax, start, end, text="", color="0.3", **options):
    """Draw an arrow with `text` at its middle (width, offset, shrink, fontsize)."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    o = {"width": 1.5, "offset": (0, 0.14), "shrink": 0.0, "fontsize": 10} | options
    gap = o["shrink"] * (end - start) / np.linalg.norm(end - start)  # left free
    look = {"arrowstyle": "-|>", "color": color, "lw": o["width"]}
    look |= {"shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end - gap, start + gap, arrowprops=look, zorder=2)
    box = {"fc": "white", "ec": "none", "pad": 0.8, "alpha": 0.85 if text else 0.0}
    look = {"color": color, "size": o["fontsize"], "ha": "center", "va": "center"}
    ax.text(*(start + end) / 2 + o["offset"], text, bbox=box, zorder=5, **look)
