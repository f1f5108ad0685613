"""The detective's tools of notebook 05: counting parameters, measuring accuracy, calibration, and the training run."""

import io
import itertools
import sys

import numpy as np
import PIL.Image
import pytest
from scipy.optimize import minimize_scalar
from sklearn import metrics
from tqdm import tqdm

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of notebook 05, loaded where they cannot touch the repository."""
    return load_definitions("05", root=tmp_path_factory.mktemp("notebook_05"))


@pytest.fixture(scope="module")
def trained(nb):
    """Return (model, history, parts) of a small network trained for five epochs on three classes of noisy pixels."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 360)
    X = rng.random((360, 784), dtype=np.float32)
    X[np.arange(360)[:, None], 100 * y[:, None] + np.arange(100)] += 0.5  # another hundred pixels for each class
    parts = {"training": (X[:300], y[:300]), "validation": (X[300:], y[300:])}
    model, history = nb.train_suspect([32, 16], 20, 5, 0, parts, tqdm(total=5, file=sys.stdout))
    return model, history, parts


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
    model = nb.dense_digits_network(hidden)
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
    """The text of the summary has every layer and no empty line, and nothing else is printed."""
    lines = nb.summary_text(nb.dense_digits_network([7])).splitlines()
    assert all(line.strip() for line in lines)
    assert [name for name in ("hidden_1", "scores", "softmax") if any(name in line for line in lines)] == [
        "hidden_1",
        "scores",
        "softmax",
    ]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("sizes", [[], [784, 0, 10], [784, -3, 10], [784, 2.5, 10], [784, "128", 10]])
def test_formula_refuses_bad_sizes(nb, sizes):
    """Sizes that are not positive whole numbers are named in the error."""
    with pytest.raises(ValueError, match="sizes"):
        nb.parameters_by_formula(sizes)


def test_network_refuses_bad_widths(nb):
    """A hidden width of 0 is refused before Keras sees it."""
    with pytest.raises(ValueError, match="sizes"):
        nb.dense_digits_network([128, 0])


def test_suspects_are_all_networks_with_that_count(nb):
    """For small totals the suspects equal those found by trying every network."""
    for total in (40, 71, 100):
        for num_hidden in (1, 2, 3):
            everything = itertools.product(range(1, 51), repeat=num_hidden)
            expected = [list(h) for h in everything if nb.parameters_by_formula([4, *h, 10]) == total]
            found = list(nb.suspects_with(total, num_hidden, (4,)))
            assert found == expected
    assert list(nb.suspects_with(109_386, 2)) == [[128, 64]]
    assert list(nb.suspects_with(203_530, 1)) == [[256]]
    assert list(nb.suspects_with(203_530, 2)) == [[140, 620]]


def test_round_networks(nb):
    """The totals of round networks contain both networks of the case and respect their limits."""
    totals = nb.totals_of_round_networks(100_000, 140_000)
    assert {109_386, 134_794} <= totals
    assert min(totals) >= 100_000
    assert max(totals) <= 140_000
    assert nb.totals_of_round_networks(0, 10_000, [2]) == {
        nb.parameters_by_formula(sizes) for sizes in ([784, 2, 10], [784, 2, 2, 10], [784, 2, 2, 2, 10])
    }


def test_numbers_in_file(nb, trained, tmp_path):
    """The file of a trained model holds its parameters, Adam's 2 N + 2 numbers, and nothing else."""
    model, *_ = trained
    model.save(tmp_path / "model.keras")
    N = model.count_params()
    assert nb.numbers_in_file(tmp_path / "model.keras") == {"layers": N, "optimizer": 2 * N + 2}


def test_training_learns_and_takes_notes(nb, trained):
    """The history has one row per epoch, its last row is what the model measures, and the classes are learned."""
    model, history, parts = trained
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert (history["seconds"] > 0).all()
    for part, few in [("training", 60), ("validation", 60)]:
        X, y = parts[part]
        measured = nb.measure_scores(nb.digit_scores(model, X[:few]), y[:few])
        for name, value in measured.items():
            assert history[f"{part}_{name}"].iloc[-1] == pytest.approx(value, abs=1e-6)
    assert history["training_accuracy"].iloc[-1] > 0.8
    assert history["training_loss"].iloc[-1] < history["training_loss"].iloc[0]
    assert history["printed_loss"].iloc[0] > history["printed_loss"].iloc[-1]


