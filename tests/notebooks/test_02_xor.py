"""The definitions of notebook 02: exactness by hand, the minimality result, derivatives, traps, and what checks say."""

import io
import itertools
import math

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def xor(tmp_path_factory):
    """Return the definitions of the notebook, loaded in an empty folder."""
    return load_definitions("02", tmp_path_factory.mktemp("root"))


# ---- networks by hand ----


@pytest.mark.parametrize("name", ["k = 1 with bypass", "k = 2", "k = 4"])
def test_hand_made_networks_are_exact(xor, name):
    """Outputs are exactly 0 and 1, and each pre-activation is at least 0.5 away from 0."""
    net = xor.network_by_hand(**xor.BY_HAND[name])
    assert torch.sigmoid(net(xor.PATTERNS)).tolist() == [0.0, 1.0, 1.0, 0.0]
    assert net.hidden(xor.PATTERNS).abs().min() >= 0.5
    assert (net(xor.PATTERNS) * net.temperature).abs().min() >= 0.499


def test_temperature_is_a_scale_of_all_weights(xor):
    """A network at T equals the network at 1 with all weights and biases divided by T."""
    hot = xor.XorNet(3, bypass=True, temperature=0.3).double()
    scaled = xor.XorNet(3, bypass=True).double()
    scaled.load_state_dict({name: value / 0.3 for name, value in hot.state_dict().items()})
    torch.testing.assert_close(hot(xor.INPUTS), scaled(xor.INPUTS))


def test_hand_made_weights_of_a_wrong_shape_are_refused(xor):
    """The message names the shape that was given and the one that is needed."""
    with pytest.raises(ValueError, match=r"\(1,\); with this W they are \(2,\)"):
        xor.network_by_hand([[1, 1], [1, 1]], [0.5], [1, 1], 0)


# ---- what is the least ----


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


def test_corner_of(xor):
    """Each table of one against three gives the corner that it cuts off, soft or hard, whatever the scale."""
    for table in xor.TABLES:
        if sum(table) in (1, 3):
            a = torch.tensor(table, dtype=torch.float64)
            corner = table.index(1 if sum(table) == 1 else 0)
            assert xor.corner_of(a).item() == corner
            assert xor.corner_of(0.4 - 0.3 * a).item() == corner


# ---- batches of networks ----


@pytest.mark.parametrize("bypass", [False, True])
def test_forward_equals_the_formula(xor, bypass):
    """The batched forward pass, and the plain network picked from it, equal the sum written out, unit by unit."""
    nets = xor.XorNets(2, 3, bypass=bypass, seed=4)
    W, b, v, c = (getattr(nets, name).detach().numpy() for name in "Wbvc")
    u = nets.u.detach().numpy() if bypass else np.zeros((2, 2))

    def sigma(z):
        return 1 / (1 + np.exp(-z))

    for n, (i, x) in itertools.product(range(2), enumerate(xor.INPUTS.numpy())):
        z = c[n, 0] + u[n] @ x + sum(v[n, j] * sigma(W[n, j] @ x + b[n, j]) for j in range(3))
        assert nets(xor.INPUTS)[n, i].item() == pytest.approx(z, abs=1e-12)
        assert xor.pick(nets, n)(xor.INPUTS)[i].item() == pytest.approx(z, abs=1e-12)


def test_batch_equals_single_trainings(xor):
    """A network trains in a batch as it does alone in a batch of one, for each optimizer."""
    for optimizer in xor.OPTIMIZERS:
        batch, alone = xor.XorNets(3, 2, bypass=True), xor.XorNets(1, 2, bypass=True)
        alone.load_state_dict({name: value[2:] for name, value in batch.state_dict().items()})
        together = xor.train(batch, optimizer, 0.1, 20)
        np.testing.assert_allclose(together[:, 2:], xor.train(alone, optimizer, 0.1, 20), rtol=1e-9)
        assert together.shape == (20, 3)
        assert (together[-1] < together[0]).all()


def test_loss(xor):
    """The cross-entropy, worked out pattern by pattern."""
    nets = xor.XorNets(2, 2, seed=1)
    y = torch.sigmoid(nets(xor.INPUTS)).detach().numpy()
    t = np.array(xor.XOR)
    entropy = -(t * np.log(y) + (1 - t) * np.log(1 - y)).mean(axis=1)
    np.testing.assert_allclose(xor.losses_of(nets).detach(), entropy, rtol=1e-12)


