"""Lecture 5: the four equations, the small autograd and the layers, against PyTorch and numbers known by hand."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of lecture 5, loaded where they cannot touch the repository."""
    module = load_definitions("lecture_5", root=tmp_path_factory.mktemp("lecture_5"))
    return module


def random_network(sizes, seed=0):
    """Return (weights, biases) with the given layer sizes."""
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=(n_out, n_in)) for n_in, n_out in pairwise(sizes)]
    return weights, [rng.normal(size=(n_out, 1)) for n_out in sizes[1:]]


@pytest.mark.parametrize("unit", ["sigmoid", "tanh", "ReLU"])
@pytest.mark.parametrize("sizes", [[3, 1], [2, 4, 3], [5, 4, 3, 2]])
def test_four_equations_equal_pytorch(nb, unit, sizes):
    """Gradients of weights and biases, summed over a batch, agree with PyTorch's for each depth and unit."""
    weights, biases = random_network(sizes)
    units = [unit] * (len(sizes) - 2) + ["identity"]
    X = np.random.default_rng(1).normal(size=(sizes[0], 6))
    zs, activations = nb.run_forward(weights, biases, units, X)
    _, dW, db = nb.run_backward(weights, units, zs, activations, activations[-1])
    parameters = [torch.tensor(array, requires_grad=True) for array in weights + biases]
    a, call = torch.tensor(X), {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "ReLU": torch.relu}[unit]
    for number, (W, b) in enumerate(zip(parameters[: len(weights)], parameters[len(weights) :])):
        z = W @ a + b
        a = call(z) if number < len(weights) - 1 else z
    (0.5 * a**2).sum().backward()
    for ours, theirs in zip(dW + db, parameters):
        assert np.allclose(ours, theirs.grad.numpy(), rtol=1e-12, atol=1e-12)


def test_worked_example(nb):
    """The example of the text gives the numbers found by hand."""
    zs, activations = nb.run_forward(nb.HAND_WEIGHTS, nb.HAND_BIASES, nb.HAND_UNITS, nb.HAND_X)
    assert activations[-1].item() == 2
    deltas, dW, db = nb.run_backward(nb.HAND_WEIGHTS, nb.HAND_UNITS, zs, activations, activations[-1] - 1)
    assert deltas[0].ravel().tolist() == [0, 1.5]
    assert dW[0].tolist() == [[0, 0], [1.5, 3]]
    assert dW[1].tolist() == [[0, 2]]
    assert [b.ravel().tolist() for b in db] == [[0, 1.5], [1]]


def test_exercise_1(nb):
    """With the first unit on, all nine gradients are those of the folded solution."""
    biases = [nb.HAND_BIASES[0] + np.array([[2.0], [0.0]]), nb.HAND_BIASES[1]]
    zs, activations = nb.run_forward(nb.HAND_WEIGHTS, biases, nb.HAND_UNITS, nb.HAND_X)
    deltas, dW, _ = nb.run_backward(nb.HAND_WEIGHTS, nb.HAND_UNITS, zs, activations, activations[-1] - 1)
    assert [delta.ravel().tolist() for delta in deltas] == [[2, 3], [2]]
    assert [array.tolist() for array in dW] == [[[2, 4], [3, 6]], [[2, 4]]]


def test_weight_slope(nb):
    """The one-weight example: -0.125, and zero where the target is met."""
    assert nb.weight_slope(0.0, 1.0, 1.0) == -0.125
    assert nb.weight_slope(0.0, 1.0, 0.5) == 0


def test_merge_affine(nb):
    """Two affine maps in a row equal the merged one."""
    (W1, W2), (b1, b2) = random_network([3, 4, 2])
    W, b = nb.merge_affine((W1, b1[:, 0]), (W2, b2[:, 0]))
    x = np.array([1.0, -2.0, 0.5])
    assert np.allclose(W @ x + b, W2 @ (W1 @ x + b1[:, 0]) + b2[:, 0])


@pytest.mark.parametrize(("w", "x"), [(2.0, 3.0), (-1.5, 0.25), (0.0, 1.0)])
def test_autograd_of_the_forked_graph(nb, w, x):
    """The gradients are those of L = w² x (x + 1), multiplied out."""
    nodes = nb.forked_graph(w, x)
    assert nodes[-1].value == pytest.approx(w**2 * x * (x + 1))
    assert nodes[0].grad == pytest.approx(2 * w * x * (x + 1))
    assert nodes[1].grad == pytest.approx(w**2 * (2 * x + 1))


