"""Notebook 04: gradients against PyTorch, numbers known by hand, the Keras twin, and the checks of its exercises."""

import numpy as np
import pytest
import torch
from exercises import assert_never_raises, assert_verdict

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of notebook 04; its exercises are defined by their solutions."""
    return load_definitions("04", root=tmp_path_factory.mktemp("notebook_04"))


def torch_loss_and_gradients(network, X, y):
    """Return the loss and the gradients of the parameters of `network`, by PyTorch."""
    parameters = [torch.tensor(array, requires_grad=True) for array in network.parameters]
    a = torch.tensor(X)
    for W, b in zip(parameters[0:-2:2], parameters[1:-2:2]):
        a = {"sigmoid": torch.sigmoid, "relu": torch.relu}[network.hidden](a @ W + b)
    z = a @ parameters[-2] + parameters[-1]
    if z.shape[1] == 1:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z[:, 0], torch.tensor(y).double())
    else:
        loss = torch.nn.functional.cross_entropy(z, torch.tensor(y))
    loss.backward()
    return loss.item(), [p.grad.numpy() for p in parameters]


# ------------------------------------------------------------------ the class


@pytest.mark.parametrize("hidden", ["sigmoid", "relu"])
@pytest.mark.parametrize("sizes", [[3, 1], [3, 2], [5, 7, 1], [5, 7, 4], [4, 6, 5, 3], [2, 3, 4, 3, 1]])
def test_loss_and_gradients_equal_pytorch(nb, sizes, hidden):
    """Backpropagation agrees with PyTorch's autograd for every depth, unit and loss."""
    network, X, y = nb.case_to_check(sizes, hidden, seed=3)
    loss, _ = nb.cross_entropy(network.forward(X)[-1], y)
    their_loss, theirs = torch_loss_and_gradients(network, X, y)
    assert loss == pytest.approx(their_loss, rel=1e-12)
    assert nb.largest_relative_error(nb.backpropagated(network, X, y), theirs) < 1e-12


def test_gradient_checks_tell_right_from_wrong(nb):
    """Both checks pass for the right network; a forgotten slope fails; no parameter is changed."""
    case = nb.case_to_check([4, 6, 3], "sigmoid", seed=0)
    before = [array.copy() for array in case[0].parameters]
    assert nb.largest_relative_error(nb.backpropagated(*case), nb.numerical_gradients(*case)) < 1e-6
    assert nb.largest_relative_error(nb.backpropagated(*case), nb.automatic_gradients(*case)) < 1e-12
    assert all(np.array_equal(old, new) for old, new in zip(before, case[0].parameters))
    nb.forget_slope(case[0])
    assert nb.largest_relative_error(nb.backpropagated(*case), nb.numerical_gradients(*case)) > 0.1


def test_relative_error(nb):
    """Equal arrays have error 0, also zero ones; opposite arrays have error 1; the worst pair counts."""
    a = np.array([1.0, 2.0])
    assert nb.largest_relative_error([a, 0 * a], [a, 0 * a]) == 0
    assert nb.largest_relative_error([a, a], [a, -a]) == 1
    assert nb.largest_relative_error([a], [3 * a]) == pytest.approx(0.5)


def test_xor_by_hand(nb):
    """The weights set by hand give the scores and the gradients that the text derives."""
    network = nb.NeuralNetwork([2, 2, 1])
    parts = [[[1.0, 1], [1, 1]], [0.0, -1], [[1.0], [-2]], [-0.5]]
    for array, part in zip(network.parameters, parts):
        array[:] = part
    assert network.forward(nb.BITS)[-1][:, 0].tolist() == [-0.5, 0.5, 0.5, -0.5]
    assert nb.predict(network, nb.BITS).tolist() == nb.XOR.tolist()
    assert nb.accuracy(network, nb.BITS, nb.XOR) == 1
    dW1, db1, dW2, db2 = nb.backpropagated(network, nb.BITS[3:], nb.XOR[3:])
    delta = 1 / (1 + np.exp(0.5))
    assert delta == pytest.approx(0.378, abs=1e-3)
    assert dW2[:, 0] == pytest.approx([2 * delta, delta])
    assert db2 == pytest.approx(delta)
    assert np.allclose(dW1, [[delta, -2 * delta]] * 2)
    assert np.allclose(db1, [delta, -2 * delta])


@pytest.mark.parametrize("columns", [1, 4])
def test_losses_are_stable_and_known(nb, columns):
    """Equal scores cost ln K; enormous scores give a finite loss and gradient, without a warning."""
    y = np.array([0, 1])
    with np.errstate(all="raise", under="ignore"):
        loss, delta = nb.cross_entropy(np.zeros((2, columns)), y)
        assert loss == pytest.approx(np.log(max(2, columns)))
        loss, delta = nb.cross_entropy(np.full((2, columns), -1e4) * np.arange(1, columns + 1), y)
    assert np.isfinite(loss)
    assert np.isfinite(delta).all()