def test_each_network_may_have_its_own_learning_rate(xor):
    """A batch with two rates equals two batches with one rate each; other optimizers than SGD refuse."""
    mixed = xor.train(xor.XorNets(2, 2), "SGD", [0.5, 2.0], 30)
    for index, lr in enumerate((0.5, 2.0)):
        np.testing.assert_allclose(mixed[:, index], xor.train(xor.XorNets(2, 2), "SGD", lr, 30)[:, index], rtol=1e-9)
    with pytest.raises(ValueError, match="SGD only"):
        xor.train(xor.XorNets(2, 2), "Adam", [0.5, 2.0], 30)


def test_a_broken_network_does_not_poison_its_batch(xor):
    """A network with a weight that is not a number is not solved; its neighbors train on as before."""
    healthy, sick = xor.XorNets(3, 1, bypass=True), xor.XorNets(3, 1, bypass=True)
    with torch.no_grad():
        sick.W[1] = math.nan
    a, b = (xor.train(nets, "Adam", 0.1, 400) for nets in (healthy, sick))
    np.testing.assert_allclose(b[:, [0, 2]], a[:, [0, 2]], rtol=1e-9)
    assert xor.solved(sick).tolist() == [True, False, True]


# ---- traps ----


@pytest.mark.parametrize(
    ("groups", "loss"),
    [
        ((0, 1, 2, 3), 0.0),
        ((0, 0, 1, 2), math.log(2) / 2),
        ((0, 0, 0, 1), 0.75 * math.log(3) - 0.5 * math.log(2)),
        ((0, 0, 0, 0), math.log(2)),
        ((0, 0, 1, 1), math.log(2)),
        ((0, 1, 1, 0), 0.0),
    ],
)
def test_loss_of_groups(xor, groups, loss):
    """The lowest loss of a division, worked out on paper."""
    assert xor.best_loss_of_groups(groups) == pytest.approx(loss)


def test_derivatives_agree_with_finite_differences(xor):
    """Gradient and Hessian of the nine-weight loss agree with central differences, weight decay included."""
    theta, h = torch.randn(1, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), 1e-5
    gradient, hessian = xor.derivatives(theta, 0.01)
    for i, step in enumerate(h * torch.eye(9, dtype=torch.float64)):
        up, down = theta + step, theta - step
        slope = (xor.loss_of(up[0], 0.01) - xor.loss_of(down[0], 0.01)) / (2 * h)
        assert gradient[0, i].item() == pytest.approx(slope.item(), abs=1e-8)
        column = (xor.derivatives(up, 0.01)[0] - xor.derivatives(down, 0.01)[0]) / (2 * h)
        torch.testing.assert_close(hessian[0, :, i], column[0], atol=1e-7, rtol=1e-5)


def test_vector_and_network_have_the_same_loss(xor):
    """The nine-weight function and the network class agree."""
    nets = xor.XorNets(3, 2)
    theta = torch.cat([p.detach().flatten(start_dim=1) for p in (nets.W, nets.b, nets.v, nets.c)], dim=1)
    found = [xor.loss_of(row).item() for row in theta]
    assert found == pytest.approx(xor.losses_of(nets).tolist())


def test_settled_point_is_a_minimum_in_every_direction(xor):
    """Neighboring corners end in a trap: no random small step lowers the decayed loss. The same corner escapes."""
    neighbors = torch.tensor([8, -8, 8, 8, 4, -4, -8, 8, 0], dtype=torch.float64)  # confuses (1, 0) and (1, 1)
    same = torch.tensor([8, 8, 7, 8, -4, -3.5, 3, 3, -5], dtype=torch.float64)  # two units like OR
    trap, free = xor.settle(torch.stack([neighbors, same]))
    gradient, hessian = xor.derivatives(trap[None], xor.DECAY)
    assert xor.is_minimum(gradient[0], hessian[0])
    generator, here = torch.Generator().manual_seed(0), xor.loss_of(trap, xor.DECAY)
    for _ in range(200):
        step = torch.randn(9, dtype=torch.float64, generator=generator)
        assert xor.loss_of(trap + 1e-2 * step / step.norm(), xor.DECAY) > here
    assert xor.loss_of(trap) > 0.3
    assert xor.loss_of(same) > 0.4
    assert xor.loss_of(free) < 0.02


def test_linear_share(xor):
    """It is 1 for activations that are linear in the inputs, and 0 for XOR itself."""
    linear = (xor.INPUTS @ torch.tensor([2.0, -1.0]).double())[None, None] + 3
    assert xor.linear_share(linear).item() == pytest.approx(1)
    assert xor.linear_share(torch.tensor(xor.XOR).double()[None, None]).item() == pytest.approx(0)


# ---- what the checks say: each hint for its mistake, and right for a right answer ----


def said(capsys, check, answer):
    """Return the one line that `check` prints for `answer`."""
    check(answer)
    (line,) = capsys.readouterr().out.splitlines()
    return line


