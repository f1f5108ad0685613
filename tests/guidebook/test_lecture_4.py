"""Lecture 4: the stability limit, softmax and cross-entropy against PyTorch, batch noise against its formula."""

import re

import numpy as np
import pytest
import torch
from exercises import assert_never_raises

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of lecture 4, loaded where they cannot touch the repository."""
    return load_definitions("lecture_4", root=tmp_path_factory.mktemp("lecture_4"))


def test_stability_limit(nb):
    """Just below 2/h the path shrinks, just above it grows; curvatures must be positive."""
    limit = nb.largest_stable_rate([1.0, 10.0])
    assert limit == pytest.approx(0.2)
    below = nb.quadratic_path(0.99 * limit, (1, 10), (1, 1), 200)
    above = nb.quadratic_path(1.01 * limit, (1, 10), (1, 1), 200)
    assert np.linalg.norm(below[-1]) < 0.1 < 5 < np.linalg.norm(above[-1])
    with pytest.raises(ValueError, match="positive"):
        nb.largest_stable_rate([1.0, 0.0])


def test_path_by_hand(nb):
    """Two steps of the valley, by the factors 0.81 and -0.9."""
    path = nb.quadratic_path(0.19, (1, 10), (10, 1), 2)
    assert np.allclose(path, [[10, 1], [8.1, -0.9], [6.561, 0.81]])
    assert np.allclose(nb.quadratic_path(2 / 11, (1, 10), (10, 1), 2)[2], np.array([10, 1]) * (9 / 11) ** 2)


def test_unit_slopes(nb):
    """The flowchart's numbers by hand, and its gradients by PyTorch elsewhere."""
    slopes = nb.unit_slopes(2.0, 0.5, -1.0, 1.0)
    assert (slopes["y"], slopes["L"], slopes["dL/dz"], slopes["dL/dw"]) == (0.5, 0.125, -0.125, -0.25)
    w, b = torch.tensor(0.3, requires_grad=True), torch.tensor(0.7, requires_grad=True)
    (0.5 * (torch.sigmoid(-1.5 * w + b) - 0.2) ** 2).backward()
    slopes = nb.unit_slopes(-1.5, 0.3, 0.7, 0.2)
    assert slopes["dL/dw"] == pytest.approx(w.grad.item(), rel=1e-5)
    assert slopes["dL/db"] == pytest.approx(b.grad.item(), rel=1e-5)


def test_check_line(nb):
    """Logits (2, 1, 0) with the first class true: probabilities, loss and gradient of the specification."""
    z = np.array([2.0, 1.0, 0.0])
    p = nb.softmax_of_logits(z)
    assert p.round(3).tolist() == [0.665, 0.245, 0.09]
    assert nb.cross_entropy_of_logits(z, 0) == pytest.approx(0.408, abs=5e-4)
    assert (p - nb.one_hot_vector(0, 3)).round(3).tolist() == [-0.335, 0.245, 0.09]


def test_softmax_equals_pytorch_and_bears_large_logits(nb):
    """Softmax and log-sum-exp agree with PyTorch, do not overflow, and do not change by a shift."""
    z = np.random.default_rng(0).normal(0, 100, (20, 5))
    assert np.allclose(nb.softmax_of_logits(z), torch.softmax(torch.tensor(z), 1).numpy())
    assert np.allclose(nb.softmax_of_logits(z), nb.softmax_of_logits(z + 1e4))
    assert np.allclose(nb.log_sum_exp(z), torch.logsumexp(torch.tensor(z), 1).numpy())
    assert nb.cross_entropy_of_logits(np.array([1000.0, 0.0]), 1) == 1000


def test_temperature(nb):
    """The ratio of two shares is exp(difference / T); a bad temperature is named."""
    p = nb.softmax_of_logits([2.0, 1.0, 0.0], temperature=0.25)
    assert p[0] / p[1] == pytest.approx(np.exp(4))
    with pytest.raises(ValueError, match="temperature is 0"):
        nb.softmax_of_logits([1.0], temperature=0)


def test_bad_class_and_loss_are_named(nb):
    """A class that does not exist and an unknown loss are refused by name."""
    with pytest.raises(ValueError, match="0 to 2"):
        nb.one_hot_vector(3, 3)
    with pytest.raises(ValueError, match="cross-entropy"):
        nb.steps_to_learn("hinge")


