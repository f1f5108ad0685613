"""The definitions of notebook 07, tested on small data."""

import time

import numpy as np
import pandas as pd
import pytest

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of notebook 07."""
    return load_definitions("07", root=tmp_path_factory.mktemp("root"))


def random_pictures(n, seed=0):
    """Return n random images (n, 28, 28, 1) from 0 to 1 and labels (n,)."""
    rng = np.random.default_rng(seed)
    return rng.random((n, 28, 28, 1), dtype=np.float32), rng.integers(0, 10, n)


def test_sliding_matrix_is_a_convolution(nb):
    """The matrix gives NumPy's correlation; its columns are shifted copies; a kernel that does not fit is refused."""
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=9), rng.normal(size=4)
    matrix = nb.sliding_matrix(weights, 9)
    assert matrix.shape == (9, 6)
    assert np.allclose(x @ matrix, np.correlate(x, weights, "valid"))
    assert (matrix[1:, 1] == matrix[:-1, 0]).all()
    with pytest.raises(ValueError, match="weights has length 5; expected 1 to 4"):
        nb.sliding_matrix([1] * 5, 4)


def test_matrix_of_layer_equals_the_layer(nb):
    """The matrix found with unit images applies a strided convolution with many channels, too."""
    layer = nb.keras.layers.Conv2D(3, 3, strides=2, padding="same", use_bias=False)
    matrix = nb.matrix_of_layer(layer, side=6)
    image = np.random.default_rng(1).random((1, 6, 6, 1), dtype=np.float32)
    assert matrix.shape == (36, 3 * 3 * 3)
    assert np.allclose(image.reshape(1, -1) @ matrix, np.asarray(layer(image)).reshape(1, -1), atol=1e-5)


@pytest.mark.parametrize("widths", [(128,), (256, 64), ()])
def test_parameters_of_mlp_equal_keras(nb, widths):
    """The formula counts what Keras counts."""
    assert nb.parameters_of_mlp(widths) == nb.build_mlp(widths).count_params()


@pytest.mark.parametrize(("channels", "width"), [((8, 16), 124), ((4,), 7), ((4, 8, 16), 10)])
def test_parameters_of_cnn_equal_keras(nb, channels, width):
    """The formula counts what Keras counts, for one to three convolutions (sides 14, 7, 4)."""
    assert nb.parameters_of_cnn(channels, width) == nb.build_matched_cnn(channels, width).count_params()


@pytest.mark.parametrize("budget", [20_000, 50_000, 101_770, 400_000])
def test_width_for_budget_is_the_closest(nb, budget):
    """One unit more or less is further from the budget; a tiny budget gives one unit."""
    width = nb.width_for_budget(budget, (8, 16))
    off = [abs(nb.parameters_of_cnn((8, 16), width + step) - budget) for step in (-1, 0, 1)]
    assert off[1] == min(off)
    assert nb.width_for_budget(10, (8, 16)) == 1


def test_solutions_of_the_first_exercises(nb):
    """The numbers in the folded solutions are right."""
    assert nb.parameters_of_cnn((4, 8), 100) == 104 + 808 + 39_300 + 1_010 == 41_222
    assert nb.width_for_budget(50_000, (8, 16)) == 59
    assert nb.parameters_of_cnn((8, 16), 59) == 50_339


def test_budgets_match_within_five_percent(nb):
    """The two contestants of round one are of equal size."""
    assert abs(nb.build_matched_cnn().count_params() / nb.build_mlp().count_params() - 1) < 0.05


def test_multiplications_by_hand(nb):
    """One multiplication per weight and output position."""
    assert nb.multiplications_of_mlp((128,)) == 784 * 128 + 128 * 10
    assert nb.multiplications_of_cnn((2,), 5) == 14 * 14 * 25 * 2 + 14 * 14 * 2 * 5 + 5 * 10


@pytest.mark.parametrize("dropout", [-0.1, 1, 2.0])
def test_bad_dropout_is_named(nb, dropout):
    """A share outside of 0 to 1 is refused by both builders."""
    for build in (nb.build_mlp, nb.build_matched_cnn):
        with pytest.raises(ValueError, match="expected a number from 0 to below 1"):
            build(dropout=dropout)


def test_dropout_is_active_in_training_only(nb):
    """Scores are repeatable; with dropout in training mode they are not."""
    X, _ = random_pictures(5)
    model = nb.build_mlp((32,), dropout=0.5)
    assert np.array_equal(nb.scores_of(model, X), nb.scores_of(model, X))
    assert not np.allclose(np.asarray(model(X, training=True)), nb.scores_of(model, X))


