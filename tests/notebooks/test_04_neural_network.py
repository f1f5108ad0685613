"""The network of notebook 04: gradients against PyTorch, numbers known by hand, bad input, and the Keras twin."""

import numpy as np
import pytest
import torch

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of notebook 04, loaded where they cannot touch the repository."""
    return load_definitions("04", root=tmp_path_factory.mktemp("notebook_04"))


def torch_loss_and_gradients(network, X, y):
    """Return the loss and the gradients of the parameters of `network`, by PyTorch."""
    parameters = [torch.tensor(array, requires_grad=True) for array in network.parameters()]
    a = torch.tensor(X)
    for W, b in zip(parameters[0:-2:2], parameters[1:-2:2]):
        a = {"sigmoid": torch.sigmoid, "relu": torch.relu}[network.hidden](a @ W + b)
    z = a @ parameters[-2] + parameters[-1]
    if network.sizes[-1] == 1:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z[:, 0], torch.tensor(y).double())
    else:
        loss = torch.nn.functional.cross_entropy(z, torch.tensor(y))
    loss.backward()
    return loss.item(), [p.grad.numpy() for p in parameters]


@pytest.mark.parametrize("hidden", ["sigmoid", "relu"])
@pytest.mark.parametrize("sizes", [[3, 1], [3, 2], [5, 7, 1], [5, 7, 4], [4, 6, 5, 3], [2, 3, 4, 3, 1]])
def test_loss_and_gradients_equal_pytorch(nb, sizes, hidden):
    """Backpropagation agrees with PyTorch's autograd for every depth, unit and loss."""
    network, (X, y) = nb.network_to_check(sizes, hidden, seed=3), nb.random_examples(sizes, seed=4)
    loss, gradients = network.gradients(X, y)
    their_loss, theirs = torch_loss_and_gradients(network, X, y)
    assert loss == pytest.approx(their_loss, rel=1e-12)
    assert nb.largest_relative_error(gradients, theirs) < 1e-12


def test_central_differences_agree_and_leave_the_network_as_it_was(nb):
    """The numerical check passes for the right network, fails for the wrong one, and changes no parameter."""
    network, (X, y) = nb.network_to_check([3, 4, 2], "sigmoid"), nb.random_examples([3, 4, 2])
    before = [array.copy() for array in network.parameters()]
    assert nb.largest_relative_error(network.gradients(X, y)[1], nb.network_differences(network, X, y)) < 1e-6
    for old, new in zip(before, network.parameters()):
        assert np.array_equal(old, new)
    wrong = nb.network_to_check([3, 4, 2], "sigmoid", kind=nb.ForgetfulNetwork)
    assert nb.largest_relative_error(wrong.gradients(X, y)[1], nb.network_differences(wrong, X, y)) > 0.1


def test_relative_error(nb):
    """Equal arrays have error 0, also zero ones; opposite arrays have error 1; the worst pair counts."""
    a = np.array([1.0, 2.0])
    assert nb.largest_relative_error([a, 0 * a], [a, 0 * a]) == 0
    assert nb.largest_relative_error([a, a], [a, -a]) == 1
    assert nb.largest_relative_error([a], [3 * a]) == pytest.approx(0.5)


def test_xor_by_hand(nb):
    """The weights set by hand give the scores and the gradients that the text derives."""
    network = nb.set_to_xor(nb.NeuralNetwork([2, 2, 1], "relu"))
    assert network.scores(nb.BITS)[:, 0].tolist() == [-0.5, 0.5, 0.5, -0.5]
    assert network.predict(nb.BITS).tolist() == nb.XOR.tolist()
    loss, (_, _, dW2, _) = network.gradients(np.array([[1.0, 1.0]]), np.array([0]))
    delta = 1 / (1 + np.exp(0.5))
    assert dW2[:, 0] == pytest.approx([2 * delta, delta])
    assert loss == pytest.approx(np.log(1 + np.exp(-0.5)))


