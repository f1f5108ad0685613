"""Notebook 08: counts by hand, the table, training, logs and resuming, statistics, instruments, and the checks."""

import json

import numpy as np
import pytest
from exercises import assert_never_raises, assert_verdict
from scipy import stats

from tools.definitions import load_definitions

TINY = {"channels": 2, "width": 4, "num_epochs": 2, "batch_size": 16}


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of notebook 08; its exercises are defined by their solutions."""
    return load_definitions("08", tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def baseline():
    """Return settings like those of the laboratory's baseline."""
    return {
        "channels": 8, "width": 64, "kernel": 3, "convs": 1, "depth": 0, "padding": "valid", "activation": "relu",
        "batch_norm": False, "head": "flatten", "dropout": 0.0, "init_std": None, "optimizer": "Adam", "lr": 1e-3,
        "batch_size": 32, "num_epochs": 1,
    }  # fmt: skip


@pytest.fixture(scope="module")
def images():
    """Return (X, y, X_valid, y_valid): 64 and 32 random images and labels."""
    rng = np.random.default_rng(0)
    X, y = rng.random((96, 28, 28, 1), dtype=np.float32), rng.integers(0, 10, 96)
    return X[:64], y[:64], X[64:], y[64:]


# ------------------------------------------------------------------ counts and the builder

HAND = {  # settings: (trainable parameters, multiply-adds), counted by hand
    "baseline": ({}, 80 + 16 * 73 + 64 * 401 + 650, 676 * 72 + 121 * 16 * 72 + 400 * 64 + 640),
    "kernel 1": ({"kernel": 1}, 16 + 16 * 9 + 64 * 785 + 650, 784 * 8 + 196 * 16 * 8 + 784 * 64 + 640),
    "average": ({"head": "average"}, 80 + 16 * 73 + 170, 676 * 72 + 121 * 16 * 72 + 160),
    "four": (
        {"convs": 2},
        80 + 8 * 73 + 16 * 73 + 16 * 145 + 64 * 257 + 650,
        676 * 72 + 576 * 8 * 72 + 100 * 16 * 72 + 64 * 16 * 144 + 256 * 64 + 640,
    ),
    "depth": (
        {"depth": 2, "width": 8, "padding": "same"},
        80 + 16 * 73 + 2 * 16 * 145 + 8 * 785 + 90,
        784 * 72 + 196 * 16 * 72 + 2 * 49 * 16 * 144 + 784 * 8 + 80,
    ),
}


@pytest.mark.parametrize(("settings", "parameters", "products"), HAND.values(), ids=HAND)
def test_counts_equal_those_by_hand(nb, baseline, settings, parameters, products):
    """Parameters and multiply-adds are what paper and pencil say."""
    model = nb.build_network(baseline | settings)
    assert model.count_params() == parameters
    assert nb.multiply_adds(model) == products


def test_every_setting_reaches_the_network(nb, baseline):
    """Batch norm, dropout, activation and start stand in the network that is built."""
    model = nb.build_network(baseline | {"batch_norm": True, "dropout": 0.3, "activation": "tanh", "init_std": 0.01})
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("BatchNormalization") == 2 and kinds.count("Activation") == 3
    assert [layer.rate for layer in model.layers if hasattr(layer, "rate")] == [0.3]
    assert {layer.activation.__name__ for layer in model.layers if type(layer).__name__ == "Activation"} == {"tanh"}
    kernels = [np.array(layer.kernel).ravel() for layer in model.layers if hasattr(layer, "kernel")]
    assert 0.008 < np.concatenate(kernels).std() < 0.012
    assert not np.array_equal(kernels[0][:50], kernels[1][:50])  # each layer draws its own


def test_receptive_field_is_what_a_pixel_can_reach(nb, baseline):
    """Changing a pixel changes a number of the last map exactly if it lies in its receptive field."""
    model = nb.build_network(baseline)
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            layer.kernel.assign(np.ones(layer.kernel.shape) * 0.1)  # no ReLU blocks the way
    maps = nb.keras.Model(model.inputs[0], [x.output for x in model.layers if "pool" in x.name][-1])
    influence, rng = np.zeros((28, 28), bool), np.random.default_rng(0)
    for _ in range(40):  # max-pooling lets one of four through: try many images
        image = nb.tf.Variable(rng.random((1, 28, 28, 1), dtype=np.float32))
        with nb.tf.GradientTape() as tape:
            value = maps(image)[0, 2, 2, 0]
        influence |= tape.gradient(value, image).numpy()[0, :, :, 0] != 0
    reached = np.flatnonzero(influence.any(axis=0))
    assert reached.max() - reached.min() + 1 == nb.receptive_field([(3, 1), (2, 2)] * 2) == 10


