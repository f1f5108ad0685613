"""Lecture 8: momentum, Adam, schedules, penalties, dropout, early stopping, double descent, transfer, the exercises."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso, Ridge
from torch.nn import functional as F

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of lecture 8, loaded where they cannot touch the repository."""
    module = load_definitions("lecture_8", root=tmp_path_factory.mktemp("lecture_8"))
    return module


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_momentum_equals_pytorch(nb, beta):
    """The path on a quadratic is that of torch.optim.SGD with the same momentum."""
    h = np.array([1.0, 10.0])
    ours = nb.momentum_path(lambda w: h * w, [1.0, -2.0], 0.02, beta, 20)
    w = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], 0.02, momentum=beta)
    for point in ours[1:]:
        optimizer.zero_grad()
        (0.5 * torch.tensor(h) * w**2).sum().backward()
        optimizer.step()
        assert np.allclose(point, w.detach().numpy())


def test_momentum_refuses_bad_settings(nb):
    """A beta of 1 or a rate of 0 is named."""
    with pytest.raises(ValueError, match="beta is 1"):
        nb.momentum_path(lambda w: w, [1.0], 0.1, 1, 1)
    with pytest.raises(ValueError, match="rate is 0"):
        nb.momentum_path(lambda w: w, [1.0], 0, 0.5, 1)


def test_numbers_of_the_specification(nb):
    """363 and 58 steps; a constant gradient leads to steps of η / (1 - β)."""
    assert nb.steps_into_ball(2 / 101, 0.0) == 363
    assert nb.steps_into_ball((2 / 11) ** 2, (9 / 11) ** 2) == 58
    path = nb.momentum_path(lambda w: np.ones_like(w), [0.0], 0.1, 0.9, 500)
    assert (path[-2] - path[-1])[0] == pytest.approx(1.0)
    assert nb.keep_scale(0.2) == pytest.approx(1.25)


def test_stability_limit_of_momentum(nb):
    """Momentum on curvature 1 converges below 2(1 + β) and not above (exercise 2)."""
    assert nb.steps_into_ball(3.7, 0.9, curvatures=(1.0,), limit=500) < 500
    assert nb.steps_into_ball(3.9, 0.9, curvatures=(1.0,), limit=500) == 500


def test_double_well(nb):
    """The slope is the derivative; the five runs of the text end where it says."""
    x, h = np.linspace(-1.7, 1.7, 11), 1e-6
    numerical = (nb.double_well(x + h) - nb.double_well(x - h)) / (2 * h)
    assert np.allclose(nb.double_well_slope(x), numerical, atol=1e-6)
    ends = [nb.momentum_path(nb.double_well_slope, *run, 5000)[-1] for run in nb.WELL_RUNS.values()]
    assert np.round(ends, 3).tolist() == [0.96, 0.96, -1.036, -1.036, 0.96]


