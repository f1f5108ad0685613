"""The definitions of notebook 02: exactness by hand, the minimality result, gradients, traps, bad input."""

import io
import itertools
import math

import numpy as np
import PIL.Image
import pytest
import torch
from notebook_loader import load_definitions


@pytest.fixture(scope="module")
def xor(tmp_path_factory):
    """Return the definitions of the notebook, loaded in an empty folder."""
    return load_definitions("02", tmp_path_factory.mktemp("root"))


def by_hand(xor, name, temperature=0.001):
    """Return the hand-made network `name`."""
    weights = xor.BY_HAND[name]
    net = xor.XorNetwork(len(weights["W"]), bypass="u" in weights, temperature=temperature)
    return xor.set_weights(net, **weights)


@pytest.mark.parametrize("name", ["k = 1 with bypass", "k = 2", "k = 4"])
def test_hand_made_networks_are_exact(xor, name):
    """Outputs are exactly 0 and 1, the loss exactly 0, and each pre-activation is at least 0.5 away from 0."""
    net = by_hand(xor, name)
    assert net(xor.PATTERNS).tolist() == [[0.0, 1.0, 1.0, 0.0]]
    assert xor.squared_error(net).item() == 0.0
    z = xor.PATTERNS @ net.W[0].T + net.b[0]
    assert min(z.abs().min(), net.preactivation(xor.PATTERNS).abs().min()) >= 0.5


@pytest.mark.parametrize("name", ["k = 1 with bypass", "k = 2", "k = 4"])
def test_negated_output_gives_xnor(xor, name):
    """Exercise 3: the opposite signs in the output neuron give the opposite answers."""
    net = by_hand(xor, name)
    for parameter in (net.v, net.u, net.c):
        parameter.data.neg_()
    assert net(xor.PATTERNS).tolist() == [[1.0, 0.0, 0.0, 1.0]]


def test_check_answer_tells_right_from_wrong(xor, capsys):
    """A right answer is called solved (exercise 1), a wrong one is not."""
    xor.check_answer({"W": [[1, 1], [-1, -1]], "b": [-1.5, 0.5], "v": [-1, -1], "c": 0.5})
    assert "solved" in capsys.readouterr().out
    xor.check_answer({"W": [[1, 1], [1, 1]], "b": [-0.5, -1.5], "v": [1, 1], "c": -0.5})
    printed = capsys.readouterr().out
    assert "solved" not in printed
    assert printed.count("not yet") == 2  # one pattern, and the verdict


def test_temperature_is_a_scale_of_all_weights(xor):
    """A network at T equals the network at 1 with all weights divided by T (exercise 2)."""
    hot = xor.XorNetwork(3, True, 0.3, num_networks=5, dtype=torch.float64)
    scaled = xor.XorNetwork(3, True, 1.0, num_networks=5, dtype=torch.float64)
    for name, parameter in scaled.named_parameters():
        parameter.data.copy_(getattr(hot, name).data / 0.3)
    torch.testing.assert_close(hot(xor.PATTERNS), scaled(xor.PATTERNS))


def test_forward_equals_the_formula(xor):
    """The batched forward pass equals the sum written out, unit by unit."""
    net = xor.XorNetwork(3, True, 0.7, num_networks=2, seed=4, dtype=torch.float64)
    W, b, v, u, c = (getattr(net, name).detach().numpy() for name in "Wbvuc")

    def sigma(z):
        return 1 / (1 + np.exp(-z / 0.7))

    for n, (i, x) in itertools.product(range(2), enumerate(xor.PATTERNS.numpy())):
        z = c[n] + u[n] @ x + sum(v[n, j] * sigma(W[n, j] @ x + b[n, j]) for j in range(3))
        assert net(xor.PATTERNS)[n, i].item() == pytest.approx(sigma(z), abs=1e-12)


def test_margin_agrees_with_brute_force(xor):
    """The linear program finds the 14 tables that small whole-number weights find, with a valid border for each."""
    X = xor.PATTERNS.numpy()
    found = {
        tuple((X @ [p, q] + r > 0).astype(int)) for p, q, r in itertools.product(np.arange(-3, 3.5, 0.5), repeat=3)
    }
    for table in xor.TABLES:
        margin, w, b = xor.separation_margin(X, table)
        assert (margin > 1e-9) == (table in found) == xor.is_separable(X, table)
        if table in found:
            assert ((X @ w + b > 0) == np.array(table, bool)).all()
    assert len(found) == 14