def test_drawing_has_content(nb, baseline):
    """The picture by visualkeras has some size and more than one color."""
    picture = nb.boxes_of(nb.build_network(baseline))
    assert min(picture.size) > 150 and len(picture.getcolors(10**6)) > 5


# ------------------------------------------------------------------ the table and its runs


def test_each_row_is_one_change(nb, baseline):
    """Every row but the first differs from its partner in exactly one setting, and the partner exists."""
    for table in (nb.TABLE | nb.SICK, nb.DEEP_TABLE):
        for name, (partner, _) in table.items():
            ours = nb.settings_of(name, table, nb.BASELINE)
            if partner is not None:
                theirs = nb.settings_of(partner, table, nb.BASELINE)
                assert sum(ours[key] != theirs[key] for key in ours) == 1, name


@pytest.mark.parametrize("change", [{}, {"lr": 1, "kernel": 1}, {"learning_rate": 0.1}])
def test_bad_rows_are_refused(nb, baseline, change):
    """No change, two changes and an unknown setting raise ValueError with the row's name."""
    with pytest.raises(ValueError, match="odd"):
        nb.settings_of("odd", {"b": (None, {}), "odd": ("b", change)}, baseline)


def test_training_repeats_and_follows_the_seed(nb, baseline, images):
    """Equal seeds give equal weights, another seed others; SGD gets momentum, and a rate that falls from `lr` to 0."""
    settings = baseline | TINY | {"optimizer": "SGD", "lr": 0.05}
    (a, history), (b, _), (c, _) = (nb.train_settings(settings, seed, *images[:2]) for seed in (3, 3, 4))
    assert len(history["loss"]) == 2
    assert all(np.array_equal(v, w) for v, w in zip(a.get_weights(), b.get_weights()))
    assert not np.array_equal(a.get_weights()[0], c.get_weights()[0])
    schedule = a.optimizer.get_config()["learning_rate"]["config"]
    assert a.optimizer.momentum == 0.9 and schedule["initial_learning_rate"] == 0.05
    assert schedule["decay_steps"] == 2 * 64 // 16 and float(a.optimizer.learning_rate) == pytest.approx(0, abs=1e-8)


def test_a_run_leaves_a_log_and_weights_that_load(nb, baseline, images, tmp_path):
    """The log has settings, curves and the misread images, and the loaded network misreads the same ones."""
    settings, logs, models = baseline | TINY, tmp_path / "logs", tmp_path / "models"
    record = nb.run("tiny row", 5, settings, images, logs, models)
    assert record == json.loads((logs / "tiny_row-seed5.json").read_text())
    assert record["settings"] == settings and record["seed"] == 5 and len(record["history"]["accuracy"]) == 2
    y_hat = nb.load_run(record, models).predict(images[2], verbose=0).argmax(axis=1)
    assert np.flatnonzero(y_hat != images[3]).tolist() == record["wrong"]
    first = nb.untrained(record).get_weights()
    nb.keras.utils.set_random_seed(5)
    assert all(np.array_equal(v, w) for v, w in zip(first, nb.build_network(settings).get_weights()))


def test_resuming(nb, baseline, images, tmp_path):
    """With resume equal runs are read; other settings, other data and no resume train anew."""
    settings, folders = baseline | TINY, (tmp_path / "logs", tmp_path / "models")
    first = nb.run("row", 0, settings, images, *folders)
    assert nb.run("row", 0, settings, images, *folders, resume=True) == first
    fewer = (images[0][:32], images[1][:32], *images[2:])
    other = nb.run("row", 0, settings, fewer, *folders, resume=True)
    assert other["data"] != first["data"] and other["seconds"] != first["seconds"]
    changed = nb.run("row", 0, settings | {"lr": 0.01}, fewer, *folders, resume=True)
    assert changed["settings"]["lr"] == 0.01
    anew = nb.run("row", 0, settings | {"lr": 0.01}, fewer, *folders)
    assert anew["seconds"] != changed["seconds"] and anew["wrong"] == changed["wrong"]


# ------------------------------------------------------------------ statistics