def test_scores_do_not_depend_on_the_block(nb):
    """Blocks do not change the scores."""
    X, _ = random_pictures(7)
    model = nb.build_matched_cnn((2, 3), 4)
    assert np.allclose(nb.scores_of(model, X, block=3), nb.scores_of(model, X), atol=1e-5)


def test_batches_cover_each_pass_and_repeat_with_the_seed(nb):
    """Full batches, each pass a permutation, labels stay with their images, equal seeds give equal batches."""
    X = np.arange(10, dtype=np.float32).reshape(10, 1)
    batches = [(x.numpy().ravel(), y.numpy()) for x, y in nb.batch_stream(X, np.arange(10), 7, 3, seed=1)]
    again = [y.numpy() for _, y in nb.batch_stream(X, np.arange(10), 7, 3, seed=1)]
    other = [y.numpy() for _, y in nb.batch_stream(X, np.arange(10), 7, 3, seed=2)]
    assert len(batches) == 7
    assert all((x == y).all() for x, y in batches)
    assert len(set(np.concatenate([y for _, y in batches[:3]]))) == 9
    assert len(set(np.concatenate([y for _, y in batches[3:6]]))) == 9
    assert all((y == z).all() for (_, y), z in zip(batches, again))
    assert any((y != z).any() for (_, y), z in zip(batches, other))


@pytest.mark.parametrize("batch_size", [0, 11])
def test_bad_batch_size_is_named(nb, batch_size):
    """A batch that does not fit is refused with the allowed values."""
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}; expected 1 to 10"):
        nb.batch_stream(np.zeros((10, 1), np.float32), np.zeros(10), 1, batch_size, seed=0)


def test_loss_and_accuracy_by_hand(nb):
    """Equal scores cost ln 10; huge scores stay finite; accuracy counts the largest score."""
    y = np.array([0, 3])
    loss, _ = nb.loss_and_accuracy(np.zeros((2, 10)), y)
    assert loss == pytest.approx(np.log(10))
    scores = np.zeros((2, 10))
    scores[0, 0], scores[1, 4] = 1000, 1000
    loss, accuracy = nb.loss_and_accuracy(scores, y)
    assert loss == pytest.approx(500) and accuracy == 0.5


def easy_task(n=400):
    """Return images whose label is the row of a bright line, and labels (n,)."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, n)
    X = 0.2 * rng.random((n, 28, 28, 1), dtype=np.float32)
    X[np.arange(n), 4 + 2 * y] = 1
    return X, y


@pytest.mark.parametrize("name", ["MLP", "CNN"])
def test_both_networks_learn_an_easy_task(nb, name):
    """The loss falls, the accuracy rises, and the history has a row per check."""
    X, y = easy_task()
    model, history = nb.train_contestant(nb.BUILDERS[name], (X, y), 165, 0, {"train": (X, y)}, num_checks=2)
    assert history["update"].tolist() == [80, 160]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert history["train_accuracy"].iloc[-1] > 0.9
    assert history["seconds"].iloc[-1] > history["seconds"].iloc[0] > 0
    assert nb.loss_and_accuracy(nb.scores_of(model, X), y)[1] == history["train_accuracy"].iloc[-1]


def test_a_used_workbench_does_not_matter(nb):
    """Weights, Adam's memory and dropout start afresh: equal seeds give equal runs, other seeds others."""
    X, y = easy_task(200)
    runs = [nb.train_contestant(nb.build_mlp, (X, y), 20, s, {}, widths=(9,), dropout=0.5) for s in (0, 1, 0)]
    first, other, again = (nb.scores_of(model, X) for model, _ in runs)
    assert np.allclose(first, again, atol=1e-4)
    assert not np.allclose(first, other, atol=1e-2)
    with nb.workbench(nb.build_mlp, widths=(9,), dropout=0.5) as bench:
        with nb.workbench(nb.build_mlp, widths=(9,), dropout=0.5) as second:
            assert second is not bench
    with nb.workbench(nb.build_mlp, widths=(9,), dropout=0.5) as again:
        assert again is bench


def test_two_at_a_time_changes_nothing(nb):
    """Networks that train side by side end where each ends alone, and results keep the order of the plan."""
    X, y = easy_task(200)

    def scores(name, seed):
        """Return the scores of a network with dropout after a few updates."""
        return nb.scores_of(nb.train_contestant(nb.BUILDERS[name], (X, y), 40, seed, {}, dropout=0.3)[0], X)

    plan = [(name, seed) for seed in (0, 1, 2) for name in nb.BUILDERS]
    for arguments, together in zip(plan, nb.two_at_a_time(scores, plan, "test")):
        assert np.allclose(together, scores(*arguments), atol=1e-4)