def test_squared_error_needs_more_steps(nb):
    """Out of saturation the squared error is slower, and a limit is kept."""
    assert nb.steps_to_learn("squared error") > 10 * nb.steps_to_learn("cross-entropy")
    assert nb.steps_to_learn("squared error", limit=5) == 5


def test_example_gradients_equal_pytorch(nb):
    """The mean of the gradients of single examples is PyTorch's gradient of the mean loss."""
    rng = np.random.default_rng(0)
    W, X, labels = rng.normal(size=(4, 3)), rng.normal(size=(10, 3)), rng.integers(0, 4, 10)
    tensor = torch.tensor(W, requires_grad=True)
    torch.nn.functional.cross_entropy(torch.tensor(X) @ tensor.T, torch.tensor(labels)).backward()
    ours = nb.example_gradients(W, X, np.eye(4)[labels]).mean(axis=0)
    assert np.allclose(ours, tensor.grad.numpy())


@pytest.mark.parametrize("replace", [True, False])
def test_measured_variance_follows_the_formula(nb, replace):
    """Variance of a batch mean against σ²/B, with the factor (N - B)/(N - 1) when nothing is put back."""
    gradients = np.random.default_rng(0).normal(size=(50, 2, 3))
    sigma2 = ((gradients - gradients.mean(axis=0)) ** 2).sum(axis=(1, 2)).mean()
    measured = nb.measured_variance(gradients, 10, 3000, np.random.default_rng(1), replace)
    theory = sigma2 / 10 * (1 if replace else 40 / 49)
    assert measured == pytest.approx(theory, rel=0.08)


def test_variance_is_zero_for_the_whole_set(nb):
    """A batch of everything has no noise."""
    gradients = np.random.default_rng(0).normal(size=(20, 2))
    assert nb.measured_variance(gradients, 20, 3, np.random.default_rng(0), replace=False) < 1e-25


