"""The definitions of notebook 07, tested on small data."""

import numpy as np
import pandas as pd
import pytest
from exercises import assert_never_raises, assert_verdict

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of notebook 07, with the two names that only its run defines."""
    module = load_definitions("07", root=tmp_path_factory.mktemp("root"))
    module.SEED = 0
    return module


def random_pictures(n, seed=0):
    """Return n random images (n, 28, 28, 1) from 0 to 1 and labels (n,)."""
    rng = np.random.default_rng(seed)
    return rng.random((n, 28, 28, 1), dtype=np.float32), rng.integers(0, 10, n)


def easy_task(n=400):
    """Return images whose label is the row of a bright line, and labels (n,)."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, n)
    X = 0.2 * rng.random((n, 28, 28, 1), dtype=np.float32)
    X[np.arange(n), 4 + 2 * y] = 1
    return X, y


# ------------------------------------------------------------------ convolutions and sizes


def test_matrix_of_layer_equals_the_layer(nb):
    """The matrix found with unit images applies a strided convolution with many channels, too."""
    layer = nb.keras.layers.Conv2D(3, 3, strides=2, padding="same", use_bias=False)
    matrix = nb.matrix_of_layer(layer, side=6)
    image = np.random.default_rng(1).random((1, 6, 6, 1), dtype=np.float32)
    assert matrix.shape == (36, 3 * 3 * 3)
    assert np.allclose(image.reshape(1, -1) @ matrix, np.asarray(layer(image)).reshape(1, -1), atol=1e-5)


def test_the_contestants_are_of_equal_size(nb):
    """Keras counts what the formula of the exercise counts, and the sizes differ by less than 1 %."""
    mlp, cnn = nb.build_mlp().count_params(), nb.build_cnn().count_params()
    assert mlp == 785 * 128 + 129 * 10
    convolutions = nb.convolution_size(5, 1, 8) + nb.convolution_size(5, 8, 16)
    assert cnn == convolutions + 785 * 124 + 125 * 10
    assert abs(cnn / mlp - 1) < 0.01


@pytest.mark.parametrize("name", ["MLP", "CNN"])
def test_initial_weights_follow_the_seed(nb, name):
    """Equal seeds give equal weights, other seeds others; no layer repeats the numbers of another one."""
    build = nb.BUILDERS[name]
    one, same, other = (build(seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same))
    assert not np.allclose(one[0], other[0])
    first, last = one[0].ravel()[:20], one[-2].ravel()[:20]
    assert not np.allclose(first / np.abs(first).max(), last / np.abs(last).max(), atol=1e-2)


def test_every_size_of_the_search_can_be_built(nb):
    """The builders take the settings that are searched."""
    for name, sizes in nb.CONTESTANTS.items():
        for settings in sizes.values():
            assert nb.BUILDERS[name](**settings).output_shape == (None, 10)


# ------------------------------------------------------------------ training


def test_order_goes_through_all_images_in_passes(nb):
    """Each pass is a permutation of the chosen images; smaller sets are parts of larger ones; seeds repeat."""
    order = nb.draw_order(300, 9, seed=1)
    assert len(order) == 900
    for start in (0, 300, 600):
        assert sorted(order[start : start + 300]) == list(range(300))
    assert not np.array_equal(order[:300], order[300:600])
    small, large = (set(nb.draw_order(300, 4, seed=1, size=size)) for size in (20, 50))
    assert len(small) == 20 and len(large) == 50 and small < large
    assert np.array_equal(order, nb.draw_order(300, 9, seed=1))
    assert not np.array_equal(order, nb.draw_order(300, 9, seed=2))


@pytest.mark.parametrize("name", ["MLP", "CNN"])
def test_both_networks_learn_an_easy_task(nb, name):
    """A run has a row with its settings, its weights, and an accuracy that the weights reproduce."""
    X, y = easy_task()
    row = nb.train_once(name, 0.003, 5, (X, y), (X, y), 100, label="easy")
    assert [row[key] for key in ("network", "label", "size", "lr", "seed")] == [name, "easy", None, 0.003, 5]
    assert row["accuracy"] > 0.9
    model = nb.BUILDERS[name]()
    model.set_weights(row["weights"])
    assert nb.accuracy_of(model, X, y) == row["accuracy"]