def test_an_error_in_one_of_two_is_raised(nb):
    """An error in one of two runs reaches the reader."""
    X, y = easy_task(200)

    def wild(seed):
        """Train with a learning rate that cannot work."""
        return nb.train_contestant(nb.build_mlp, (X, y), 20, seed, {}, lr=1e30, widths=(9,), dropout=0.5)

    with pytest.raises(FloatingPointError, match="smaller lr"):
        nb.two_at_a_time(wild, [(0,), (1,)], "test")


def test_after_an_error_nothing_new_is_begun(nb):
    """When one of a long plan fails, the ones that wait are dropped."""
    begun = []

    def work(number):
        """Note the number; fail at 1, take a moment otherwise."""
        begun.append(number)
        if number == 1:
            raise RuntimeError("stop")
        time.sleep(0.2)

    with pytest.raises(RuntimeError, match="stop"):
        nb.two_at_a_time(work, [(number,) for number in range(20)], "test")
    assert len(begun) < 8


def test_learning_rate_falls_to_zero(nb):
    """The rate of each call is linear in the updates made so far, over all stretches."""
    referee = nb.Referee(0.1, 2 * nb.STEPS, 2, {})
    referee.set_model(nb.new_workbench(nb.build_mlp, widths=(9,), dropout=0.5))
    rates = []
    for batch in range(4):
        referee.on_train_batch_begin(batch)
        rates.append(float(referee.model.optimizer.learning_rate))
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_training_names_bad_arguments(nb):
    """Too few updates and a wild learning rate are refused."""
    X, y = easy_task(200)
    with pytest.raises(ValueError, match="num_updates is 29; expected at least 30"):
        nb.train_contestant(nb.build_mlp, (X, y), 29, 0, {}, num_checks=3, widths=(9,), dropout=0.5)
    with pytest.raises(FloatingPointError, match="try a smaller lr than 1e"):
        nb.train_contestant(nb.build_mlp, (X, y), 20, 0, {}, lr=1e30, widths=(9,), dropout=0.5)


def made_up_history(factor=1.0):
    """Return a history of two checks that ends with a training accuracy of 0.9 times `factor`, validation 0.8."""
    return pd.DataFrame({"train_accuracy": [0.8, 0.9 * factor], "valid_accuracy": [0.7, 0.8]})


def test_generalization_gap_is_training_minus_validation(nb):
    """One number per seed, of the right contest and network."""
    histories = {("a", "MLP", 0): made_up_history(), ("a", "MLP", 1): made_up_history(1.1), ("a", "CNN", 0): None}
    assert nb.generalization_gap(histories, "a", "MLP") == pytest.approx([0.1, 0.19])


def test_paired_differences(nb):
    """Percentage points, seed by seed."""
    assert nb.paired([0.99, 0.98], [0.98, 0.98]) == pytest.approx([1, 0])


def test_random_trials_are_different_and_allowed(nb):
    """Each trial takes one value per list, none comes twice, and too many are refused."""
    choices = {"a": [1, 2], "b": [(3,), (4, 5), (6,)]}
    trials = nb.random_trials(choices, 6, seed=0)
    assert len({str(trial) for trial in trials}) == 6
    assert all(trial["a"] in choices["a"] and trial["b"] in choices["b"] for trial in trials)
    assert nb.random_trials(choices, 3, seed=1) == nb.random_trials(choices, 3, seed=1)
    with pytest.raises(ValueError, match="num_trials is 7; expected 1 to 6"):
        nb.random_trials(choices, 7, seed=0)


def test_every_choice_of_the_search_can_be_built(nb):
    """The builders take the names and values that the search draws."""
    for name, build in nb.BUILDERS.items():
        for key, values in nb.CHOICES[name].items():
            for value in values:
                assert build(**{key: value, "dropout": 0.2}).output_shape == (None, 10)


def test_updates_grow_with_the_fourth_root(nb):
    """Sixteen times the images, twice the updates; never fewer than `least`."""
    assert nb.updates_for(16_000, 16_000, 1000) == 1000
    assert nb.updates_for(1000, 16_000, 1000) == 500
    assert nb.updates_for(1, 16_000, 1000, least=150) == 150


def test_images_needed(nb):
    """Halfway on a logarithmic axis; infinite or nan outside; a dip does not matter."""
    assert nb.images_needed([100, 10_000], [0.5, 0.7], 0.6) == pytest.approx(1000)
    assert nb.images_needed([100, 10_000], [0.5, 0.7], 0.8) == np.inf
    assert np.isnan(nb.images_needed([100, 10_000], [0.5, 0.7], 0.4))
    assert nb.images_needed([1, 10, 100, 1000], [0.1, 0.3, 0.2, 0.5], 0.4) == pytest.approx(10 ** (2 + 0.5), rel=0.01)