def raises(*_):
    """Be an answer that does not work."""
    raise RuntimeError("oops")


CHECKS = ["count_errors", "train_step", "is_solved", "lowest_loss", "is_minimum", "first_wrong"]


@pytest.mark.parametrize("name", CHECKS)
def test_checks_take_the_solution_and_survive_anything(xor, capsys, name):
    """The solution is right; no answer, an error, and values of a wrong kind are not yet, with one line each."""
    check = getattr(xor, f"check_{name}")
    assert said(capsys, check, getattr(xor, name)).startswith("right: ")
    assert said(capsys, check, raises).startswith("not yet: your code raises RuntimeError: oops")
    for value in (None, ..., "text", [1, 2], torch.zeros(2, 3), math.nan, object()):
        assert said(capsys, check, lambda *_, value=value: value).startswith("not yet: "), value
    for value in (None, 3, "text"):
        assert said(capsys, check, value).startswith("not yet: ")


def z_of(w1, w2, b):
    """Return w x + b of the four patterns."""
    return np.array([b, w2 + b, w1 + b, w1 + w2 + b])


TRUE = np.array([False, True, True, False])


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda w1, w2, b: ((z_of(w1, w2, b) > 0) == TRUE).sum(), "right answers; count the wrong"),
        (lambda w1, w2, b: ((z_of(w1, w2, b) > 0) != TRUE).mean(), "this is a share"),
        (lambda w1, w2, b: ((z_of(w1, w2, b) >= 0) != TRUE).sum(), "use z > 0"),
        (lambda w1, w2, b: ((z_of(w1, w2, 0) > 0) != TRUE).sum(), "the bias is missing"),
    ],
)
def test_hints_for_count_errors(xor, capsys, answer, hint):
    """Each common mistake gets its own hint."""
    assert hint in said(capsys, xor.check_count_errors, answer)


def step_with(X, T, order="zlbs", loss_of=None, returns="number"):
    """Return a training step that does zero_grad, loss, backward and step in this `order`."""
    loss_of = loss_of or (lambda z: F.binary_cross_entropy_with_logits(z, T))

    def step(model, optimizer):
        loss = None
        for letter in order:
            if letter == "z":
                optimizer.zero_grad()
            elif letter == "l":
                loss = loss_of(model(X)[:, 0])
            elif letter == "b":
                loss.backward()
            else:
                optimizer.step()
        return {"number": loss.item(), "tensor": loss, "nothing": None, "wrong": 7.0}[returns]

    return step


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"order": "lbs"}, "call optimizer.zero_grad()"),
        ({"order": "zlb"}, "the weights do not move"),
        ({"order": "lbzs"}, "the weights do not move"),
        ({"loss": "sum"}, "take the mean over the patterns"),
        ({"loss": "twice"}, "leave out the sigmoid"),
        ({"loss": "minus"}, "wrong way"),
        ({"loss": "opposite"}, "differ from one SGD step"),
        ({"returns": "nothing"}, "return loss.item()"),
        ({"returns": "wrong"}, "return the loss before the step"),
        ({"returns": "tensor"}, "right: "),
    ],
)
def test_hints_for_train_step(xor, capsys, options, hint):
    """Each common mistake gets its own hint."""
    X, T = xor.PATTERNS, xor.TARGETS
    entropy = F.binary_cross_entropy_with_logits
    losses = {
        "sum": lambda z: entropy(z, T, reduction="sum"),
        "twice": lambda z: entropy(torch.sigmoid(z), T),
        "minus": lambda z: -entropy(z, T),
        "opposite": lambda z: entropy(z, 1 - T),
    }
    options = dict(options)
    step = step_with(X, T, loss_of=losses.get(options.pop("loss", "")), **options)
    assert hint in said(capsys, xor.check_train_step, step)