def test_penalties_equal_scikit_learn(nb):
    """L1 is scikit-learn's Lasso; L2 its Ridge with alpha = 2 n λ."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 5))
    t = X @ np.array([2.0, 0, 0, -1, 0]) + rng.normal(size=30)
    lasso = Lasso(alpha=0.3, fit_intercept=False, tol=1e-10).fit(X, t).coef_
    ridge = Ridge(alpha=2 * 30 * 0.3, fit_intercept=False).fit(X, t).coef_
    ours = nb.penalized_weights(X, t, "L1", 0.3)
    assert np.allclose(ours, lasso, atol=1e-6)
    assert ((ours == 0) == (lasso == 0)).all()
    assert np.allclose(nb.penalized_weights(X, t, "L2", 0.3), ridge)
    with pytest.raises(ValueError, match="L3"):
        nb.penalized_weights(X, t, "L3", 0.3)


def test_soft_threshold_is_the_minimum(nb):
    """The soft threshold minimizes (w' - w)² / 2 + s |w'| over a fine grid."""
    grid = np.linspace(-3, 3, 60001)
    for w in (-2.0, -0.3, 0.0, 0.3, 1.7):
        best = grid[np.argmin((grid - w) ** 2 / 2 + 0.5 * np.abs(grid))]
        assert nb.soft_threshold(np.array(w), 0.5) == pytest.approx(best, abs=1e-3)


def test_dropout(nb):
    """The scale is 1/(1 - p); a dropped unit contributes nothing; bad p is named."""
    W, V, x = np.eye(2), np.ones((1, 2)), np.array([1.0, 2.0])
    assert nb.thinned_output(x, W, V, np.array([1, 0]), 0.5).tolist() == [2.0]
    assert nb.thinned_output(x, W, V, np.array([1, 1]), 0.0).tolist() == [3.0]
    with pytest.raises(ValueError, match="p is 1"):
        nb.keep_scale(1)


def test_dropout_on_inputs_is_a_weighted_l2_penalty(nb):
    """Exercise 5, by enumeration of the masks."""
    w, x, t, p = np.array([1.0, -2.0]), np.array([0.5, 1.5]), 0.7, 0.3
    expected = sum(
        p ** (2 - sum(mask)) * (1 - p) ** sum(mask) * 0.5 * (w @ (np.array(mask) * x) * nb.keep_scale(p) - t) ** 2
        for mask in ((0, 0), (0, 1), (1, 0), (1, 1))
    )
    assert expected == pytest.approx(0.5 * (w @ x - t) ** 2 + p / (2 * (1 - p)) * (w**2 * x**2).sum())


@pytest.mark.parametrize(
    ("losses", "kept"), [([3, 2, 1], 2), ([3, 1, 2, 2, 2, 0], 1), ([3, 1, 2, 2, 0], 4), ([1.0], 0)]
)
def test_early_stop(nb, losses, kept):
    """The best check before three in a row without improvement."""
    assert nb.early_stop(losses) == kept


def test_residual_stack(nb):
    """With zero weights a residual stack is the identity before its readout, a plain one is zero."""
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    for skip in (True, False):
        net, trace = nb.DeepStack(skip, depth=2, width=8), []
        for layer in net.layers:
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
        net(x.clone().requires_grad_(), trace)
        assert torch.equal(trace[-1], x if skip else torch.zeros_like(x))


def test_gradient_flow(nb):
    """Skips keep the gradient, the plain stack loses it."""
    X, labels = torch.rand(30, 64, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 10
    plain, skip = (nb.state_gradient_norms(flag, X, labels, 0) for flag in (False, True))
    assert plain[0] / plain[-1] < 1e-5
    assert skip[0] / skip[-1] > 0.5


def test_dead_units(nb):
    """With all units off ReLU has no gradient in the hidden layer, leaky ReLU has one everywhere."""
    X, labels = torch.rand(50, 64, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 10
    assert nb.descend_leaky(nb.hidden_network(0, bias=-20.0), 0.0, 0.1, 2, X, labels)[1] == 1.0
    assert nb.descend_leaky(nb.hidden_network(0, bias=-20.0), 0.1, 0.1, 2, X, labels)[1] == 0.0


def test_descent_step_equals_autograd(nb):
    """One step lowers the parameters by rate times gradient."""
    X, labels = torch.rand(20, 64, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 10
    ours, theirs = nb.hidden_network(0), nb.hidden_network(0)
    nb.descend_leaky(ours, 0.1, 0.3, 1, X, labels)
    W, b, V, c = theirs
    F.cross_entropy(F.leaky_relu(X @ W.T + b, 0.1) @ V.T + c, labels).backward()
    for p, q in zip(ours, theirs):
        assert torch.allclose(p, q - 0.3 * q.grad)


def test_shifted_copies(nb):
    """Nine copies; the middle one is the original; a single pixel moves by one."""
    image = torch.zeros(1, 64)
    image[0, 27] = 1
    copies = nb.shifted_copies(image)
    assert copies.shape == (9, 1, 64)
    assert torch.equal(copies[4], image)
    assert sorted(copies.argmax(dim=2).ravel().tolist()) == [18, 19, 20, 26, 27, 28, 34, 35, 36]


def test_adam_ignores_the_scale(nb):
    """Adam's path does not depend on a factor of the loss."""
    assert np.allclose(nb.adam_path(1.0), nb.adam_path(50.0), atol=1e-5)


def test_slider_picture(nb):
    """The picture behind the sliders is a PNG and depends on beta."""
    pictures = [nb.double_well_png(1.5, 0.03, beta) for beta in (0.0, 0.9)]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] != pictures[1]


