"""Functions that stand in several notebooks: one body each, copied by `tools sync`."""


def separation_margin(points, labels):
    """Return (margin, w, b) of the best hyperplane between two classes of points.

    `points` is (n, d), `labels` (n,) of 0 and 1. The margin is 0 (up to rounding) if
    no hyperplane separates them. All |w_i| and |b| are at most 1. Raises ValueError
    if the numbers of points and labels differ.
    """
    points, labels = np.asarray(points, dtype=float), np.asarray(labels)
    if points.ndim != 2 or labels.shape != (len(points),):
        raise ValueError(
            f"labels has shape {labels.shape}; expected one for each row of points"
            f" {points.shape}"
        )
    signs = np.where(labels > 0.5, 1.0, -1.0)[:, None]
    num_inputs = points.shape[1]
    constraints = np.hstack(
        [-signs * points, -signs, np.ones_like(signs)]
    )  # m - s (w x + b) <= 0
    bounds = [(-1, 1)] * (num_inputs + 1) + [(None, None)]
    goal = np.append(np.zeros(num_inputs + 1), -1.0)  # minimize -m
    *w, b, margin = linprog(goal, constraints, np.zeros(len(points)), bounds=bounds).x
    return margin, np.array(w), b


def is_separable(points, labels):
    """Return whether one threshold neuron can give points (n, d) the labels (n,)."""
    return separation_margin(points, labels)[0] > 1e-9


def png_of(fig):
    """Return `fig` as the bytes of a PNG file and close it."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=80)
    plt.close(fig)
    return buffer.getvalue()


def logistic_function(z):
    """Return the sigmoid 1 / (1 + exp(-z)); by way of tanh, no z overflows."""
    return 0.5 * (1 + np.tanh(0.5 * z))


def largest_relative_error(ours, theirs):
    """Return the largest ||a - b|| / (||a|| + ||b||) over pairs of arrays."""
    norms = [
        (np.linalg.norm(a - b), np.linalg.norm(a) + np.linalg.norm(b))
        for a, b in zip(ours, theirs, strict=True)
    ]
    return max(
        float(difference / total) if total > 0 else 0.0 for difference, total in norms
    )


def mean_and_std(values):
    """Return accuracies (0 to 1) as text: mean, standard deviation, n."""
    spread = f" ± {100 * np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.2f}{spread} % (n = {len(values)})"


def split(X, y, num_valid, seed):
    """Return (X_train, y_train, X_valid, y_valid): `num_valid` images set aside."""
    order = np.random.default_rng(seed).permutation(len(X))
    valid, train = order[:num_valid], order[num_valid:]
    return X[train], y[train], X[valid], y[valid]


def flat_pixels(images):
    """Return uint8 images (n, 28, 28) as rows of 784 numbers from 0 to 1, float32."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


def confusion_matrix(y, y_hat, num_classes=10):
    """Return counts (num_classes, num_classes): rows true `y`, columns predicted."""
    cells = np.asarray(y) * num_classes + np.asarray(y_hat)
    return np.bincount(cells, minlength=num_classes**2).reshape(
        num_classes, num_classes
    )


def draw_confusion(ax, counts, name):
    """Draw confusion counts (10, 10): all as numbers, the mistakes also as color."""
    mistakes = counts - np.diag(np.diag(counts))
    sns.heatmap(
        mistakes,
        annot=counts,
        fmt="d",
        cmap="rocket_r",
        square=True,
        ax=ax,
        annot_kws={"size": 8},
        cbar=False,
    )
    ax.set(
        title=f"{name}: {mistakes.sum()} mistakes",
        xlabel="predicted digit",
        ylabel="true digit",
    )
    ax.tick_params(rotation=0)


def count_parameters(model):
    """Return the number of trainable parameters of `model`."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def tried(function, *arguments):
    """Return (result, None), or (None, a line that says what went wrong)."""
    try:
        with np.errstate(all="ignore"):
            result = function(*arguments)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        return None, f"not yet: it raises {type(error).__name__}: {reason}"
    if result is None or result is ...:
        return None, "not yet: your function returns nothing"
    return result, None


def is_close(result, wanted):
    """Return whether `result` has the numbers and the shape of `wanted`."""
    try:
        result = np.asarray(result, dtype=float)
    except (TypeError, ValueError):
        return False
    return result.shape == np.shape(wanted) and np.allclose(result, wanted)


def equals(result, wanted):
    """Return whether `result` is a number within a millionth of `wanted`."""
    number = isinstance(result, int | float | np.number) and np.isfinite(result)
    return bool(number and abs(result - wanted) <= 1e-6 * max(1, abs(wanted)))


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