def test_autograd_twice_gives_the_same(nb):
    """A second backward pass starts from zero."""
    *_, L = nodes = nb.forked_graph(2.0, 3.0)
    nb.backward_from(L)
    assert [node.grad for node in nodes] == [48, 28, 14, 6, 1]


def test_every_layer_passes_and_the_wrong_one_fails(nb):
    """Each hand-written layer passes the gradient check for several random inputs; the mistake is caught."""
    for seed in range(3):
        for layer in nb.LAYERS.values():
            assert nb.check_layer(*layer, seed=seed) < 1e-6
        for layer in nb.WRONG.values():
            assert nb.check_layer(*layer, seed=seed) > 0.1


def test_normalization_equals_pytorch(nb):
    """Batch and layer norm agree with torch.nn.functional."""
    rng = np.random.default_rng(0)
    X, gamma, beta = rng.normal(size=(5, 7)), rng.normal(size=(5, 1)), rng.normal(size=(5, 1))
    tensor, g, b = torch.tensor(X.T), torch.tensor(gamma[:, 0]), torch.tensor(beta[:, 0])
    batch = torch.nn.functional.batch_norm(tensor, None, None, g, b, training=True)
    layer = torch.nn.functional.layer_norm(tensor, (5,), g, b)
    assert np.allclose(nb.norm_forward(X, gamma, beta, axis=1).T, batch.numpy())
    assert np.allclose(nb.norm_forward(X, gamma, beta, axis=0).T, layer.numpy())


def test_bad_step_is_named(nb):
    """A step that is not positive is refused by name."""
    with pytest.raises(ValueError, match="h is 0"):
        nb.check_layer(*nb.LAYERS["tanh"], h=0)


def test_central_difference_on_the_kink(nb):
    """At the kink of ReLU the central difference is the mean of the two slopes."""
    (gradient,) = nb.central_differences(lambda z: float(np.maximum(z, 0).sum()), [np.zeros(1)], 1e-3)
    assert gradient[0] == pytest.approx(0.5)


def test_multiplications(nb):
    """Counted by hand for a 3-2-1 network: 8 forward, 8 + 2 backward."""
    assert nb.multiplications([3, 2, 1]) == (8, 10)


def test_standardized(nb):
    """Mean 0 and deviation 1 on the training part; a constant feature becomes 0; the other part uses the same."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(5, 3, 100), np.full(100, 7.0)])
    ours, other = nb.standardized(X, X[:10] + 3)
    assert np.allclose(ours.mean(axis=0), 0)
    assert np.allclose(ours.std(axis=0), [1, 0])
    assert np.allclose(other[:, 0] - ours[:10, 0], 3 / X[:, 0].std())


def test_training_learns(nb):
    """Two well separated classes are learned; the loss falls."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    X = rng.normal(size=(200, 3)) + 4 * labels[:, None]
    *_, losses = nb.train_by_backpropagation(X, labels, lr=0.1, num_epochs=5)
    assert losses[-1] < 0.3 * losses[0]


def test_gradient_sizes_of_relu_are_homogeneous(nb):
    """Without biases the sum of W times its gradient is the same in each layer of a ReLU network."""
    weights, _ = random_network([4, 5, 6, 3])
    biases, units = [np.zeros((n, 1)) for n in (5, 6, 3)], ["ReLU", "ReLU", "identity"]
    X = np.random.default_rng(2).normal(size=(4, 8))
    zs, activations = nb.run_forward(weights, biases, units, X)
    _, dW, _ = nb.run_backward(weights, units, zs, activations, np.tanh(activations[-1]))
    sums = [float((W * gradient).sum()) for W, gradient in zip(weights, dW)]
    assert sums == pytest.approx([sums[0]] * 3)
    sizes = nb.gradient_sizes(X.T, np.zeros(8, int), "ReLU", lambda n_in, n_out: 0.5, seed=0, depth=3, width=6)
    assert [array.shape for array in sizes] == [(3,), (3,)]