def test_unknown_method_is_named(nb):
    """A method that does not exist is refused with the list of those that do."""
    with pytest.raises(ValueError, match=r"magic.*dropout"):
        nb.train_small("magic", {}, 0)


def test_adam_step_equals_pytorch(nb):
    """Ten steps on random gradients give the weights of torch.optim.Adam; the first step is the rate times the sign."""
    rng = np.random.default_rng(0)
    w, m, v = rng.normal(size=4), np.zeros(4), np.zeros(4)
    theirs = torch.tensor(w, requires_grad=True)
    optimizer = torch.optim.Adam([theirs], lr=0.05)
    for t in range(1, 11):
        g = rng.normal(size=4)
        before = w
        w, m, v = nb.adam_step(w, g, m, v, t)
        theirs.grad = torch.tensor(g)
        optimizer.step()
        assert np.allclose(w, theirs.detach().numpy(), atol=1e-12)
        if t == 1:
            assert np.allclose(w - before, -0.05 * np.sign(g))


def test_jitter_of_a_constant_rate(nb):
    """The loss of noisy descent settles where the formula of the text says, η σ² / (2 (2 - η h)) for each curvature."""
    rate, h = 0.02, np.array([1.0, 30.0])
    wanted = (0.5 * rate * h / (2 - rate * h)).sum()
    losses = nb.noisy_descent(lambda share: 1.0, rate, num_steps=900, num_runs=4000)
    assert losses.mean() == pytest.approx(wanted, rel=0.06)


def test_schedules_begin_at_one_and_fall(nb):
    """Each factor is 1 at the start; the cosine ends at 0."""
    assert all(schedule(0.0) == 1.0 for schedule in nb.SCHEDULES.values())
    assert nb.SCHEDULES["half a cosine"](1.0) == pytest.approx(0)


def test_starts_of_deep_stacks(nb):
    """He's start has the variance 2 / n, PyTorch's 1 / (3 n)."""
    for he, wanted in ((True, 2 / 64), (False, 1 / (3 * 64))):
        variance = np.mean([layer.weight.detach().var().item() for layer in nb.DeepStack(False, he=he).layers])
        assert variance == pytest.approx(wanted, rel=0.05)


@pytest.fixture
def tasks(nb):
    """Return two small tasks, with the images that the notebook's functions use."""
    nb.digits = nb.load_digits()
    nb.images, nb.labels = torch.tensor(nb.digits.data / 16).float(), torch.tensor(nb.digits.target)
    nb.copies = nb.shifted_copies(nb.images)
    return nb.small_tasks([3, 4])


def test_small_tasks(nb, tasks):
    """No image is in two parts; only training targets are wrong, and at most 20 of them."""
    for k in range(2):
        parts = [set(tasks[part][k].tolist()) for part in ("train", "valid", "test")]
        assert [len(part) for part in parts] == [100, 400, 1297]
        assert len(set.union(*parts)) == 1797
        wrong = tasks["train_t"][k] != nb.labels[tasks["train"][k]]
        assert 0 < wrong.sum() <= 20
        assert not wrong[20:].any()
        for part in ("valid", "test"):
            assert torch.equal(tasks[f"{part}_t"][k], nb.labels[tasks[part][k]])


def test_label_budgets(nb, tasks):
    """80 and 20 make up the 100, wrong labels in both; all 500 are training and validation together."""
    own, everything = nb.with_own_validation(tasks), nb.with_all_labels(tasks)
    assert own["train"].shape == (2, 80)
    assert own["valid_t"].shape == (2, 20)
    for k in range(2):
        both = torch.cat([own["train"][k], own["valid"][k]]).sort().values
        assert torch.equal(both, tasks["train"][k].sort().values)
        assert (own["valid_t"][k] != nb.labels[own["valid"][k]]).any()
    assert everything["train_t"].shape == (2, 500)
    assert torch.equal(own["test"], tasks["test"])


@pytest.mark.parametrize("method", ["none", "L2", "dropout", "noise", "augmentation"])
def test_small_networks_learn(nb, tasks, method):
    """Forty updates lower the training loss of both tasks."""
    result = nb.train_small(method, tasks, 0, num_updates=40)
    assert result.shape == (3, 5, 2)
    assert (result[0, -1] < 0.8 * result[0, 0]).all()
    assert nb.stopped_accuracy(result).shape == (2,)