def test_probabilities(nb):
    """Rows sum to 1; one score and two scores (0, z) are the same model."""
    one, two = nb.NeuralNetwork([3, 1], seed=1), nb.NeuralNetwork([3, 2], seed=1)
    two.parameters[0][:] = np.hstack([np.zeros((3, 1)), one.parameters[0]])
    X = np.random.default_rng(0).normal(size=(20, 3))
    assert np.allclose(nb.probabilities(one, X), nb.probabilities(two, X), atol=1e-14)
    assert np.allclose(nb.probabilities(two, 1e3 * X).sum(axis=1), 1)
    assert nb.predict(one, X).tolist() == nb.predict(two, X).tolist()


def test_one_update_is_gradient_descent(nb):
    """An update moves each parameter by -lr times its gradient, computed before any of them moved."""
    network, X, y = nb.case_to_check([4, 6, 3], "relu", seed=1)
    before, gradients = [array.copy() for array in network.parameters], nb.backpropagated(network, X, y)
    loss, _ = nb.cross_entropy(network.forward(X)[-1], y)
    assert network.fit(X, y, 1, len(X), lr=0.25) == pytest.approx([loss])
    for old, new, gradient in zip(before, network.parameters, gradients):
        assert np.allclose(new, old - 0.25 * gradient, atol=1e-15)


def test_batches_cover_everything_once(nb):
    """Each epoch has every index at most once, in full batches and a new order; the seed fixes the order."""
    batches = nb.shuffled_batches(23, 5, 2, np.random.default_rng(0))
    assert batches.shape == (8, 5)
    assert np.unique(batches[:4]).size == np.unique(batches[4:]).size == 20
    assert not np.array_equal(batches[:4], batches[4:])
    assert np.array_equal(nb.shuffled_batches(23, 5, 2, np.random.default_rng(0)), batches)
    assert sorted(nb.shuffled_batches(20, 5, 1, np.random.default_rng(1)).ravel()) == list(range(20))


def test_fit_learns_repeats_and_goes_on(nb):
    """The moons are learned; equal seeds give equal losses; two calls with one generator equal one call."""
    X, y = nb.two_moons(200, 0.1, seed=0)
    losses = []
    for seed in (0, 0, 1):
        network = nb.NeuralNetwork([2, 8, 1], "sigmoid", seed)
        losses.append(network.fit(X, y, 60, 20, 5.0, seed))
        assert nb.accuracy(network, X, y) > 0.95
    assert len(losses[0]) == 600
    assert losses[0] == losses[1] != losses[2]
    network, rng = nb.NeuralNetwork([2, 8, 1], "sigmoid", 0), np.random.default_rng(0)
    assert network.fit(X, y, 20, 20, 5.0, rng) + network.fit(X, y, 40, 20, 5.0, rng) == losses[0]


def test_float32_stays_float32(nb):
    """A float32 network trains in float32, by SGD and by Adam."""
    X, y = np.random.default_rng(0).random((20, 4), dtype=np.float32), np.arange(20) % 3
    network = nb.NeuralNetwork([4, 5, 3], "relu", 0, "float32")
    network.fit(X, y, 2, 10, 0.1)
    nb.fit_adam(network, X, y, 2, 10, 0.01)
    assert {array.dtype.name for array in network.parameters} == {"float32"}
    assert network.forward(X)[-1].dtype == nb.cross_entropy(network.forward(X)[-1], y)[1].dtype == np.float32


def test_zero_start_keeps_units_equal(nb):
    """From zero weights the hidden units stay equal; ReLU units do not move at all."""
    X, y = nb.two_moons(100, 0.1, seed=0)
    for hidden in ("sigmoid", "relu"):
        network = nb.NeuralNetwork([2, 5, 1], hidden)
        nb.zero_weights(network)
        network.fit(X, y, 5, 20, 1.0)
        assert nb.spread_of_units(network) < 1e-12
        assert (np.abs(network.parameters[0]).max() > 0) == (hidden == "sigmoid")
    assert nb.share_of_dead_units(network, X) == 1
    assert nb.spread_of_units(nb.NeuralNetwork([2, 5, 1])) > 0.1


def test_gradient_in_one_row(nb):
    """The function for L-BFGS sets the parameters and has the slope that differences give."""
    network, X, y = nb.case_to_check([2, 2, 1], "sigmoid", seed=2)
    theta = np.arange(9) / 5 - 0.7
    loss, slope = nb.loss_and_gradient(theta, network, X, y)
    assert np.array_equal(np.concatenate([array.ravel() for array in network.parameters]), theta)
    for k in range(9):
        e = 1e-5 * (np.arange(9) == k)
        above, below = (nb.loss_and_gradient(theta + sign * e, network, X, y)[0] for sign in (1, -1))
        assert slope[k] == pytest.approx((above - below) / 2e-5, abs=1e-8)
    assert loss == pytest.approx((above + below) / 2)


