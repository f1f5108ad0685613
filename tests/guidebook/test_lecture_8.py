"""Lecture 8: momentum, the double well, penalties, dropout, early stopping: against formulas and libraries."""

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
        nb.train_small("magic", range(1))