def test_random_feature_errors(nb, tasks):
    """More features than examples fit the training set exactly, and the error peaks near n."""
    few, peak, many = nb.random_feature_errors(0, [50, 220, 1500])
    assert peak > 1.5 * max(few, many)
    assert nb.random_feature_errors(0, [220], ridge=1.0)[0] < 0.25


def test_placed_digits(nb, tasks):
    """Each digit stands whole on its canvas, and not always at the same place."""
    canvas = nb.placed(nb.images[:50], torch.Generator().manual_seed(0))
    assert canvas.shape == (50, 1, 14, 14)
    assert torch.allclose(canvas.flatten(1).sum(1), nb.images[:50].sum(1))
    assert len({tuple(image[0].nonzero()[0].tolist()) for image in canvas}) > 5
    assert nb.conv_features()(canvas).shape == (50, 64)


def said(capsys, check, function):
    """Return what `check` prints about `function`: one line."""
    capsys.readouterr()
    check(function)
    (line,) = capsys.readouterr().out.splitlines()
    return line


def right_rate(step, num_steps, warmup, peak):
    """Return the rate of the exercise."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warmup) / (num_steps - warmup)))


def test_check_rate_at(nb, capsys):
    """The check knows the stub, typical mistakes and the right answer."""
    assert said(capsys, nb.check_rate_at, right_rate).startswith("right: ")
    wrong = [
        (lambda *a: None, "nothing"),
        (lambda *a: 1 / 0, "ZeroDivisionError"),
        (lambda s, n, w, p: p * s / w if s < w else right_rate(s, n, w, p), "not 0"),
        (lambda s, n, w, p: p * max(s / w, 1 / w) if 0 <= s < w - 1 else right_rate(s, n, w, p), "equal"),
        (lambda s, n, w, p: right_rate(s, n, w, p) if s < w else p * (1 - (s - w) / (n - w)), "three quarters"),
        (lambda s, n, w, p: right_rate(s, n, w, p) if s < w else right_rate(s, n, 0, p), "starts at"),
    ]
    for function, hint in wrong:
        line = said(capsys, nb.check_rate_at, function)
        assert line.startswith("not yet: ")
        assert hint in line


def test_check_drop(nb, capsys):
    """The check knows the stub, typical mistakes and the right answer."""
    assert said(capsys, nb.check_drop, lambda a, p, rng: a * (rng.random(a.shape) >= p) / (1 - p)).startswith("right: ")
    wrong = [
        (lambda a, p, rng: None, "nothing"),
        (lambda a, p, rng: a * (rng.random(a.shape) >= p), "scale what is kept"),
        (lambda a, p, rng: a * (rng.random(a.shape) >= p) / p, "1 / (1 - p)"),
        (lambda a, p, rng: a * (rng.random(a.shape) < p) / p, "not to keep"),
        (lambda a, p, rng: a * (rng.random() >= p), "on its own"),
        (lambda a, p, rng: a * (rng.random((len(a), 1)) >= p) / (1 - p), "whole rows"),
        (lambda a, p, rng: a * (rng.random(a.shape[1]) >= p) / (1 - p), "whole rows"),
        (lambda a, p, rng: a.sum(), "shape"),
    ]
    for function, hint in wrong:
        line = said(capsys, nb.check_drop, function)
        assert line.startswith("not yet: ")
        assert hint in line


def test_threshold_of_the_double_well(nb):
    """Exercise 3: with beta = 0.9 every rate from 0.021 on escapes, up to 0.05; with 0.99 there are bands."""

    def escapes(rates, beta):
        return [nb.momentum_path(nb.double_well_slope, 1.5, rate, beta, 2500)[-1] < 0 for rate in rates]

    assert escapes([0.018, 0.019, 0.020], 0.9) == [False] * 3
    assert all(escapes([0.021, 0.022, 0.025, 0.03, 0.04, 0.05], 0.9))
    found = escapes(np.arange(0.002, 0.041, 0.002), 0.99)
    assert sum(a != b for a, b in pairwise(found)) >= 3