def test_a_run_does_not_depend_on_the_one_before(nb):
    """A network that was used is handed out as new: its second run ends where a compiled one ends."""
    nb.IDLE.clear()
    data, other = easy_task(200), random_pictures(200)
    alone = nb.train_once("MLP", 0.01, 1, data, data, 20)["weights"]
    nb.train_once("MLP", 0.03, 2, other, other, 20)
    again = nb.train_once("MLP", 0.01, 1, data, data, 20)["weights"]
    assert {key: len(models) for key, models in nb.IDLE.items()} == {("MLP", "{}"): 1}
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(alone, again))


def test_a_network_handed_out_is_not_in_use(nb):
    """Two runs at a time never share a network, and other settings get another network."""
    nb.IDLE.clear()
    first, second = (nb.as_new("MLP", {}, seed=0) for _ in range(2))
    assert first is not second
    nb.IDLE["MLP", "{}"].append(first)
    assert nb.as_new("MLP", {"widths": (3,)}, seed=0).count_params() == 785 * 3 + 4 * 10
    assert nb.as_new("MLP", {}, seed=0) is first


def test_two_at_a_time_changes_nothing(nb):
    """Runs side by side end where each ends alone, and their rows keep the order of the runs."""
    data = easy_task(200)
    common = {"data": data, "judge": data, "num_updates": 20}
    rows = [("CNN", 0.01, 1), ("CNN", 0.003, 2), ("MLP", 0.01, 1), ("MLP", 0.003, 2)]
    runs = [common | {"network": name, "lr": lr, "seed": seed} for name, lr, seed in rows]
    table = nb.train_all(runs)
    assert list(table[["network", "lr", "seed"]].itertuples(index=False, name=None)) == rows
    for together, run in zip(table["weights"], runs):
        alone = nb.train_once(**run)["weights"]
        assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(together, alone))


def test_sgd_trains_the_mlp_of_section_3(nb, monkeypatch):
    """The row has what the stress test needs, and training moved only the weights of pixels with ink."""
    X, y = easy_task(200)
    X[:, :2] = 0
    for name, value in {"X_train": X, "y_train": y, "valid_data": (X, y), "NUM_UPDATES": 60}.items():
        monkeypatch.setattr(nb, name, value, raising=False)
    row = nb.train_by_sgd(0.1, seed=3)
    assert (row["network"], row["lr"], row["seed"]) == ("MLP", 0.1, 3)
    assert row["accuracy"] > 0.9
    inked = X.any(axis=0).ravel()
    assert nb.distance_moved([row], ~inked) == 0
    assert nb.distance_moved([row], inked) > 1e-3


def test_the_rate_falls_to_zero(nb):
    """The rate is linear in the updates made so far."""
    callback, model = nb.FallingRate(0.1, 40), nb.compiled(nb.build_mlp((3,)))
    callback.set_model(model)
    rates = []
    for done in (0, 10, 20, 40):
        model.optimizer.iterations.assign(done)
        callback.on_train_batch_begin(0)
        rates.append(float(model.optimizer.learning_rate))
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.0])


def test_accuracy_counts_the_largest_score(nb):
    """A network that always says 3 is right where the label is 3, over more images than one block."""
    model = nb.build_mlp(())
    weights = [np.zeros((784, 10)), np.eye(10)[3]]
    model.set_weights(weights)
    X, _ = random_pictures(1200)
    y = np.where(np.arange(1200) < 300, 3, 5)
    assert nb.accuracy_of(model, X, y) == 0.25


# ------------------------------------------------------------------ tables


def made_up_table():
    """Return runs of both networks at two rates with two seeds."""
    rows = [("MLP", 0.1, 1, 0.5), ("MLP", 0.1, 0, 0.7), ("MLP", 0.2, 0, 0.7), ("MLP", 0.2, 1, 0.6)]
    rows += [("CNN", 0.1, 0, 0.9), ("CNN", 0.1, 1, 0.8), ("CNN", 0.2, 0, 0.95), ("CNN", 0.2, 1, 0.5)]
    return pd.DataFrame(rows, columns=["network", "lr", "seed", "accuracy"])