@pytest.mark.parametrize("columns", [1, 4])
def test_losses_are_stable_and_known(nb, columns):
    """Equal scores cost ln K; enormous scores give a finite loss and gradient, without a warning."""
    y = np.array([0, 1])
    with np.errstate(all="raise", under="ignore"):
        loss, delta = nb.cross_entropy_of_scores(np.zeros((2, columns)), y)
        assert loss == pytest.approx(np.log(max(2, columns)))
        loss, delta = nb.cross_entropy_of_scores(np.full((2, columns), -1e4) * np.arange(1, columns + 1), y)
    assert np.isfinite(loss)
    assert np.isfinite(delta).all()


def test_probabilities(nb):
    """Rows sum to 1; one score and two scores (0, z) are the same model."""
    one, two = nb.NeuralNetwork([3, 1], seed=1), nb.NeuralNetwork([3, 2], seed=1)
    two.weights[0][:] = np.hstack([np.zeros((3, 1)), one.weights[0]])
    X, y = nb.random_examples([3, 2])
    assert np.allclose(one.probabilities(X), two.probabilities(X), atol=1e-14)
    assert np.allclose(two.probabilities(1e3 * X).sum(axis=1), 1)
    assert one.loss(X, y) == pytest.approx(two.loss(X, y))
    assert one.accuracy(X, y) == two.accuracy(X, y) == np.mean(two.predict(X) == y)


def test_update_is_gradient_descent(nb):
    """An update moves each parameter by -lr times its gradient, computed before any of them moved."""
    network, (X, y) = nb.network_to_check([4, 6, 3], "relu"), nb.random_examples([4, 6, 3])
    before = [array.copy() for array in network.parameters()]
    loss, gradients = network.gradients(X, y)
    assert network.update(X, y, lr=0.25) == loss
    for old, new, gradient in zip(before, network.parameters(), gradients):
        assert np.allclose(new, old - 0.25 * gradient, atol=1e-15)


def test_batches_cover_everything_once(nb):
    """One epoch contains every index at most once, in full batches; the seed fixes the order."""
    batches = list(nb.shuffled_batches(23, 5, np.random.default_rng(0)))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5]
    assert len(set(np.concatenate(batches).tolist())) == 20
    again = np.concatenate(list(nb.shuffled_batches(23, 5, np.random.default_rng(0))))
    assert np.array_equal(again, np.concatenate(batches))
    everything = np.concatenate(list(nb.shuffled_batches(20, 5, np.random.default_rng(1))))
    assert sorted(everything.tolist()) == list(range(20))


def test_fit_learns_repeats_and_reports(nb):
    """The moons are learned; equal seeds give equal histories; the history and the callback are complete."""
    X, y = nb.two_moons(200, 0.1, seed=0)
    epochs, runs = [], []
    for seed in (0, 0, 1):
        network = nb.NeuralNetwork([2, 8, 1], "sigmoid", seed)
        runs.append(network.fit(X, y, 60, 20, 5.0, seed, (X, y), lambda epoch, network: epochs.append(epoch)))
    assert epochs == 3 * list(range(61))
    history, losses = runs[0]
    assert list(history.columns) == ["epoch", "loss", "seconds", "valid_loss", "valid_accuracy"]
    assert len(history) == 60
    assert len(losses) == 600
    assert history["loss"].iloc[0] == pytest.approx(np.mean(losses[:10]))
    assert history["valid_accuracy"].iloc[-1] > 0.95
    assert losses == runs[1][1]
    assert losses != runs[2][1]