def test_one_hidden_unit_needs_the_bypass(xor):
    """From any hidden table, XOR is reachable with the bypass for the single-corner ones only, and never without."""
    for table in set(xor.TABLES) - {xor.XOR, (1, 0, 0, 1)}:
        a = np.array(table)[:, None]
        assert xor.XOR not in xor.reachable_tables(a)
        with_bypass = xor.reachable_tables(np.hstack([xor.PATTERNS, a]))
        assert (xor.XOR in with_bypass) == (sum(table) in (1, 3))


def test_random_threshold_networks_without_bypass_never_solve_xor(xor):
    """Of many random sharp networks, k = 1 without bypass solves none; with it, some."""
    solved = {
        bypass: (xor.verdicts(xor.XorNetwork(1, bypass, 0.001, 20_000)) == "solved").mean() for bypass in (False, True)
    }
    assert solved[False] == 0
    assert solved[True] > 0


def test_batch_equals_single_trainings(xor):
    """A network trains in a batch as it does alone, for each optimizer and loss."""
    for optimizer, loss in itertools.product(xor.OPTIMIZERS, xor.LOSSES):
        batch = xor.XorNetwork(2, True, num_networks=3, dtype=torch.float64)
        alone = xor.pick(batch, 2)
        together = xor.train(batch, optimizer, loss, 0.1, 20)
        np.testing.assert_allclose(together[:, 2:], xor.train(alone, optimizer, loss, 0.1, 20), rtol=1e-9)
        assert together.shape == (21, 3)
        assert (together[-1] < together[0]).all()


def test_a_broken_network_does_not_poison_its_batch(xor):
    """A network with a weight that is not a number is counted as diverged; its neighbors train on as before."""
    nets = [xor.XorNetwork(1, True, num_networks=3, dtype=torch.float64) for _ in range(2)]
    nets[1].W.data[1] = math.nan
    healthy, sick = (xor.train(net, "Adam", "cross-entropy", 0.1, 400) for net in nets)
    np.testing.assert_allclose(sick[:, [0, 2]], healthy[:, [0, 2]], rtol=1e-9)
    assert xor.verdicts(nets[1]).tolist() == ["solved", "diverged", "solved"]


def test_bypass_off_stays_off(xor):
    """Without bypass the direct weights are zero before and after training."""
    net = xor.XorNetwork(2, False, num_networks=4)
    xor.train(net, "Adam", "cross-entropy", 0.1, 5)
    assert not net.u.any()


def test_one_neuron_ends_undecided(xor):
    """Gradient descent on one neuron ends at one half for all patterns, from any start."""
    _, _, outputs = xor.train_one_neuron(np.array([-2.0, 4.0]), 1.0, num_steps=1000)
    assert np.abs(outputs[-1] - 0.5).max() < 1e-6


def test_k1_without_bypass_respects_its_lower_bound(xor):
    """Exercise 5: trained networks come close to 3/4 ln 3 - 1/2 ln 2 and never pass it."""
    net = xor.XorNetwork(1, False, 1.0, 100, 0, torch.float64)
    final = xor.train(net, "Adam", "cross-entropy", 0.1, 1500)[-1]
    bound = 0.75 * math.log(3) - 0.5 * math.log(2)
    assert bound < final.min() < bound + 1e-3


@pytest.mark.parametrize(
    ("groups", "loss"),
    [((0, 1, 2, 3), 0.0), ((0, 0, 1, 2), math.log(2) / 2), ((0, 0, 0, 1), 0.75 * math.log(3) - 0.5 * math.log(2)),
     ((0, 0, 0, 0), math.log(2)), ((0, 0, 1, 1), math.log(2)), ((0, 1, 1, 0), 0.0)],
)  # fmt: skip
def test_loss_of_groups(xor, groups, loss):
    """The lowest loss of a division, worked out on paper."""
    assert xor.best_loss_of_groups(groups) == pytest.approx(loss)


def test_derivatives_agree_with_finite_differences(xor):
    """Gradient and Hessian of the nine-weight loss agree with central differences, weight decay included."""
    theta, h = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), 1e-5
    gradient, hessian = xor.derivatives(theta, 0.01)
    for i, step in enumerate(h * torch.eye(9, dtype=torch.float64)):
        up, down = theta + step, theta - step
        slope = (xor.loss_of_vector(up, 0.01) - xor.loss_of_vector(down, 0.01)) / (2 * h)
        assert gradient[i].item() == pytest.approx(slope.item(), abs=1e-8)
        column = (xor.derivatives(up, 0.01)[0] - xor.derivatives(down, 0.01)[0]) / (2 * h)
        torch.testing.assert_close(hessian[:, i], column, atol=1e-7, rtol=1e-5)