def test_confusion_and_scores(nb):
    """Counts of a small example, and precision, recall and F1 by hand; a class never predicted scores 0."""
    counts = nb.confusion_matrix([0, 0, 1, 2], [0, 1, 1, 1], 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]
    scores = nb.class_scores(counts)
    assert np.allclose(scores["precision"], [1, 1 / 3, 0]) and np.allclose(scores["recall"], [1 / 2, 1, 0])
    assert np.allclose(scores["F1"], [2 / 3, 1 / 2, 0])


def test_band_by_hand(nb):
    """Mean 2, deviation 1, n = 3: t is 9.925 at 99 %."""
    reach = 9.925 * np.sqrt(1 + 1 / 3)
    assert np.allclose(nb.band(np.array([1.0, 2.0, 3.0])), (2 - reach, 2 + reach), atol=1e-3)


def test_welch_by_hand(nb):
    """The interval of the formula, with Welch's degrees of freedom."""
    a, b = np.array([3.0, 5.0, 7.0]), np.array([1.0, 2.0, 3.0, 4.0])
    va, vb = 4 / 3, 5 / 12
    df = (va + vb) ** 2 / (va**2 / 2 + vb**2 / 3)
    reach = stats.t.ppf(0.995, df) * np.sqrt(va + vb)
    assert np.allclose(nb.welch(a, b), (2.5 - reach, 2.5 + reach))


def test_sampling_error(nb):
    """It is the deviation of the share in many draws; 3,000 images at 3.2 % give 0.32 points."""
    draws = np.random.default_rng(0).binomial(3_000, 0.032, 20_000) / 3_000
    assert nb.sampling_error(0.032, 3_000) == pytest.approx(draws.std(), rel=0.03)
    assert round(100 * nb.sampling_error(0.032, 3_000), 2) == 0.32


def test_wrong_share_and_errors(nb):
    """Shares per image and errors per run count the same mistakes."""
    records = [{"wrong": [0, 2]}, {"wrong": [2]}]
    assert nb.wrong_share(records, 4).tolist() == [0.5, 0, 1, 0]
    assert nb.errors(records, 4).tolist() == [50, 25]


# ------------------------------------------------------------------ instruments


def test_gradient_norms(nb, baseline, images):
    """They are those of finite differences along the gradient's own direction."""
    model = nb.build_network(baseline | {"channels": 2, "width": 4, "activation": "tanh"})
    norms = nb.gradient_norms(model, *images[:2])
    assert norms.shape == (4,) and (norms > 0).all()
    loss = nb.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    kernel = model.layers[-1].kernel
    with nb.tf.GradientTape() as tape:
        value = loss(images[1], model(images[0]))
    g = tape.gradient(value, kernel.value).numpy()
    start, step = np.array(kernel), 1e-2 * g / np.linalg.norm(g)
    ends = []
    for sign in (1, -1):
        kernel.assign(start + sign * step)
        ends.append(float(loss(images[1], model(images[0]))))
    assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(norms[-1], rel=1e-2)


def test_shuffled_tiles(nb, images):
    """Every tile is somewhere, all images are shuffled alike, and a blind network does not notice."""
    X = images[2]
    shuffled = nb.shuffle_tiles(X, 4)
    assert shuffled.shape == X.shape and not np.array_equal(shuffled, X)
    assert np.array_equal(np.sort(shuffled.ravel()), np.sort(X.ravel()))
    first = {X[0, i : i + 4, j : j + 4, 0].tobytes() for i in range(0, 28, 4) for j in range(0, 28, 4)}
    assert all(shuffled[0, i : i + 4, :4, 0].tobytes() in first for i in range(0, 28, 4))
    assert np.array_equal(nb.shuffle_tiles(X[3:4], 4)[0], shuffled[3])


def test_blindness_to_place(nb, baseline, images):
    """Shuffled tiles leave the scores of kernel 1 with the average; those of kernel 3 with a flattened row move."""
    blind = nb.build_network(baseline | {"kernel": 1, "head": "average"})
    assert nb.moved_scores(blind, images[2]) < 1e-3
    assert nb.moved_scores(nb.build_network(baseline), images[2]) > 0.1


def test_dead_channels(nb, baseline, images):
    """A layer whose biases are far below zero is dead, and no gradient passes it."""
    model = nb.build_network(baseline)
    hidden = next(layer for layer in model.layers if type(layer).__name__ == "Dense")
    hidden.bias.assign(np.full(64, -1e3, np.float32))
    table = nb.examine(model, *images[:2])
    assert table.dead.tolist()[-1] == 1 and table.gradient.tolist() == [0, 0, 0]