def test_zero_start_keeps_units_equal(nb):
    """From zero weights the hidden units stay equal; ReLU units do not move at all."""
    X, y = nb.two_moons(100, 0.1, seed=0)
    for hidden in ("sigmoid", "relu"):
        network = nb.NeuralNetwork([2, 5, 1], hidden, init="zeros")
        network.fit(X, y, 5, 20, 1.0)
        assert nb.spread_of_units(network) < 1e-12
        assert (np.abs(network.weights[0]).max() > 0) == (hidden == "sigmoid")
    assert nb.share_of_dead_units(network, X) == 1
    assert nb.spread_of_units(nb.NeuralNetwork([2, 5, 1])) > 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": [3]}, "sizes"),
        ({"sizes": [3, 0, 1]}, "sizes"),
        ({"sizes": [3, 2.5, 1]}, "sizes"),
        ({"sizes": [3, 1], "hidden": "tanh"}, "hidden is 'tanh'.*sigmoid.*relu"),
        ({"sizes": [3, 1], "init": "ones"}, "init is 'ones'.*random.*zeros"),
        ({"sizes": [3, 1], "dtype": "int64"}, "dtype is 'int64'.*float32.*float64"),
    ],
)
def test_bad_networks_are_refused(nb, arguments, message):
    """A wrong argument of the constructor is named, with the allowed values."""
    with pytest.raises(ValueError, match=message):
        nb.NeuralNetwork(**arguments)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([[1.0, 2.0]], [0], r"X has shape \(1, 2\); expected \(n, 3\)"),
        ([1.0, 2.0, 3.0], [0], "X has shape"),
        (np.zeros((0, 3)), [], "X has shape"),
        ([["a", "b", "c"]], [0], "X must be an array of numbers"),
        ([[1.0, 2.0, 3.0], [1.0]], [0, 0], "X must be an array of numbers"),
        ([[1.0, np.nan, 3.0]], [0], "X has entries that are not finite"),
        ([[1.0, np.inf, 3.0]], [0], "X has entries that are not finite"),
        ([[1.0, 2.0, 3.0]], [0, 1], r"y has shape \(2,\); expected \(1,\)"),
        ([[1.0, 2.0, 3.0]], [[0]], "y has shape"),
        ([[1.0, 2.0, 3.0]], [4], "expected 0 to 3"),
        ([[1.0, 2.0, 3.0]], [-1], "expected 0 to 3"),
        ([[1.0, 2.0, 3.0]], [np.nan], "y has type float64; expected integers 0 to 3"),
    ],
)
def test_bad_data_is_refused_everywhere(nb, X, y, message):
    """loss, accuracy and fit name the argument and what they expect, and fit changes nothing."""
    network = nb.NeuralNetwork([3, 4])
    before = network.weights[0].copy()
    for call in (network.loss, network.accuracy, lambda X, y: network.fit(X, y, 1, 1, 0.1)):
        with pytest.raises(ValueError, match=message):
            call(X, y)
    assert np.array_equal(network.weights[0], before)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; expected 1 to 8"),
        ({"batch_size": 9}, "batch_size is 9; expected 1 to 8"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": np.nan}, "lr is nan"),
        ({"lr": np.inf}, "lr is inf"),
        ({"num_epochs": 0}, "num_epochs is 0"),
    ],
)
def test_bad_training_arguments_are_refused(nb, changed, message):
    """fit names the argument that makes no sense."""
    X, y = nb.random_examples([3, 2], n=8)
    with pytest.raises(ValueError, match=message):
        nb.NeuralNetwork([3, 2]).fit(X, y, **{"num_epochs": 1, "batch_size": 4, "lr": 0.1, **changed})


def test_an_exploding_loss_is_named(nb):
    """A learning rate that overflows ends in an error that names it, not in a network of nan."""
    X, y = nb.random_examples([3, 4, 2])
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="smaller lr than 1e\\+200"):
        nb.NeuralNetwork([3, 4, 2], "relu").fit(X, y, 5, 5, lr=1e200)


def test_preprocessing(nb):
    """Images become rows from 0 to 1 in reading order; labels become one-hot rows."""
    images = np.zeros((2, 28, 28), np.uint8)
    images[1, 2, 3] = 255
    X = nb.flat_pixels(images)
    assert X.shape == (2, 784)
    assert X.dtype == np.float32
    assert X.sum() == X[1, 2 * 28 + 3] == 1
    assert nb.one_hot(np.array([3, 0])).tolist() == [[0, 0, 0, 1] + 6 * [0], [1] + 9 * [0]]