def test_vector_and_network_have_the_same_loss(xor):
    """The nine-weight function and the network class agree."""
    net = xor.XorNetwork(2, num_networks=3, dtype=torch.float64)
    expected = xor.losses_of(net, "cross-entropy").tolist()
    assert [xor.loss_of_vector(xor.to_vector(net, i)).item() for i in range(3)] == pytest.approx(expected)


def test_settled_point_is_a_minimum_in_every_direction(xor):
    """Around the point that `settle` returns, no random small step lowers the decayed loss."""
    stuck = torch.tensor([6, 0, -3, -6, 6, -3, 3, 6, -3], dtype=torch.float64)  # confuses (1, 0) and (1, 1)
    point = xor.settle(stuck)
    loss, gradient, smallest = xor.certificate(point)
    assert gradient < 1e-8
    assert smallest > 1e-5
    generator, here = torch.Generator().manual_seed(0), xor.loss_of_vector(point, xor.DECAY)
    for _ in range(200):
        step = torch.randn(9, dtype=torch.float64, generator=generator)
        assert xor.loss_of_vector(point + 1e-2 * step / step.norm(), xor.DECAY) > here
    assert loss > 0.3


def test_isolated_corner(xor):
    """Each table of four activations gives the corner that it cuts off, or -1."""
    tables = torch.tensor(xor.TABLES, dtype=torch.float64)
    for table, corner in zip(xor.TABLES, xor.isolated_corner(tables).tolist()):
        expected = {1: table.index(1) if 1 in table else -1, 3: table.index(0) if 0 in table else -1}
        assert corner == expected.get(sum(table), -1)


def test_animation_moves_and_ends_with_the_result(xor):
    """The animated PNG has all frames, and its still picture is the last one."""
    frames = [PIL.Image.new("RGB", (20, 10), color) for color in ("red", "green", "blue")]
    picture = PIL.Image.open(io.BytesIO(xor.animated_png(frames, 100)))
    assert picture.n_frames == 3 + picture.default_image
    assert picture.convert("RGB").getpixel((5, 5)) == (0, 0, 255)


def test_playground_follows_menu_and_sliders(xor):
    """Each preset draws; choosing one sets the sliders, moving a slider changes the picture."""
    assert all(len(values) == len(xor.SLIDERS) + 1 for values in xor.PRESETS.values())
    box = xor.make_playground()
    menu, columns, view = box.children
    sliders = [slider for column in columns.children for slider in column.children]
    first = view.value
    menu.value = "all weights zero"
    assert [slider.value for slider in sliders] == pytest.approx(xor.PRESETS["all weights zero"])
    second = view.value
    sliders[0].value = 2.0
    sliders[6].value = 3.0
    assert len({first, second, view.value}) == 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.XorNetwork(0), "k is 0"),
        (lambda m: m.XorNetwork(1.5), "k is 1.5"),
        (lambda m: m.XorNetwork(1, num_networks=0), "num_networks"),
        (lambda m: m.XorNetwork(1, temperature=0), "temperature is 0"),
        (lambda m: m.train(m.XorNetwork(1), "Adagrad", "cross-entropy", 0.1, 1), "optimizer.*Adam, SGD"),
        (lambda m: m.train(m.XorNetwork(1), "SGD", "hinge", 0.1, 1), "loss.*cross-entropy, squared error"),
        (lambda m: m.train(m.XorNetwork(1), "SGD", "cross-entropy", -0.1, 1), "lr is -0.1"),
        (lambda m: m.train(m.XorNetwork(1), "SGD", "cross-entropy", 0.1, 0), "num_steps is 0"),
        (lambda m: m.train(m.XorNetwork(1), "SGD", "cross-entropy", 0.1, 1, torch.zeros(3, 2)), r"\(4, 2\)"),
        (lambda m: m.squared_error(m.XorNetwork(1), m.PATTERNS, 2 * m.TARGETS), "0 or 1"),
        (lambda m: m.set_weights(m.XorNetwork(2), W=[[1, 1]]), r"W has shape \(1, 2\)"),
        (lambda m: m.set_weights(m.XorNetwork(2), u=[1, 1]), "'u'"),
        (lambda m: m.set_weights(m.XorNetwork(1), b=[math.nan]), "b has an entry"),
        (lambda m: m.separation_margin(np.zeros((4, 2)), [0, 1]), "labels"),
    ],
)
def test_bad_input_names_the_argument(xor, call, words):
    """Bad input raises a ValueError that names the argument and what is allowed."""
    with pytest.raises(ValueError, match=words):
        call(xor)
