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


def one_hot(y, num_classes=10):
    """Return float32 (n, num_classes) with a 1 at each label y (n,) and 0 elsewhere."""
    return np.eye(num_classes, dtype=np.float32)[y]


def untuned(stream):
    """Return a tf.data stream that does not tune itself, for that delays its end."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return stream.with_options(options)


def confusion_matrix(y, y_hat, num_classes=10):
    """Return counts (num_classes, num_classes): rows true `y`, columns predicted."""
    cells = np.asarray(y) * num_classes + np.asarray(y_hat)
    return np.bincount(cells, minlength=num_classes**2).reshape(
        num_classes, num_classes
    )


def class_scores(counts):
    """Return precision, recall and F1 (0 to 1) of each class, 0 if never predicted."""
    hits = np.diag(counts).astype(float)
    precision = hits / np.maximum(counts.sum(axis=0), 1)
    recall = hits / np.maximum(counts.sum(axis=1), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return pd.DataFrame({"precision": precision, "recall": recall, "F1": f1})


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


def batch_stream(X, y, num_updates, batch_size, seed):
    """Return a tf.data stream of full batches; each pass is a new permutation."""
    if not 1 <= batch_size <= len(X):
        raise ValueError(
            f"batch_size is {batch_size}; expected 1 to {len(X)}, the number of images"
        )
    rng, per_pass = np.random.default_rng(seed), len(X) // batch_size
    passes = [
        rng.permutation(len(X))[: per_pass * batch_size]
        for _ in range(-(-num_updates // per_pass))
    ]
    index = np.concatenate(passes).reshape(-1, batch_size)[:num_updates]
    X, y = tf.convert_to_tensor(X), tf.convert_to_tensor(y)
    batches = tf.data.Dataset.from_tensor_slices(index).map(
        lambda i: (tf.gather(X, i), tf.gather(y, i))
    )
    return untuned(batches.prefetch(2))