def test_toy_data(nb):
    """Moons and spirals have the promised shapes, follow their seed, and hold all classes."""
    for make, num_classes in ((nb.two_moons, 2), (nb.three_spirals, 3)):
        X, y = make(300, 0.1, seed=5)
        assert X.shape == (300, 2)
        assert np.unique(y).tolist() == list(range(num_classes))
        assert np.array_equal(X, make(300, 0.1, seed=5)[0])
        assert not np.array_equal(X, make(300, 0.1, seed=6)[0])
    X, y = nb.two_moons(300, 0.0, seed=5)
    assert np.allclose(np.linalg.norm(X[y == 0], axis=1), 1)
    assert np.allclose(np.linalg.norm(X[y == 1] - [1, 0.5], axis=1), 1)


def test_plane_covers_the_points(nb):
    """The grid contains the box around the points, row by row from the bottom."""
    X = np.array([[0.0, 1.0], [2.0, 5.0]])
    grid, extent = nb.plane_around(X, steps=5, margin=1.0)
    assert extent == (-1, 3, 0, 6)
    assert grid.shape == (25, 2)
    assert grid[0].tolist() == [-1, 0]
    assert grid[4].tolist() == [3, 0]
    assert grid[-1].tolist() == [3, 6]


def test_widget_callback_draws(nb):
    """The picture behind the sliders is a PNG and depends on the sliders."""
    pictures = [nb.moons_png(num_hidden, 3.0, num_epochs=2) for num_hidden in (1, 4)]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] != pictures[1]


def test_keras_twin_scores_and_losses(nb):
    """The twin gives the same scores; trained on the same batches in float64 it has the same losses."""
    network = nb.NeuralNetwork([6, 5, 4, 3], "relu", seed=2, dtype="float32")
    X, _ = nb.random_examples([6, 3], n=30)
    twin = nb.keras_twin(network)
    assert np.allclose(twin.predict(X, verbose=0), network.scores(X), atol=1e-5)
    y = np.random.default_rng(0).integers(0, 10, 30)
    ours, theirs, model = nb.train_twins(X, y, "sigmoid", 0.5, 3, "float64", batch_size=10)
    assert len(ours) == len(theirs) == 9
    assert np.abs(ours - theirs).max() < 1e-12
    assert np.unique(np.round(theirs, 6)).size == 9
    assert model.count_params() == 6 * 128 + 128 + 128 * 10 + 10
    assert nb.keras.config.floatx() == "float32"


def test_first_disagreement_finds_nothing_where_nothing_is(nb, monkeypatch):
    """Twins fed the same batches agree on every unit; a twin with a shifted bias is found out in update 0."""
    X, _ = nb.random_examples([6, 3], n=30)
    y = np.random.default_rng(0).integers(0, 10, 30)
    X = X.astype(np.float32)
    assert nb.first_disagreement(X, y, 0.01, 2, batch_size=10) is None
    honest = nb.keras_twin

    def shifted_twin(network):
        model = honest(network)
        model.layers[0].bias.assign(np.full(128, 0.5))
        return model

    monkeypatch.setattr(nb, "keras_twin", shifted_twin)
    update, z, a = nb.first_disagreement(X, y, 0.01, 2, batch_size=10)
    assert update == 0
    assert (z > 0) != (a > 0)


def test_automatic_gradients_of_tensorflow(nb):
    """The notebook's third check compares with something that is not backpropagation of the class."""
    network, (X, y) = nb.network_to_check([4, 3, 2], "relu"), nb.random_examples([4, 3, 2])
    _, theirs = torch_loss_and_gradients(network, X, y)
    assert nb.largest_relative_error(nb.automatic_gradients(network, X, y), theirs) < 1e-12