def test_best_rate_is_the_smallest_that_is_good_enough(nb):
    """The mean over the runs decides, for each network alone; within one standard error the smaller rate wins."""
    many, few = (nb.best_rates(made_up_table(), n) for n in (10_000, 25))
    assert many == {"MLP": 0.2, "CNN": 0.1}  # means 0.60, 0.65 and 0.85, 0.725
    assert few == {"MLP": 0.1, "CNN": 0.1}  # 0.65 has a standard error of 0.095


def test_leads_are_paired_by_seed(nb):
    """The values stand in the order of the seeds, whatever that of the rows; the lead is in points."""
    values = nb.by_network(made_up_table(), lr=0.1)
    assert values["MLP"].tolist() == [0.7, 0.5]
    assert nb.lead_of_cnn(values) == pytest.approx([20, 30])
    table = nb.verdict({"toy": values})
    assert table.loc["toy", "lead"] == "+25.00 ± 7.07" and table.loc["toy", "MLP"].startswith("60.00 ± 14.14")


def test_images_for_an_error(nb):
    """Lines in a log-log plot; infinity where no size is enough."""
    assert nb.images_for([100, 10_000], [0.4, 0.1], 0.2) == pytest.approx(1000)
    assert nb.images_for([100, 10_000], [0.4, 0.1], 0.05) == np.inf


# ------------------------------------------------------------------ disturbances


@pytest.mark.parametrize(("right", "down"), [(3, 0), (-3, 0), (0, 2), (0, -2), (1, -4), (0, 0)])
def test_shifts_move_every_pixel(nb, right, down):
    """One bright pixel arrives where it should, and the background comes in from the side."""
    image = np.zeros((1, 28, 28, 1), np.float32)
    image[0, 10, 15] = 1
    moved = nb.shifted_by(image, right, down)
    assert moved[0, 10 + down, 15 + right, 0] == 1 and moved.sum() == 1
    ones = nb.shifted_by(np.ones_like(image), right, down)
    assert ones.sum() == (28 - abs(right)) * (28 - abs(down))


def test_noise_has_the_right_size_and_stays_in_range(nb):
    """Around gray 0.5 the standard deviation is as asked; the result lies in 0 to 1; seeds repeat."""
    gray = np.full((20, 28, 28, 1), 0.5, np.float32)
    assert (nb.noisy(gray, 0.1, seed=0) - gray).std() == pytest.approx(0.1, rel=0.02)
    loud = nb.noisy(gray, 2, seed=0)
    assert loud.min() == 0 and loud.max() == 1
    assert np.array_equal(loud, nb.noisy(gray, 2, seed=0))


def test_disturbed_gives_the_versions_it_promises(nb):
    """Four shifts, two rotations (counterclockwise and back), one noise; level 0 is the image itself."""
    images, _ = random_pictures(2)
    for kind, number in [("shift", 4), ("rotation", 2), ("noise", 1)]:
        versions = nb.disturbed(images, kind, 0)
        assert len(versions) == number
        assert all(np.allclose(version, images, atol=1e-6) for version in versions)
        assert not np.allclose(nb.disturbed(images, kind, 3)[0], images)
    left, right = nb.disturbed(images, "rotation", 90)
    assert np.allclose(left, np.rot90(images, 1, axes=(1, 2)), atol=1e-5)
    assert np.allclose(right, np.rot90(images, -1, axes=(1, 2)), atol=1e-5)


def test_shuffled_pixels_keep_all_values(nb):
    """The same order for every image, undone by the inverse order; something else than a permutation is refused."""
    images, _ = random_pictures(3)
    order = np.random.default_rng(0).permutation(784)
    shuffled = nb.shuffled_pixels(images, order)
    assert shuffled.shape == images.shape and not np.allclose(shuffled, images)
    assert np.array_equal(nb.shuffled_pixels(shuffled, np.argsort(order)), images)
    assert shuffled[1].ravel()[5] == images[1].ravel()[order[5]]
    with pytest.raises(ValueError, match="order must be a permutation of 0 to 783"):
        nb.shuffled_pixels(images, np.zeros(784, int))


# ------------------------------------------------------------------ your turn