def test_training_lowers_the_loss_and_counts_updates(nb):
    """Each regime starts at log K, ends lower, and makes the expected number of updates."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    X = np.column_stack([rng.normal(size=(90, 3)) + 3 * np.eye(3)[labels], np.ones(90)])
    for batch_size, expected in ((1, 180), (40, 6), (90, 2)):
        updates, losses = nb.train_softmax_model(X, np.eye(3)[labels], batch_size, 0.1, 2, seed=0)
        assert updates[-1] == expected
        assert len(updates) == len(losses)
        assert losses[0] == np.log(3) > losses[-1]


def test_first_full_step_is_plain_gradient_descent(nb):
    """One full-batch update equals a step along the mean gradient."""
    rng = np.random.default_rng(0)
    X, targets = rng.normal(size=(8, 3)), np.eye(2)[rng.integers(0, 2, 8)]
    W = -0.5 * nb.example_gradients(np.zeros((2, 3)), X, targets).mean(axis=0)
    z = X @ W.T
    _, losses = nb.train_softmax_model(X, targets, 8, 0.5, 1, seed=0)
    assert losses[-1] == pytest.approx((nb.log_sum_exp(z) - (z * targets).sum(axis=1)).mean())


def test_slider_picture(nb):
    """The picture behind the slider is a PNG and depends on the temperature."""
    cold, warm = nb.temperature_png(0.2), nb.temperature_png(5.0)
    assert cold.startswith(b"\x89PNG")
    assert cold != warm


def test_delta_rule_ends_at_least_squares(nb):
    """On XOR: no weights and one half as bias; one step from zero by hand."""
    assert np.allclose(nb.delta_rule(nb.XOR_X, nb.XOR_T, 0.5, 500), [0, 0, 0.5])
    assert np.allclose(nb.delta_rule(nb.XOR_X, nb.XOR_T, 1.0, 1), [0.25, 0.25, 0.5])


def test_perceptron_for_classes_stops_when_all_are_right(nb):
    """Three classes on three axes end without a mistake; equal inputs with two labels stop at the limit."""
    W = nb.learn_classes(np.eye(3), np.array([2, 0, 1]))
    assert (np.eye(3) @ W.T).argmax(axis=1).tolist() == [2, 0, 1]
    assert nb.learn_classes(np.ones((2, 1)), np.array([0, 1]), max_epochs=5).shape == (2, 1)


def test_network_descends_and_reordered_units_change_nothing(nb):
    """Plain descent lowers the loss; the reversed network has the same loss, the midpoint another."""
    X, t = (torch.tensor(array).double() for array in ([[0.0, 1], [1, 0], [1, 1]], [[1.0], [1], [0]]))
    start = nb.start_network(0)
    end, losses = nb.descend_from(start, X, t, 0.5, 200)
    assert losses[-1] < losses[0] == nb.network_loss(start, X, t).item()
    other = nb.reverse_units(end)
    assert torch.allclose(nb.network_logit(other, X), nb.network_logit(end, X))
    corners = nb.mix(start, end, other, 1, 0), nb.mix(start, end, other, 0, 1)
    for corner, wanted in zip(corners, (end, other), strict=True):
        assert all(torch.allclose(a, b) for a, b in zip(corner, wanted, strict=True))


def test_first_step_of_the_network_is_minus_the_gradient(nb):
    """One step changes the loss by about -lr times the squared length of the gradient."""
    X, t = torch.tensor([[0.0, 1], [1, 0]]), torch.tensor([[1.0], [0]])
    X, t, start = X.double(), t.double(), nb.start_network(1)
    moved, losses = nb.descend_from(start, X, t, 1e-4, 1)
    squared = sum(((a - b) ** 2).sum().item() for a, b in zip(start, moved, strict=True)) / 1e-8
    assert losses[0] - nb.network_loss(moved, X, t).item() == pytest.approx(1e-4 * squared, rel=1e-2)


@pytest.mark.parametrize(
    ("check", "answer", "said"),
    [
        ("check_delta_step", lambda m: lambda *arguments: None, "not yet: .*nothing"),
        ("check_delta_step", lambda m: lambda *arguments: 1 / 0, "not yet: it raises"),
        ("check_delta_step", lambda m: lambda w, b, x, t, lr: (w - lr * (t - w @ x - b) * x, b), "not yet: the sign"),
        (
            "check_delta_step",
            lambda m: lambda w, b, x, t, lr: (w + (t - w @ x - b) * x, b),
            "not yet: the learning rate",
        ),
        (
            "check_delta_step",
            lambda m: lambda w, b, x, t, lr: (w + lr * (t - (w @ x + b > 0)) * x, b),
            "not yet: use z",
        ),
        ("check_delta_step", lambda m: lambda w, b, x, t, lr: (w + lr * (t - w @ x - b) * x, b), "not yet: w is right"),
        (
            "check_delta_step",
            lambda m: lambda w, b, x, t, lr: (w + lr * (t - w @ x) * x, b + lr * (t - w @ x)),
            "not yet: the bias is missing",
        ),
        (
            "check_delta_step",
            lambda m: lambda w, b, x, t, lr: (w + lr * (t - w @ x - b) * x, b + lr * (t - w @ x - b)),
            "right",
        ),
        ("check_batch_gradient", lambda m: lambda *arguments: None, "not yet: .*nothing"),
        ("check_batch_gradient", lambda m: lambda *arguments: 1 / 0, "not yet: it raises"),
        ("check_batch_gradient", lambda m: lambda W, X, T: m.example_gradients(W, X, T), "not yet: the shape"),
        ("check_batch_gradient", lambda m: lambda W, X, T: m.example_gradients(W, X, T).sum(axis=0), "not yet: divide"),
        (
            "check_batch_gradient",
            lambda m: lambda W, X, T: -m.example_gradients(W, X, T).mean(axis=0),
            "not yet: the sign",
        ),
        ("check_batch_gradient", lambda m: lambda W, X, T: m.example_gradients(W, X, T).mean(axis=0), "right"),
    ],
)
def test_your_turn(nb, capsys, check, answer, said):
    """Each check prints one line: a hint for a typical wrong answer, `right` for a correct one."""
    getattr(nb, check)(answer(nb))
    line = capsys.readouterr().out.strip()
    assert re.match(said, line), line
    assert "\n" not in line


@pytest.mark.parametrize("check", ["check_delta_step", "check_batch_gradient"])
def test_a_check_never_raises(nb, capsys, check):
    """Stubs, errors and nonsense of several shapes get one line that starts with `not yet`."""
    assert_never_raises(getattr(nb, check), capsys, [3.0, [1, 2], ([1, 2], None), ([1, 2, 3], 4), (np.ones((2, 2)), 1)])
