"""The detective's tools of notebook 05: counting parameters, the training run, calibration, and the checks."""

import itertools

import numpy as np
import pandas as pd
import pytest
from exercises import assert_never_raises, assert_verdict
from scipy.special import log_softmax, softmax
from sklearn import metrics

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of notebook 05, with a small task of three classes of noisy pixels in place of MNIST."""
    nb = load_definitions("05", root=tmp_path_factory.mktemp("notebook_05"))
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 360)
    X = rng.random((360, 784), dtype=np.float32)
    X[np.arange(360)[:, None], 100 * y[:, None] + np.arange(100)] += 0.5  # another hundred pixels for each class
    nb.X_train, nb.y_train, nb.t_train = X[:300], y[:300], nb.one_hot(y[:300])
    nb.X_valid, nb.y_valid, nb.t_valid = X[300:], y[300:], nb.one_hot(y[300:])
    nb.X_test, nb.y_test = nb.X_valid, nb.y_valid
    nb.NUM_EPOCHS = 12
    return nb


@pytest.fixture(scope="module")
def trained(nb):
    """Return (model, history) of a small network."""
    return nb.train_dense([32, 16], 0)


# ------------------------------------------------------------------ parameters


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([784, 128, 128, 128, 10], 134_794),
        ([784, 128, 64, 10], 109_386),
        ([2, 3, 1], 13),
        ([784, 10], 7850),
        ([784], 0),
    ],
)
def test_formula(nb, sizes, expected):
    """The formula gives the numbers that the text derives."""
    assert nb.parameters_by_formula(sizes) == expected


@pytest.mark.parametrize("hidden", [[5], [128, 64], [7, 3, 9], []])
def test_formula_equals_keras(nb, hidden):
    """Formula, `count_params` and the summary agree; after building Adam the summary shows 3 N + 2."""
    model = nb.dense_network(hidden)
    N = nb.parameters_by_formula([784, *hidden, 10])
    assert model.count_params() == nb.summary_counts(model)["Total params"] == N
    model.compile("adam", "categorical_crossentropy")
    assert nb.summary_counts(model)["Total params"] == N
    model.optimizer.build(model.trainable_variables)
    counts = nb.summary_counts(model)
    assert counts["Total params"] == 3 * N + 2
    assert counts["Trainable params"] == N
    assert counts["Optimizer params"] == 2 * N + 2 == nb.numbers_in(model.optimizer.variables)


def test_summary_is_one_piece(nb, capsys):
    """The text of the summary has every layer on a whole line and no empty line, and nothing else is printed."""
    lines = nb.summary_text(nb.dense_network([7])).splitlines()
    assert all(line.strip() for line in lines)
    rows = [line for line in lines if line.startswith("│")]
    assert len(rows) == 3 and all(line.endswith("│") for line in rows)
    assert [name for name in ("hidden_1", "scores", "softmax") if any(name in row for row in rows)] == [
        "hidden_1",
        "scores",
        "softmax",
    ]
    assert capsys.readouterr().out == ""


def test_completing_width_finds_every_network(nb):
    """For small totals the width is found exactly where trying every width finds one."""
    for total, first in itertools.product((80, 113, 150), range(1, 9)):
        sizes = [4, first]
        found = [h for h in range(1, 200) if nb.parameters_by_formula([*sizes, h, 10]) == total]
        assert [nb.completing_width(total, sizes)] == (found or [None])
    assert nb.completing_width(109_386, [784, 128]) == 64
    assert nb.completing_width(109_386, [784]) is None
    assert nb.completing_width(203_530, [784]) == 256


# ------------------------------------------------------------------ training


def test_training_learns_and_keeps_the_history(nb, trained):
    """The history has one value per epoch; its last val_accuracy is measured again."""
    model, history = trained
    assert set(history) == {"accuracy", "loss", "val_accuracy", "val_loss"}
    assert all(len(values) == 12 for values in history.values())
    measured = nb.accuracy_on(model, nb.X_valid, nb.t_valid)
    assert history["val_accuracy"][-1] == pytest.approx(measured, abs=1e-6)
    assert history["loss"][-1] < history["loss"][0]
    assert nb.accuracy_on(model, nb.X_train, nb.t_train) > 0.8


def test_training_repeats(nb, trained):
    """The same seed gives the same run, another seed another one; one step per execution changes nothing."""
    again, other = nb.train_dense([32, 16], 0)[1], nb.train_dense([32, 16], 1)[1]
    assert again["loss"] == pytest.approx(trained[1]["loss"], rel=1e-4)
    assert abs(other["loss"][0] - again["loss"][0]) > 1e-3
    at_once, nb.AT_ONCE = nb.AT_ONCE, {}
    try:
        plain = nb.train_dense([32, 16], 0)[1]
    finally:
        nb.AT_ONCE = at_once
    assert plain["loss"] == pytest.approx(again["loss"], rel=1e-3)


def test_scores_come_before_the_softmax(nb, trained):
    """The softmax of the scores is what the model predicts."""
    scores = nb.raw_scores(trained[0], nb.X_valid)
    assert np.allclose(softmax(scores, axis=1), trained[0].predict(nb.X_valid, verbose=0), atol=1e-5)
    confidence, right = nb.confident_and_right(trained[0], nb.X_valid, nb.y_valid)
    assert np.allclose(confidence, softmax(scores, axis=1).max(axis=1), atol=1e-5)
    assert np.array_equal(right, scores.argmax(axis=1) == nb.y_valid)


def test_confusion_equals_scikit_learn(nb):
    """Counts are those of scikit-learn."""
    rng = np.random.default_rng(0)
    y, y_hat = rng.integers(0, 10, 500), rng.integers(0, 10, 500)
    assert np.array_equal(nb.confusion_matrix(y, y_hat), metrics.confusion_matrix(y, y_hat))


# ------------------------------------------------------------------ calibration


def test_reliability_by_hand(nb):
    """Bins, counts and the error are those of the toy; the value 1 belongs to the last bin."""
    table = nb.reliability(np.array([0.95, 1.0, 0.65, 0.65]), np.array([True, True, True, False]))
    assert table.index.tolist() == [6, 9]
    assert table["images"].tolist() == [2, 2]
    assert table["accuracy"].tolist() == [0.5, 1.0]
    assert table["confidence"].tolist() == pytest.approx([0.65, 0.975])
    toy = np.array([0.95, 0.95, 0.65, 0.65]), np.array([True, True, True, False])
    assert nb.calibration_error(*toy) == pytest.approx(0.1)
    assert nb.calibration_error(np.ones(2), np.array([False, False])) == 1


def test_temperature_is_found(nb):
    """Labels drawn from softmax(scores / T) give back T, and its neighbors have a larger loss."""
    rng = np.random.default_rng(0)
    scores = 6 * rng.normal(size=(20_000, 10))
    for truth in (0.5, 1.0, 2.5):
        p = softmax(scores / truth, axis=1)
        y = (p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1).clip(max=9)
        found = nb.fit_temperature(scores, y)
        assert found == pytest.approx(truth, rel=0.05)
        assert nb.tempered_loss(found, scores, y) < min(nb.tempered_loss(f * found, scores, y) for f in (0.97, 1.03))


def test_before_and_after(nb, trained):
    """Scaling lowers the loss of the part it was fitted on, and the row is complete."""
    row = nb.before_and_after(trained[0], seed=0)
    assert set(row) == {"T", "ECE before", "ECE after", "ECE floor", "loss before", "loss after"}
    assert row["loss after"] <= row["loss before"] + 1e-9


def test_threshold(nb):
    """The threshold keeps as many images as the target allows; an unreachable target is refused."""
    confidence, right = np.array([0.6, 0.9, 0.7, 0.8]), np.array([True, True, False, True])
    assert nb.threshold_for(confidence, right, 1.0) == 0.8
    assert nb.threshold_for(confidence, right, 0.75) == 0.6
    assert nb.threshold_for(confidence, right, 0.5) == 0.6
    with pytest.raises(ValueError, match="target"):
        nb.threshold_for(np.array([0.9, 0.8]), np.array([False, True]), 0.9)


def test_rehearsal_keeps_its_word(nb):
    """On images whose answers are right with their confidence, the kept ones reach 99.4 %, and no others would do."""
    rng = np.random.default_rng(0)
    confidence = rng.beta(8, 0.6, 16_000)
    right = rng.random(16_000) < confidence
    reached, handed_over, spread = nb.rehearse(confidence, right, 20, 0)
    assert 0.0002 < spread < 0.003
    assert reached == pytest.approx(0.994, abs=0.001)
    threshold = nb.threshold_for(confidence, right, 0.994)
    assert handed_over == pytest.approx((confidence < threshold).mean(), abs=0.05)


# ------------------------------------------------------------------ your turn


def signed_ece(confidence, right, bins=None, weighted=True, absolute=True):
    """Return the calibration error, with the mistakes asked for."""
    bins = np.minimum((10 * confidence).astype(int), 9) if bins is None else bins
    table = pd.DataFrame({"gap": confidence - right, "bin": bins}).groupby("bin").gap.agg(["mean", "size"])
    gaps = table["mean"].abs() if absolute else table["mean"]
    return float(np.average(gaps, weights=table["size"] if weighted else None))


def loss(T, scores, y, sign=-1, over=np.mean):
    """Return the loss at a temperature, with the mistakes asked for."""
    return sign * over(log_softmax(scores / T, axis=1)[np.arange(len(y)), y])


def threshold(confidence, right, target, early=False):
    """Return the threshold; `early` stops at the first confidence that misses the target."""
    found = None
    for c in np.sort(confidence)[::-1]:
        if right[confidence >= c].mean() >= target:
            found = c
        elif early:
            break
    return float(found)


ANSWERS = {
    "parameters": [
        (lambda s: sum((m + 1) * n for m, n in itertools.pairwise(s)), "right", ""),
        (lambda s: sum(m * n for m, n in itertools.pairwise(s)), "not yet", "also has a bias"),
        (lambda s: sum(m * n for m, n in itertools.pairwise(s)) + sum(s), "not yet", "inputs have no bias"),
        (lambda s: 13, "not yet", "(m + 1) n"),
    ],
    "standard_error": [
        (lambda p, n: np.sqrt(p * (1 - p) / n), "right", ""),
        (lambda p, n: p * (1 - p) / n, "not yet", "variance"),
        (lambda p, n: np.sqrt(p * (1 - p)), "not yet", "divide by n"),
        (lambda p, n: np.sqrt(p * (1 - p)) / n, "not yet", "under the root"),
        (lambda p, n: np.sqrt(n * p * (1 - p)), "not yet", "spread of the count"),
    ],
    "committee": [
        (lambda a: a.mean(0).argmax(1), "right", ""),
        (lambda a: np.round(a.argmax(2).mean(0)), "not yet", "do not count the votes"),
        (lambda a: a[0].argmax(1), "not yet", "only the first"),
        (lambda a: a.max(0).argmax(1), "not yet", "not the largest value"),
        (lambda a: a.prod(0).argmax(1), "not yet", "not the product"),
        (lambda a: np.median(a, axis=0).argmax(1), "not yet", "votes"),
        (lambda a: [[0], [0, 1]], "not yet", "ValueError"),
        (lambda a: a.mean(0), "not yet", "4 digits"),
        (lambda a: a.mean(0).argmin(1), "not yet", "largest"),
    ],
    "ece": [
        (signed_ece, "right", ""),
        (lambda c, r: signed_ece(c, r, absolute=False), "not yet", "absolute value"),
        (lambda c, r: abs(c.mean() - r.mean()), "not yet", ""),
        (lambda c, r: signed_ece(c, r, weighted=False), "not yet", "weight each bin"),
        (lambda c, r: signed_ece(c, r, bins=(10 * c).round(6)), "not yet", "not for each image"),
        (lambda c, r: signed_ece(c, r, bins=np.minimum((5 * c).astype(int), 4)), "not yet", "is the next"),
        (lambda c, r: signed_ece(c, r, bins=np.minimum((10 * c).round(), 9)), "not yet", "do not round"),
        (lambda c, r: signed_ece(np.minimum((10 * c).astype(int), 9) / 10 + 0.05, r), "not yet", "not its middle"),
        (lambda c, r: signed_ece(c, r, bins=np.ceil(10 * c).astype(int)), "right", ""),
        (lambda c, r: signed_ece(c, r, bins=(10 * c).astype(int)), "not yet", "belongs to the last bin"),
        (lambda c, r: signed_ece(c, r, bins=np.minimum((20 * c).astype(int), 19)), "not yet", "ten bins"),
    ],
    "loss_at": [
        (loss, "right", ""),
        (lambda T, s, y: loss(T, s, y, sign=1), "not yet", "minus sign"),
        (lambda T, s, y: loss(T, s, y, over=np.sum), "not yet", "not the sum"),
        (lambda T, s, y: loss(1 / T, s, y), "not yet", "do not multiply"),
        (lambda T, s, y: loss(1, s, y) / T, "not yet", "before the softmax"),
        (lambda T, s, y: -log_softmax(s / T, axis=1)[np.arange(len(y)), y], "not yet", "one number"),
        (lambda T, s, y: [[0.0], [0.0, 1.0]], "not yet", "ValueError"),
        (lambda T, s, y: -np.log(softmax(s / T, axis=1)[np.arange(len(y)), y] + 1e-9).mean(), "not yet", "overflow"),
    ],
    "lowest_threshold": [
        (threshold, "right", ""),
        (lambda c, r, t: threshold(c, r, t, early=True), "not yet", "may recover"),
        (lambda c, r, t: c.max(), "not yet", "not the highest"),
        (lambda c, r, t: c[0], "not yet", "falling confidence"),
    ],
}


@pytest.mark.parametrize("name", ANSWERS)
def test_checks_know_right_from_wrong(nb, name, capsys):
    """The notebook's solution is right; each typical mistake gets its own hint, in one line."""
    check = getattr(nb, f"check_{name}")
    check(getattr(nb, name))  # the solution stands after the stub, so it is the one defined
    assert capsys.readouterr().out.startswith("right:")
    for answer, verdict, hint in ANSWERS[name]:
        assert_verdict(check, answer, verdict, hint, capsys)


@pytest.mark.parametrize("name", ANSWERS)
def test_checks_never_raise(nb, name, capsys):
    """A stub, an error and nonsense are answered in one line, too."""
    assert_never_raises(getattr(nb, f"check_{name}"), capsys)