@pytest.mark.parametrize(
    ("weights", "hint"),
    [
        ({"W": [[1, 1]], "b": [-1.5], "v": [-2], "u": [1, 1], "c": -0.5}, "right: k = 1"),
        ({"W": [[1, 1], [-1, -1]], "b": [-1.5, 0.5], "v": [-1, -1], "c": 0.5}, "right: k = 2"),
        ({"W": [[1, 1]], "b": [-1.5], "v": [2], "u": [-1, -1], "c": 0.5}, "change the signs of v, u and c"),
        ({"W": [[1, 1]], "b": [-1.5], "v": [0], "u": [1, 1], "c": -0.5}, "only (1, 1) is wrong"),
        ({"W": [[1, 1]], "b": [-1], "v": [-2], "u": [1, 1], "c": -0.5}, "closer to 0 than 0.5"),
        ({"W": [[1, 1]], "b": [-1.5], "v": [0], "u": [0, 0], "c": -0.5}, "2 patterns are wrong"),
        ({"W": [[1, 1]], "b": [-1.5, 1], "v": [0], "u": [1, 1], "c": -0.5}, "weights of shape (2,)"),
        ({"W": [[1, 1]], "b": [-1.5]}, "raises TypeError"),
        (None, "raises TypeError"),
    ],
)
def test_hints_for_weights(xor, capsys, weights, hint):
    """Right answers of any size are right; each common mistake gets its own hint."""
    line = said(capsys, xor.check_weights, weights)
    assert hint in line
    assert line.startswith("right: ") == hint.startswith("right: ")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda z, t: (z > 0) == t, ".all(dim=1)"),
        (lambda z, t: ((z > 0) == t).all(), "it must be (5,)"),
        (lambda z, t: ((z > 0.5) == t).all(dim=1), "y > 1/2 means z > 0"),
        (lambda z, t: ((z > 0) == t).any(dim=1), "not any"),
        (lambda z, t: ((z < 0) == t).all(dim=1), "opposite"),
        (lambda z, t: ((z > 0) == t).float().mean(dim=1), "right is"),
    ],
)
def test_hints_for_is_solved(xor, capsys, answer, hint):
    """Each common mistake gets its own hint."""
    line = said(capsys, xor.check_is_solved, lambda z: answer(z, xor.LABELS > 0.5))
    assert line.startswith("not yet: ")
    assert hint in line


def entropy(p, log=math.log):
    """Return the entropy of a share p between 0 and 1."""
    return -p * log(p) - (1 - p) * log(1 - p)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (entropy, "0 times ln 0 must count as 0"),
        (lambda p: float(-p * np.log(p) - (1 - p) * np.log(1 - p)), "gives nan"),
        (lambda p: entropy(p, math.log2), "in bits"),
        (lambda p: -entropy(p), "wrong sign"),
        (lambda p: math.log(2), "take the best y"),
        (lambda p: -p * math.log(p), "target 0 cost something"),
        (lambda p: 4 * entropy(p), "you return"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_hints_for_lowest_loss(xor, capsys, answer, hint):
    """Each common mistake gets its own hint."""
    line = said(capsys, xor.check_lowest_loss, answer)
    assert line.startswith("not yet: ")
    assert hint in line


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda g, h: bool((torch.linalg.eigvalsh(h) > 0).all()), "the gradient is (1, 0)"),
        (lambda g, h: bool((g == 0).all() and (torch.linalg.eigvalsh(h) > 0).all()), "zero up to rounding"),
        (lambda g, h: bool(g.max() < 1e-6 and (torch.linalg.eigvalsh(h) > 0).all()), "take its length"),
        (lambda g, h: bool(g.norm() < 1e-6 and (torch.linalg.eigvalsh(h) > 0).any()), "all, not any"),
        (lambda g, h: bool(g.norm() < 1e-6 and torch.linalg.det(h) > 0), "positive determinant"),
        (lambda g, h: bool(g.norm() < 1e-6 and (h.diagonal() > 0).all()), "entries are not eigenvalues"),
        (lambda g, h: torch.linalg.eigvalsh(h) > 0, "one truth value"),
    ],
)
def test_hints_for_is_minimum(xor, capsys, answer, hint):
    """Each common mistake gets its own hint."""
    line = said(capsys, xor.check_is_minimum, answer)
    assert line.startswith("not yet: ")
    assert hint in line


@pytest.mark.parametrize(
    ("inputs", "hint"),
    [
        ([[-1, -1], [-1, 1], [1, -1], [1, 1]], "right: "),
        ([[0, 0], [0, 1], [1, 0], [1, 1]], "still special"),
        ([[1, 1], [1, -1], [-1, 1], [-1, -1]], "keep the order"),
        ([[-1, -1], [-2, 1], [2, -1], [1, 1]], "keep the order"),
        ([[-1, -1], [1, 1]], "the shape is (2, 2)"),
        ("text", "your code raises"),
        (None, "not yet: "),
    ],
)
def test_hints_for_symmetric_inputs(xor, capsys, inputs, hint):
    """Each common mistake gets its own hint."""
    assert hint in said(capsys, xor.check_inputs, inputs)


@pytest.mark.parametrize(("answer", "hint"), [(0.5, "go lower"), (0.4, "go higher"), (-1.0, "not yet")])
def test_hints_for_first_wrong(xor, capsys, answer, hint):
    """Too high and too low are told apart."""
    assert hint in said(capsys, xor.check_first_wrong, lambda: answer)


# ---- pictures ----


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