def test_lead_at_a_size(nb):
    """The CNN's lead in points, per seed, for one size only."""
    table = pd.DataFrame(
        [(10, "MLP", 0, 0.5), (10, "CNN", 0, 0.6), (10, "MLP", 1, 0.5), (10, "CNN", 1, 0.4), (20, "MLP", 0, 0.1)],
        columns=["size", "network", "seed", "test"],
    )
    assert nb.lead_of_cnn(table, "test", size=10) == pytest.approx([10, -10])


@pytest.mark.parametrize(("right", "down"), [(3, 0), (-3, 0), (0, 2), (0, -2), (1, -4), (0, 0)])
def test_shifts_move_every_pixel(nb, right, down):
    """One bright pixel arrives where it should, and the background comes in from the side."""
    image = np.zeros((1, 28, 28, 1), np.float32)
    image[0, 10, 15] = 1
    moved = nb.shifted_by(image, right, down)
    assert moved[0, 10 + down, 15 + right, 0] == 1 and moved.sum() == 1
    ones = nb.shifted_by(np.ones_like(image), right, down)
    assert ones.sum() == (28 - abs(right)) * (28 - abs(down))


def test_shift_out_of_the_frame_is_refused(nb):
    """A shift by the whole width has no picture left."""
    with pytest.raises(ValueError, match="right is 28 and down 0; expected less than 28"):
        nb.shifted_by(np.zeros((1, 28, 28, 1), np.float32), 28, 0)


def test_quarter_turns_equal_numpy(nb):
    """A turn by 90 degrees is counterclockwise and exact."""
    images, _ = random_pictures(3)
    assert np.allclose(nb.turned_by(images, 90), np.rot90(images, 1, axes=(1, 2)), atol=1e-5)
    assert np.allclose(nb.turned_by(images, 0), images)


def test_noise_has_the_right_size_and_stays_in_range(nb):
    """Around gray 0.5 the standard deviation is as asked; the result lies in 0 to 1; seeds repeat."""
    gray = np.full((20, 28, 28, 1), 0.5, np.float32)
    assert (nb.noisy(gray, 0.1, seed=0) - gray).std() == pytest.approx(0.1, rel=0.02)
    loud = nb.noisy(gray, 2, seed=0)
    assert loud.min() == 0 and loud.max() == 1
    assert np.array_equal(loud, nb.noisy(gray, 2, seed=0))


def test_noise_in_one_place(nb):
    """Noise in the rim leaves the middle alone, and the other way round; another place is refused."""
    gray = np.full((2, 28, 28, 1), 0.5, np.float32)
    rim, middle = (nb.noisy_where(gray, 0.1, place, seed=0) != gray for place in ("rim", "middle"))
    assert not rim[:, 4:24, 4:24].any() and rim[:, :4].mean() > 0.99
    assert middle[:, 4:24, 4:24].mean() > 0.99 and middle.sum() <= 2 * 400
    with pytest.raises(ValueError, match="place is 'edge'; use 'rim' or 'middle'"):
        nb.noisy_where(gray, 0.1, "edge", seed=0)


def test_differences_in_points(nb):
    """Mean and standard deviation in percentage points, with the sign."""
    assert nb.in_points([0.01, 0.03]) == "+2.00 ± 1.41 points"


def test_disturbed_gives_the_versions_it_promises(nb):
    """Four shifts, two rotations, one noise; level 0 is the image itself; another kind is refused."""
    images, _ = random_pictures(2)
    for kind, number in [("shift", 4), ("rotation", 2), ("noise", 1)]:
        versions = nb.disturbed(images, kind, 0)
        assert len(versions) == number
        assert all(np.allclose(version, images, atol=1e-6) for version in versions)
        assert not np.allclose(nb.disturbed(images, kind, 3)[0], images)
    with pytest.raises(ValueError, match="kind is 'blur'; use 'shift', 'rotation' or 'noise'"):
        nb.disturbed(images, "blur", 1)


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


def test_opinions_are_probabilities_and_a_picture(nb):
    """Ten numbers that sum to 1, and a PNG for the slider."""
    X, _ = random_pictures(1)
    networks = {name: build() for name, build in nb.BUILDERS.items()}
    probabilities = nb.probabilities_of(networks["CNN"], X[0])
    assert probabilities.shape == (10,) and probabilities.sum() == pytest.approx(1, abs=1e-5)
    pictures = [nb.opinions_png(networks, X[0], shift, 0, 0.0) for shift in (0, 5)]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures) and pictures[0] != pictures[1]


def test_verdict_rows(nb):
    """One row per comparison with both accuracies and the paired difference."""
    table = nb.verdict_rows({"toy": ([0.5, 0.6], [0.7, 0.9])})
    assert table.loc["toy", "MLP"].startswith("55.00 ± 7.07 %")
    assert table.loc["toy", "lead of the CNN (points)"] == "+25.00 ± 7.07"