# ------------------------------------------------------------------ data


def test_preprocessing(nb):
    """Images become rows from 0 to 1 in reading order."""
    images = np.zeros((2, 28, 28), np.uint8)
    images[1, 2, 3] = 255
    X = nb.flat_pixels(images)
    assert X.shape == (2, 784)
    assert X.dtype == np.float32
    assert X.sum() == X[1, 2 * 28 + 3] == 1


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


def test_widget_callback_draws(nb):
    """The picture behind the sliders is a PNG and depends on the sliders."""
    nb.COLORS = nb.sns.color_palette("colorblind")
    pictures = [nb.moons_png(num_hidden, 3.0, num_epochs=2) for num_hidden in (1, 4)]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] != pictures[1]


# ------------------------------------------------------------------ Keras


@pytest.mark.parametrize("hidden", ["sigmoid", "relu"])
def test_keras_twin_has_the_same_scores_and_losses(nb, hidden):
    """The twin gives the same scores; trained on the same batches it has the same losses."""
    network = nb.NeuralNetwork([6, 5, 4, 3], hidden, 2, "float32")
    X, y = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32), np.arange(300) % 3
    twin = nb.keras_twin(network)
    assert np.allclose(twin.predict(X, verbose=0), network.forward(X)[-1], atol=1e-5)
    ours = network.fit(X, y, 3, 100, 0.5, seed=4)
    theirs = nb.train_twin(twin, nb.keras.optimizers.SGD(0.5), X, y, 3, seed=4)
    assert len(ours) == len(theirs) == 9
    assert np.abs(np.subtract(ours, theirs)).max() < 1e-5
    assert np.unique(np.round(theirs, 6)).size == 9


def test_adam_is_that_of_keras(nb):
    """The hand-made Adam makes the steps of Keras' Adam."""
    network = nb.NeuralNetwork([6, 5, 3], "sigmoid", 2, "float32")
    X, y = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32), np.arange(300) % 3
    twin = nb.keras_twin(network)
    ours = nb.fit_adam(network, X, y, 10, 100, 0.01, seed=4)
    theirs = nb.train_twin(twin, nb.keras.optimizers.Adam(0.01), X, y, 10, seed=4)
    assert np.abs(np.subtract(ours, theirs)).max() < 1e-4
    assert np.mean(ours[-3:]) < np.mean(ours[:3])


def test_lbfgs_goes_down_to_the_bottom(nb):
    """The network is trained in place, the loss ends flat, and the passes over the data are counted."""
    network, X, y = nb.case_to_check([2, 2, 1], "sigmoid", seed=2)
    before = nb.cross_entropy(network.forward(X)[-1], y)[0]
    passes = nb.fit_lbfgs(network, X, y)
    after, delta = nb.cross_entropy(network.forward(X)[-1], y)
    slope = np.concatenate([g.ravel() for g in network.backward(network.forward(X), delta)])
    assert passes > 5
    assert after < before
    assert np.abs(slope).max() < 1e-3


def test_wrong_points_without_a_unit(nb):
    """For each wrong point, and for these alone, it says whether every unit is 0 there."""
    network = nb.NeuralNetwork([1, 1, 1], "relu")
    for array, value in zip(network.parameters, (1.0, 0.0, 1.0, 0.5)):
        array[:] = value  # the unit is on for x > 0; the answer is always 1
    X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    assert nb.wrong_without_units(network, X, np.array([0, 1, 0, 1])).tolist() == [True, False]
    assert nb.wrong_without_units(network, X, np.array([0, 0, 1, 1])).tolist() == [True, True]
    assert nb.wrong_without_units(network, X, np.array([1, 1, 1, 1])).tolist() == []


def test_relu_layers_scale_with_their_weights(nb):
    """A ReLU network without biases is homogeneous: k times the weights, k to the number of layers times the spread."""
    X = np.random.default_rng(0).normal(size=(50, 20))
    usual, larger = (np.array(nb.spread_by_layer("relu", 1, X, factor, depth=4)) for factor in (1, 3))
    assert np.allclose(larger / usual, [3, 9, 27, 81])


