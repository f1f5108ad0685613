"""The definitions of lecture 1: the neuron, its activations, Hebb and Oja, the backward sweep, the perfect critic."""

import re

import numpy as np
import PIL.Image
import pytest
import torch

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def lecture(tmp_path_factory):
    """Return the definitions of the lecture, loaded in an empty folder."""
    return load_definitions("lecture_1", tmp_path_factory.mktemp("root"))


@pytest.mark.parametrize(("name", "expected"), [("sigmoid", 0.525), ("tanh", 0.0997), ("ReLU", 0.1)])
def test_worked_example(lecture, name, expected):
    """The neuron of the lecture gives the numbers that its quiz asks for."""
    z = lecture.weighted_sum(lecture.INPUT, lecture.WEIGHTS, lecture.BIAS)
    assert lecture.fire(z, name) == pytest.approx(expected, abs=5e-4)


def test_weighted_sum_of_many_points(lecture):
    """One call serves a whole grid of points."""
    points = np.arange(12.0).reshape(2, 3, 2)
    assert np.allclose(lecture.weighted_sum(points, (1, -1), 0.5), np.full((2, 3), -0.5))


@pytest.mark.parametrize(("name", "function"), [("sigmoid", torch.sigmoid), ("tanh", torch.tanh), ("ReLU", torch.relu)])
def test_slopes_agree_with_automatic_differentiation(lecture, name, function):
    """The derivatives in ACTIVATIONS are those of PyTorch, also at the kink."""
    z = torch.linspace(-30, 30, 601, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(function(z).sum(), z)
    assert np.allclose(lecture.ACTIVATIONS[name][1](z.detach().numpy()), slope.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.weighted_sum((1, 2, 3), (1, 2), 0), "one entry per weight"),
        (lambda m: m.fire(0.0, "step"), "'step'.*sigmoid.*tanh.*ReLU"),
        (lambda m: m.learn_locally(np.ones((3, 2)), "hebb", 0.1, (1, 0)), "'Hebb' or 'Oja'"),
        (lambda m: m.best_discriminator([0.5, 0.5], [0.5, 0.6]), "summing to 1"),
    ],
)
def test_bad_input_is_named(lecture, call, message):
    """Input that makes no sense is a ValueError that says what is allowed."""
    with pytest.raises(ValueError, match=message):
        call(lecture)


def test_one_step_of_hebb_and_oja_by_hand(lecture):
    """x = (1, 2), w = (1, 0): y = 1, so Hebb adds 0.1 x, and Oja subtracts 0.1 w from that."""
    point = np.array([[1.0, 2.0]])
    assert np.allclose(lecture.learn_locally(point, "Hebb", 0.1, (1, 0))[-1], [1.1, 0.2])
    assert np.allclose(lecture.learn_locally(point, "Oja", 0.1, (1, 0))[-1], [1.0, 0.2])


def test_oja_finds_the_component_of_anticorrelated_inputs(lecture):
    """Exercise 3: with covariance -0.8 the direction is (1, -1), whatever the start."""
    points = lecture.correlated_points(3000, np.array([[1, -0.8], [-0.8, 1]]), 0)
    w = lecture.learn_locally(points, "Oja", 0.002, (0.5, 0.4))[-1]
    assert abs(w @ [1, -1]) / 2**0.5 == pytest.approx(1, abs=0.02)


def test_backward_sweep_agrees_with_central_differences(lecture):
    """On random parameters, too, not only on those of the worked example."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        parameters = {name: rng.normal(size=array.shape) for name, array in lecture.EXAMPLE.items()}
        x, t = rng.normal(size=2), rng.normal()
        _, gradients, _, _ = lecture.backward_221(x, t, parameters)
        differences = lecture.central_221(x, t, parameters)
        assert all(np.allclose(gradients[name], differences[name], atol=1e-7) for name in parameters)


def test_a_unit_that_is_off_gets_no_gradient(lecture):
    """Exercise 2: with b1 = -0.2 four of the nine derivatives vanish."""
    parameters = {**lecture.EXAMPLE, "b": np.array([-0.2, 0.0])}
    _, gradients, _, _ = lecture.backward_221(lecture.INPUT, lecture.TARGET, parameters)
    assert sum(int((gradient == 0).sum()) for gradient in gradients.values()) == 4


def test_perfect_generator_leaves_a_coin_toss(lecture):
    """Equal distributions: one half everywhere, value -ln 4; any other pair has a larger value."""
    D, value = lecture.best_discriminator([0.2, 0.8], [0.2, 0.8])
    assert np.allclose(D, 0.5) and value == pytest.approx(-np.log(4))
    assert lecture.best_discriminator([0.2, 0.8], [0.8, 0.2])[1] > value
    assert lecture.best_discriminator([1, 0], [0, 1])[1] == 0, "kinds that one of the two never makes"


def test_slider_callback_draws(lecture):
    """The plain function behind the sliders returns a picture for each activation."""
    for name in lecture.ACTIVATIONS:
        png = lecture.neuron_view(-1.5, 0.0, 2.0, name)
        assert PIL.Image.open(lecture.io.BytesIO(png)).size[0] > 500
    assert len(lecture.make_neuron_sliders().children) == 3


@pytest.mark.parametrize(
    ("check", "answer", "said"),
    [
        ("check_neuron", lambda m: lambda *arguments: None, "not yet: .*nothing"),
        ("check_neuron", lambda m: lambda *arguments: 1 / 0, "not yet: it raises"),
        ("check_neuron", lambda m: lambda x, w, b: x @ w + b, "not yet: this is z"),
        ("check_neuron", lambda m: lambda x, w, b: m.logistic_function(x @ w), "not yet: the bias"),
        ("check_neuron", lambda m: lambda x, w, b: m.logistic_function(-x @ w - b), "not yet: the sign"),
        ("check_neuron", lambda m: lambda x, w, b: m.logistic_function(x @ w) + b, "not yet: add the bias before"),
        ("check_neuron", lambda m: lambda x, w, b: m.logistic_function(x @ w + b), "right"),
        ("check_oja_step", lambda m: lambda *arguments: None, "not yet: .*nothing"),
        ("check_oja_step", lambda m: lambda *arguments: 1 / 0, "not yet: it raises"),
        ("check_oja_step", lambda m: lambda w, x, lr: w + lr * (w @ x) * x, "not yet: this is Hebb"),
        ("check_oja_step", lambda m: lambda w, x, lr: w + lr * (w @ x) * (x - w), "not yet: the decay"),
        ("check_oja_step", lambda m: lambda w, x, lr: (1, 2, 3), "not yet: from"),
        ("check_oja_step", lambda m: lambda w, x, lr: m.learn_locally(x[None], "Oja", lr, w)[-1], "right"),
        ("check_oja_step", lambda m: lambda w, x, lr: m.learn_locally(x[None], "Oja", lr, w)[-1].tolist(), "right"),
    ],
)
def test_your_turn(lecture, capsys, check, answer, said):
    """Each check prints one line: a hint for a typical wrong answer, `right` for a correct one."""
    getattr(lecture, check)(answer(lecture))
    line = capsys.readouterr().out.strip()
    assert re.match(said, line), line
    assert "\n" not in line