def test_first_over_last_sees_the_decay(nb):
    """Sigmoid decays over layers, skips keep the gradient; there is one number for each start."""
    X, labels = torch.randn(32, 16, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 10
    plain, skip = (
        nb.first_over_last(X, labels, torch.sigmoid, 1.0, False, skip, 0.0, seeds=range(3), depth=10)
        for skip in (False, True)
    )
    assert plain.shape == skip.shape == (3,)
    assert plain.max() < 1e-3 < skip.min()


def test_deep_networks_of_several_starts_are_independent(nb):
    """A network computed together with others has the scores that it has alone, and batch norm is PyTorch's."""
    X = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    for setting in nb.REMEDIES.values():
        unit, gain, norm, skip, _ = setting
        both, alone = nb.start_deep(gain, [3, 4], 5, 16), nb.start_deep(gain, [4], 5, 16)
        scores = [nb.deep_scores(X, layers, unit, norm, skip, 0.0) for layers in (both, alone)]
        assert torch.allclose(scores[0][1], scores[1][0], atol=1e-6)
    (W, b), *_ = layers = nb.start_deep(1.0, [0], 1, 16)
    z = torch.nn.functional.batch_norm(X @ W[0], None, None, training=True)
    ours = nb.deep_scores(X, layers, torch.tanh, True, False, 0.0)
    assert torch.allclose(ours[0], torch.tanh(z + b[0]) @ layers[1][0][0], atol=1e-5)


def test_deep_training_learns_with_skips(nb):
    """Two well separated classes are learned by 20 layers with skip connections."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    X = torch.randn(200, 64, generator=generator) + 2.0 * labels[:, None]
    setting = nb.REMEDIES["sigmoid, skip connections"]
    layers = nb.train_deep(X, labels, setting, 3e-3, range(2), num_epochs=8)
    assert nb.deep_accuracies(X, labels, layers, setting).min() > 0.8


def test_spread_at_top(nb):
    """Digits look alike above 20 sigmoid layers, not above 20 ReLU layers with He's scale."""
    nb.X_some = np.random.default_rng(0).normal(size=(50, 64))
    assert nb.spread_at_top(*nb.SCALES["sigmoid, Xavier"], 0) < 1e-6
    assert nb.spread_at_top(*nb.SCALES["ReLU, He"], 0) > 0.01


def test_pictures_of_the_slider(nb):
    """The picture behind the slider is a PNG and depends on the step."""
    pictures = [nb.png_of(nb.tangent_and_secant(*nb.CHECK_PLACES["tanh"], h)) for h in (1.0, 1e-5)]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] != pictures[1]
    assert len(nb.make_check_slider().children) == 2


def sweep(delta_above, W_above, a, a_below):
    """Return the right (delta, dW) of a tanh layer."""
    delta = (W_above.T @ delta_above) * (1 - a**2)
    return delta, delta @ a_below.T


@pytest.mark.parametrize(
    ("check", "answer", "said"),
    [
        ("check_layer_backward", lambda *arrays: None, "not yet: .*nothing"),
        ("check_layer_backward", lambda *arrays: 1 / 0, "not yet: it raises"),
        ("check_layer_backward", lambda *arrays: sweep(*arrays)[0], "not yet: return two"),
        ("check_layer_backward", lambda d, W, a, x: (W.T @ d, W.T @ d @ x.T), "not yet: delta lacks the slope"),
        ("check_layer_backward", lambda *arrays: (-sweep(*arrays)[0], 0), "not yet: the sign"),
        ("check_layer_backward", lambda d, W, a, x: (W.T @ d * (1 - np.tanh(a) ** 2), 0), "not yet: a is tanh"),
        ("check_layer_backward", lambda d, W, a, x: (d, 0), "not yet: delta has shape"),
        ("check_layer_backward", lambda *arrays: (sweep(*arrays)[0], sweep(*arrays)[1] / 5), "not yet: dW is summed"),
        ("check_layer_backward", lambda *arrays: (sweep(*arrays)[0], sweep(*arrays)[1].T), "not yet: delta is right"),
        ("check_layer_backward", sweep, "right"),
        ("check_leaky_backward", lambda g, z: None, "not yet: .*nothing"),
        ("check_leaky_backward", lambda g, z: 1 / 0, "not yet: it raises"),
        ("check_leaky_backward", lambda g, z: g * (z > 0), "not yet: that is plain"),
        ("check_leaky_backward", lambda g, z: np.where(z > 0, 1, 0.1), "not yet: multiply the slope"),
        ("check_leaky_backward", lambda g, z: -g * np.where(z > 0, 1, 0.1), "not yet: the sign"),
        ("check_leaky_backward", lambda g, z: g[:, 0], "not yet: the shape"),
        ("check_leaky_backward", lambda g, z: "g", "not yet"),
        ("check_leaky_backward", lambda g, z: g * np.where(z > 0, 1, 0.1), "right"),
    ],
)
def test_your_turn(nb, capsys, check, answer, said):
    """Each check prints one line: a hint for a typical wrong answer, `right` for a correct one."""
    getattr(nb, check)(answer)
    line = capsys.readouterr().out.strip()
    assert re.match(said, line), line
    assert "\n" not in line