def every_place(x, w, stride):
    """Return the sums at every place, as if there were no stride."""
    return np.correlate(x, w, "valid")


def read_backwards(x_scale=np.log, y_scale=np.log, back=np.exp, turn=True):
    """Return a function for the images needed, with the mistakes asked for."""

    def images_needed(sizes, errors, target):
        xs, ys = x_scale(np.array(sizes, float)), y_scale(np.array(errors, float))
        step = -1 if turn else 1
        return back(np.interp(y_scale(target), ys[::step], xs[::step]))

    return images_needed


def same(x):
    """Return x."""
    return x


ANSWERS = {  # name: list of (answer, start of its verdict, words of its hint)
    "slide": [
        (lambda x, w, s: np.correlate(x, w, "valid")[::s], "right", ""),
        (every_place, "not yet", "stride"),
        (lambda x, w, s: np.convolve(x, w, "valid")[::s], "not yet", "turn the weights"),
        (lambda x, w, s: np.correlate(x, w, "same")[::s], "not yet", "places where the weights fit"),
        (lambda x, w, s: np.correlate(x, w, "valid")[:-1:s], "not yet", "places where the weights fit"),
    ],
    "convolution_size": [
        (lambda k, c, d: (k * k * c + 1) * d, "right", ""),
        (lambda k, c, d: k * k * c * d, "not yet", "has a bias"),
        (lambda k, c, d: (k * k + 1) * d, "not yet", "for each input channel"),
        (lambda k, c, d: (k * k + 1) * c * d, "not yet", "one bias"),
        (lambda k, c, d: k * k * c * d + 1, "not yet", "each of the d filters"),
        (lambda k, c, d: [k, c, d], "not yet", "return a number"),
    ],
    "paired_lead": [
        (lambda c, m: ((d := 100 * np.subtract(c, m)).mean(), d.std(ddof=1)), "right", ""),
        (lambda c, m: ((d := 100 * np.subtract(c, m)).mean(), d.std()), "not yet", "n - 1"),
        (lambda c, m: ((d := 100 * np.subtract(m, c)).mean(), d.std(ddof=1)), "not yet", "CNN minus MLP"),
        (lambda c, m: ((d := np.subtract(c, m)).mean(), d.std(ddof=1)), "not yet", "times 100"),
        (lambda c, m: ((d := np.subtract(c, m)).mean(), d.std()), "not yet", "times 100"),
        (
            lambda c, m: (100 * (np.mean(c) - np.mean(m)), 100 * np.hypot(np.std(c, ddof=1), np.std(m, ddof=1))),
            "not yet",
            "seed by seed first",
        ),
        (lambda c, m: ((d := 100 * np.subtract(c, m)).mean(), d.var(ddof=1)), "not yet", "the variance"),
        (lambda c, m: ((d := 100 * np.subtract(c, m)).mean(), d.std(ddof=1) / 3**0.5), "not yet", "standard error"),
        (lambda c, m: 100 * np.subtract(c, m), "not yet", "two numbers"),
        (lambda c, m: c - m, "not yet", "NumPy arrays"),
    ],
    "images_needed": [
        (read_backwards(), "right", ""),
        (read_backwards(np.log10, np.log10, lambda x: 10**x), "right", ""),
        (read_backwards(same, same, same), "not yet", "take logarithms"),
        (read_backwards(back=same), "not yet", "turn the logarithm back"),
        (read_backwards(turn=False), "not yet", "ascending"),
        (lambda s, e, t: np.exp(np.interp(np.log(t), np.log(e)[::-1], np.log(s))), "not yet", "turn both lists around"),
        (read_backwards(y_scale=same), "not yet", ""),
    ],
    "shuffled_weights": [
        (lambda W, order: W[order], "right", ""),
        (lambda W, order: W, "not yet", "not moved"),
        (lambda W, order: W[np.argsort(order)], "not yet", "inverse order"),
        (lambda W, order: W[:, [3, 2, 1, 0]], "not yet", "row per pixel"),
        (lambda W, order: W[order].T, "not yet", "shape"),
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
    values = [np.nan, {}, object(), [[1], [2, 3]], np.inf, True]
    assert_never_raises(getattr(nb, f"check_{name}"), capsys, values)