# ------------------------------------------------------------------ your turn


def field(mistake=""):
    """Return a function for the receptive field, with the mistake asked for."""

    def receptive_field(layers):
        side, distance = 1, 1
        for kernel, stride in layers:
            if mistake == "stride first":
                distance *= stride
            side += (kernel - (mistake != "no minus")) * (1 if mistake == "no distance" else distance)
            if mistake != "stride first":
                distance *= stride
        return side

    return receptive_field


def answers(nb):
    """Return {name of the exercise: list of (answer, start of its verdict, word of its hint)}."""
    cost = nb.conv_cost
    return {
        "conv_cost": [
            (lambda *a: list(cost(*a)), "right", ""),
            (lambda *a: cost(*a)[0], "not yet", "two numbers"),
            (lambda k, c, d, h, w: (d * k * k * c, cost(k, c, d, h, w)[1]), "not yet", "bias"),
            (lambda k, c, d, h, w: (cost(k, c, d, h, w)[0], d * k * k * c), "not yet", "each place"),
            (lambda k, c, d, h, w: (cost(k, c, d, h, w)[0], h * w * d * (k * k * c + 1)), "not yet", "for a bias"),
        ],
        "receptive_field": [
            (field(), "right", ""),
            (field("no minus"), "not yet", "3 pixels"),
            (field("no distance"), "not yet", "2 pixels apart"),
            (field("stride first"), "not yet", ""),
        ],
        "difference": [
            (nb.difference, "right", ""),
            (lambda a, b: (b.mean() - a.mean(), nb.difference(a, b)[1]), "not yet", "a comes first"),
            (lambda a, b: a.mean() - b.mean(), "not yet", "two numbers"),
            (lambda a, b: (a.mean() - b.mean(), np.sqrt(a.var() / 3 + b.var() / 4)), "not yet", "ddof"),
            (lambda a, b: (a.mean() - b.mean(), nb.difference(a, b)[1] ** 2), "not yet", "root"),
            (lambda a, b: (a.mean() - b.mean(), np.sqrt(a.var(ddof=1) + b.var(ddof=1))), "not yet", "its n"),
            (
                lambda a, b: (a.mean() - b.mean(), a.std(ddof=1) / 3**0.5 + b.std(ddof=1) / 2),
                "not yet",
                "not the deviations",
            ),
        ],
        "dead_share": [
            (nb.dead_share, "right", ""),
            (lambda a: float((a <= 0).mean()), "not yet", "as a whole"),
            (lambda a: 1 - nb.dead_share(a), "not yet", ""),
            (lambda a: int((a.reshape(-1, a.shape[-1]).max(0) <= 0).sum()), "not yet", "not the number"),
        ],
        "keeping_std": [
            (nb.keeping_std, "right", ""),
            (lambda k, c: 1 / (k * k * c), "not yet", "variances add"),
            (lambda k, c: (k * k * c) ** 0.5, "not yet", "factor 1"),
            (lambda k, c: 1 / (k * c) ** 0.5, "not yet", "k² weights"),
            (lambda k, c: 1 / 72**0.5, "not yet", "use k and c"),
        ],
        "seeds_needed": [
            (nb.seeds_needed, "right", ""),
            (lambda d, s: nb.seeds_needed(d, s) - 1, "not yet", "round up"),
            (lambda d, s: 2 * (3.86 * s / d) ** 2, "not yet", "whole number"),
            (lambda d, s: int(np.ceil((3.86 * s / d) ** 2)), "not yet", "two groups"),
        ],
    }


CHECKS = ["conv_cost", "receptive_field", "difference", "dead_share", "keeping_std", "seeds_needed"]


@pytest.mark.parametrize("name", CHECKS)
def test_checks_know_right_from_wrong(nb, name, capsys):
    """The notebook's solution is right; each typical mistake gets its own hint, in one line."""
    check = getattr(nb, f"check_{name}")
    for answer, verdict, hint in answers(nb)[name]:
        assert_verdict(check, answer, verdict, hint, capsys)


@pytest.mark.parametrize("name", CHECKS)
def test_checks_never_raise(nb, name, capsys):
    """A stub, an error and nonsense are answered in one line, too."""
    values = [np.ones((2, 2)), ("x", None), (None, None), ({}, [])]
    assert_never_raises(getattr(nb, f"check_{name}"), capsys, values)