def test_training_repeats(nb, trained):
    """The same seed gives the same run, another seed another one."""
    _, history, parts = trained
    runs = [nb.train_suspect([32, 16], 20, 1, seed, parts, tqdm(total=1, file=sys.stdout))[1] for seed in (0, 1)]
    assert runs[0]["printed_loss"][0] == pytest.approx(history["printed_loss"][0], rel=1e-4)
    assert abs(runs[1]["printed_loss"][0] - history["printed_loss"][0]) > 1e-3


def test_training_two_at_a_time_changes_nothing(nb, trained):
    """Networks that train side by side end where each ends alone, and come back under their names and seeds."""
    _, _, parts = trained
    names, seeds = list(nb.HIDDEN), (0, 1, 2)
    together = nb.train_suspects(names, 20, 2, seeds, parts)
    assert list(together) == [(name, 20) for name in names]
    for (name, batch_size), runs in together.items():
        assert len(runs) == len(seeds)
        for seed, (model, history) in zip(seeds, runs):
            bar = tqdm(total=2, file=sys.stdout)
            alone, notes = nb.train_suspect(nb.HIDDEN[name], batch_size, 2, seed, parts, bar)
            assert history["printed_loss"].iloc[-1] == pytest.approx(notes["printed_loss"].iloc[-1], rel=1e-4)
            for ours, theirs in zip(model.get_weights(), alone.get_weights()):
                assert np.allclose(ours, theirs, atol=1e-4)


def test_scores_come_before_the_softmax(nb, trained):
    """The softmax of the scores is what the model predicts, and the measures are Keras's own."""
    model, _, parts = trained
    X, y = parts["validation"]
    scores = nb.digit_scores(model, X)
    assert np.allclose(nb.softmax(scores, axis=1), model.predict(X, verbose=0), atol=1e-5)
    loss, accuracy = model.evaluate(X, nb.one_hot(y), verbose=0)
    measured = nb.measure_scores(scores, y)
    assert measured["loss"] == pytest.approx(loss, abs=1e-4)
    assert measured["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert 1 / 10 < measured["confidence"] <= 1
    extreme = nb.measure_scores(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 0]))
    assert extreme["loss"] == pytest.approx(5e3)


def test_side_by_side(nb, trained):
    """The table has the printed accuracy and one measured accuracy per part, for each run."""
    model, history, parts = trained
    columns = nb.side_by_side([(model, history)] * 2, parts)
    assert list(columns) == ["training, as printed", "training", "validation"]
    assert columns["training, as printed"] == [history["printed_accuracy"].iloc[-1]] * 2
    y_hat = model.predict(parts["training"][0], verbose=0).argmax(axis=1)
    assert columns["training"][0] == pytest.approx((y_hat == parts["training"][1]).mean())


def test_binomial_error(nb):
    """The standard error is that of simulated coins; a share outside 0 to 1 is refused."""
    rng = np.random.default_rng(0)
    assert nb.binomial_error(0.9, 400) == pytest.approx(rng.binomial(400, 0.9, 20_000).std() / 400, rel=0.03)
    assert nb.binomial_error(1.0, 5) == 0
    with pytest.raises(ValueError, match=r"p is 1\.2"):
        nb.binomial_error(1.2, 10)