def test_first_flip_finds_nothing_where_nothing_is(nb, monkeypatch):
    """Twins fed the same batches agree on every unit; a twin with a shifted bias is found out in update 0."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 6)).astype(np.float32), rng.integers(0, 10, 200)
    assert nb.first_flip(X, y, 0.01, seed=0) is None
    honest = nb.keras_twin

    def shifted_twin(network):
        model = honest(network)
        model.layers[0].bias.assign(np.full(128, 0.5))
        return model

    monkeypatch.setattr(nb, "keras_twin", shifted_twin)
    update, z, a = nb.first_flip(X, y, 0.01, seed=0)
    assert update == 0
    assert (z > 0) != (a > 0)


# ------------------------------------------------------------------ your turn


def softmax(z, axis=1):
    """Return the plain softmax."""
    return np.exp(z) / np.exp(z).sum(axis=axis, keepdims=True)


def answers(nb):
    """Return {name of the exercise: list of (answer, start of its verdict, word of its hint)}."""

    def plain_error(z, y):
        return (softmax(z) - np.eye(3)[y]) / len(y)

    def layer(change):
        return lambda A, W, d: change(*nb.layer_gradients(A, W, d), A, W, d)

    return {
        "scores_of": [
            (nb.scores_of, "right", ""),
            (lambda X, layers: nb.forward_with(X, layers, last=True), "not yet", "last layer has no ReLU"),
            (lambda X, layers: nb.forward_with(X, layers, bend=False), "not yet", "need the ReLU"),
            (lambda X, layers: nb.forward_with(X, layers, bias=False), "not yet", "biases are missing"),
            (lambda X, layers: nb.scores_of(X, layers).T, "not yet", "the shape is"),
            (lambda X, layers: nb.scores_of(X, layers) + 1, "not yet", "the numbers are not"),
        ],
        "error_of_scores": [
            (nb.error_of_scores, "right", ""),
            (plain_error, "not yet", "overflow"),
            (lambda z, y: plain_error(z - z.max(), y), "not yet", "maximum of each row"),
            (lambda z, y: len(y) * plain_error(z, y), "not yet", "1/n"),
            (lambda z, y: -plain_error(z, y), "not yet", "sign"),
            (lambda z, y: softmax(z), "not yet", "subtract 1"),
            (lambda z, y: plain_error(z, y).sum(axis=0), "not yet", "one row for each"),
            (lambda z, y: (np.exp(z) / np.exp(z).sum() - np.eye(3)[y]) / len(y), "not yet", "each row alone"),
        ],
        "layer_gradients": [
            (nb.layer_gradients, "right", ""),
            (layer(lambda dW, db, dA, *_: (dW.T, db, dA)), "not yet", "transposed (in dW)"),
            (layer(lambda dW, db, dA, *_: (dW / 5, db, dA)), "not yet", "already in delta"),
            (layer(lambda dW, db, dA, *_: (dW, db[None], dA)), "not yet", "shape (q,)"),
            (layer(lambda dW, db, dA, A, W, d: (dW, d.sum(axis=1), dA)), "not yet", "over the examples"),
            (layer(lambda dW, db, dA, A, W, d: (dW, db, dA.T)), "not yet", "transposed (in dA)"),
            (layer(lambda dW, db, dA, *_: dW), "not yet", "three arrays"),
            (layer(lambda dW, db, dA, *_: (dW, db, "x")), "not yet", "array of numbers"),
        ],
        "tanh_slope": [
            (nb.tanh_slope, "right", ""),
            (lambda a: 1 - np.tanh(a) ** 2, "not yet", "tanh again"),
            (lambda a: a * (1 - a), "not yet", "sigmoid"),
            (lambda a: a**2 - 1, "not yet", "sign"),
            (lambda a: 1 - a, "not yet", "square"),
            (lambda a: 0.5, "not yet", "the shape is ()"),
        ],
        "momentum_step": [
            (nb.momentum_step, "right", ""),
            (lambda u, g, lr, mu: mu * u + lr * g, "not yet", "sign"),
            (lambda u, g, lr, mu: mu * u - (1 - mu) * lr * g, "not yet", "running mean"),
            (lambda u, g, lr, mu: u - lr * g, "not yet", "multiplied by mu"),
            (lambda u, g, lr, mu: -lr * g, "not yet", "old velocity is missing"),
            (lambda u, g, lr, mu: mu * u - g, "not yet", "learning rate"),
        ],
    }


EXERCISES = ["scores_of", "error_of_scores", "layer_gradients", "tanh_slope", "momentum_step"]


@pytest.mark.parametrize("name", EXERCISES)
def test_checks_know_right_from_wrong(nb, name, capsys):
    """The notebook's solution is right; each typical mistake gets its own hint, in one line."""
    check = getattr(nb, f"check_{name}")
    for answer, verdict, hint in answers(nb)[name]:
        assert_verdict(check, answer, verdict, hint, capsys)


@pytest.mark.parametrize("name", EXERCISES)
def test_checks_never_raise(nb, name, capsys):
    """A stub, an error and nonsense are answered in one line, too."""
    assert_never_raises(getattr(nb, f"check_{name}"), capsys)