def test_confusion_and_scores_equal_scikit_learn(nb):
    """Counts, precision, recall and F1 are those of scikit-learn."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 500)
    y_hat = np.where(rng.random(500) < 0.7, y, rng.integers(0, 10, 500))
    counts = nb.confusion_matrix(y, y_hat)
    assert np.array_equal(counts, metrics.confusion_matrix(y, y_hat))
    theirs = metrics.precision_recall_fscore_support(y, y_hat)
    for column, values in zip(("precision", "recall", "F1"), theirs):
        assert np.allclose(nb.class_scores(counts)[column], values)


def test_reliability_by_hand(nb):
    """Bins, counts and the error are those of the toy; the value 1 belongs to the last bin."""
    table = nb.reliability([0.95, 1.0, 0.65, 0.65], [True, True, True, False])
    assert table.index.tolist() == [6, 9]
    assert table["images"].tolist() == [2, 2]
    assert table["accuracy"].tolist() == [0.5, 1.0]
    assert table["confidence"].tolist() == pytest.approx([0.65, 0.975])
    assert nb.calibration_error([0.95, 0.95, 0.65, 0.65], [True, True, True, False]) == pytest.approx(0.1)
    assert nb.calibration_error([1.0, 1.0], [False, False]) == 1
    assert nb.calibration_error([0.5, 0.5], [True, False]) == 0


@pytest.mark.parametrize(
    ("confidence", "right", "message"),
    [([0.5], [True, False], "both be"), ([1.2], [True], "between 0 and 1"), ([np.nan], [True], "between 0 and 1")],
)
def test_reliability_refuses_bad_input(nb, confidence, right, message):
    """Different lengths, impossible probabilities and not-a-number are named."""
    with pytest.raises(ValueError, match=message):
        nb.reliability(confidence, right)


def test_temperature_is_found(nb):
    """Labels drawn from softmax(scores / T) give back T; the result is the minimum of a library optimizer."""
    rng = np.random.default_rng(0)
    scores = 6 * rng.normal(size=(20_000, 10))
    for truth in (0.5, 1.0, 2.5):
        p = nb.softmax(scores / truth, axis=1)
        y = (p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1).clip(max=9)
        found = nb.fit_temperature(scores, y)
        assert found == pytest.approx(truth, rel=0.05)
        best = minimize_scalar(lambda t: nb.measure_scores(scores / t, y)["loss"], bounds=(0.1, 10), method="bounded")  # noqa: B023
        assert found == pytest.approx(best.x, rel=1e-3)
        before, after = (
            nb.calibration_error(q.max(axis=1), q.argmax(axis=1) == y)
            for q in (nb.softmax(3 * scores / truth, axis=1), p)
        )
        assert after < before


def test_temperature_stays_in_its_interval(nb):
    """Images without a mistake ask for the lowest temperature, reversed scores for the highest."""
    scores, y = np.eye(10), np.arange(10)
    assert nb.fit_temperature(scores, y) == pytest.approx(0.05)
    assert nb.fit_temperature(-scores, y) == pytest.approx(20.0)


def test_slope_is_the_derivative(nb):
    """The slope is the central difference of the loss, at several temperatures."""
    rng = np.random.default_rng(1)
    scores, y = 4 * rng.normal(size=(200, 10)), rng.integers(0, 10, 200)
    for beta in (0.1, 0.7, 2.0):
        low, high = (nb.measure_scores((beta + step) * scores, y)["loss"] for step in (-1e-5, 1e-5))
        assert nb.temperature_slope(beta, scores, y) == pytest.approx((high - low) / 2e-5, rel=1e-6)


def test_luck_of_calibration(nb):
    """Kept promises have a small error that falls with the number of images."""
    rng = np.random.default_rng(0)
    few, many = rng.uniform(0.5, 1, 200), rng.uniform(0.5, 1, 20_000)
    assert 0 < nb.luck_of_calibration(many, 5, 0) < 0.02 < nb.luck_of_calibration(few, 5, 0) < 0.2
    assert nb.luck_of_calibration(np.ones(10), 5, 0) == 0


def test_before_and_after(nb, trained):
    """Scaling lowers the loss of the part it was fitted on, and the row is complete."""
    model, _, parts = trained
    row = nb.before_and_after(model, parts | {"test": parts["validation"]}, seed=0)
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


def test_slider_draws_every_temperature(nb, trained):
    """The callback of the slider returns a picture for cold and hot, different ones, and refuses T = 0."""
    model, _, parts = trained
    scores, y = nb.digit_scores(model, parts["validation"][0]), parts["validation"][1]
    pictures = [nb.reliability_png(scores, y, t) for t in (0.2, 1.0, 10.0)]
    assert len(set(pictures)) == 3
    for picture in pictures:
        assert PIL.Image.open(io.BytesIO(picture)).size == (416, 336)
    with pytest.raises(ValueError, match="temperature"):
        nb.reliability_png(scores, y, 0.0)
