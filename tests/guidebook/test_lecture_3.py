"""The definitions of lecture 3: the rule, Novikoff's bound, the cone, XOR's cycle, pocket, average, Cover's count."""

import itertools
import re

import numpy as np
import PIL.Image
import pytest
from exercises import assert_never_raises

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def lecture(tmp_path_factory):
    """Return the definitions of the lecture, loaded in an empty folder."""
    return load_definitions("lecture_3", tmp_path_factory.mktemp("root"))


def test_one_step_by_hand(lecture):
    """The check of the lecture: answer 0, then w = (1.5, 0), b = 0.5, and z rises by lr (|x|² + 1)."""
    y, w, b = lecture.perceptron_step((1, -1), 0, (1, 2), 1, 0.5)
    assert (y, w.tolist(), b) == (0, [1.5, 0.0], 0.5)
    assert w @ [1, 2] + b - (1 - 2) == pytest.approx(0.5 * 6)


def test_right_answers_and_false_positives(lecture):
    """No change when right; away from x for a false positive."""
    assert lecture.perceptron_step((1, 1), 0, (1, 0), 1, 1)[1].tolist() == [1, 1]
    y, w, b = lecture.perceptron_step((1, 1), 0, (1, 0), 0, 1)
    assert (y, w.tolist(), b) == (1, [0, 1], -1)


def test_six_points(lecture):
    """The training that is drawn, and exercise 2: margin 1/sqrt(13)."""
    path, steps, converged = lecture.learn_from_mistakes(lecture.SIX_POINTS, lecture.SIX_TARGETS)
    assert path.tolist() == [[0, 0], [1, 2], [3, 1], [2, 3]] and steps.tolist() == [0, 2, 4] and converged
    gamma, u = lecture.largest_margin(lecture.SIX_POINTS, lecture.SIX_TARGETS)
    assert gamma == pytest.approx(13**-0.5) and np.allclose(u, np.array([2, 3]) / 13**0.5)


def test_or_by_hand(lecture):
    """Exercise 1: four mistakes, and these weights."""
    path, steps, converged = lecture.learn_from_mistakes(lecture.XOR_INPUTS, [0, 1, 1, 1])
    assert converged and len(steps) == 4
    assert path.tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 0], [1, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.perceptron_step((1, 1), 0, (1, 1), -1, 1), "0 or 1"),
        (lambda m: m.learn_from_mistakes([[1, 2]], [1, 0]), "one target"),
        (lambda m: m.learn_from_mistakes([[1, 2]], [-1]), "0 or 1"),
        (lambda m: m.learn_from_mistakes([[1, 2]], [1], lr=0), "above 0"),
        (lambda m: m.separated_points(10, 0.5, 0), "0 to 0.4"),
        (lambda m: m.mistake_bound(1, 0), "above 0"),
        (lambda m: m.count_labelings(0, 3), "1 or more"),
        (lambda m: m.draw_both_spaces(4), "0 to 3"),
        (lambda m: m.digit_pair(3, 3), "two different digits"),
    ],
)
def test_bad_input_is_named(lecture, call, message):
    """Input that makes no sense is a ValueError that says what is allowed."""
    with pytest.raises(ValueError, match=message):
        call(lecture)


@pytest.mark.parametrize("seed", range(5))
def test_rate_only_rescales_from_zero(lecture, seed):
    """Two runs from zero differ by a factor; a power of two, so that rounding does not enter."""
    X, t = lecture.separated_points(50, 0.05, seed)
    path, steps, _ = lecture.learn_from_mistakes(lecture.fold_bias(X), t, 1.0)
    other, other_steps, _ = lecture.learn_from_mistakes(lecture.fold_bias(X), t, 0.125)
    assert np.array_equal(steps, other_steps) and np.array_equal(path, 8 * other)


@pytest.mark.parametrize("seed", range(8))
def test_novikoff_holds_in_any_order(lecture, seed):
    """Exercise 3: shuffled examples, same bound, never more mistakes; and both inequalities of the proof."""
    X, t = lecture.separated_points(40, 0.05, seed)
    X = lecture.fold_bias(X)
    order = np.random.default_rng(seed).permutation(len(X))
    path, steps, converged = lecture.learn_from_mistakes(X[order], t[order])
    gamma, u = lecture.largest_margin(X, t)
    R = np.linalg.norm(X, axis=1).max()
    k = np.arange(len(path))
    assert converged and len(steps) <= lecture.mistake_bound(R, gamma)
    assert (path @ u >= k * gamma - 1e-9).all() and ((path**2).sum(axis=1) <= k * R**2 + 1e-9).all()


def test_margin_is_attained_and_best(lecture):
    """The weights returned have that margin, and no random direction has a larger one."""
    X, t = lecture.separated_points(40, 0.1, 1)
    signed = np.where(t == 1, 1, -1)[:, None] * lecture.fold_bias(X)
    gamma, u = lecture.largest_margin(lecture.fold_bias(X), t)
    directions = np.random.default_rng(0).standard_normal((5000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert np.linalg.norm(u) == pytest.approx(1) and (signed @ u).min() == pytest.approx(gamma)
    assert (signed @ directions.T).min(axis=0).max() <= gamma + 1e-12


def test_xor_has_no_margin_and_cycles(lecture):
    """Margin 0; the same weights come back at the end of each epoch, bounded."""
    assert lecture.largest_margin(lecture.XOR_INPUTS, lecture.XOR_TARGETS)[0] == 0
    path, _, converged = lecture.learn_from_mistakes(lecture.XOR_INPUTS, lecture.XOR_TARGETS, max_epochs=50)
    assert not converged and np.array_equal(path[2:-4], path[6:]) and (path**2).sum(axis=1).max() <= 5


def test_average_by_hand(lecture):
    """Weights 0 for the first visit, 1 for the next two, 3 for the last: mean 5/4."""
    assert lecture.average_weights(np.array([[0.0], [1.0], [3.0]]), [0, 2], 4) == pytest.approx([1.25])


def test_cover(lecture):
    """Known values: the corners of a square, the half at 2N, the three shares of the lecture, brute force."""
    assert lecture.count_labelings(4, 3) == 14 and lecture.count_labelings(8, 4) == 128
    shares = [lecture.share_of_labelings(P, 10) for P in (15, 20, 25)]
    assert np.round(shares, 3).tolist() == [0.910, 0.5, 0.154]
    X = lecture.fold_bias(np.random.default_rng(1).standard_normal((6, 2)))
    assert lecture.count_by_trying(X) == lecture.count_labelings(6, 3) == 32
    cube = lecture.fold_bias(np.array(list(itertools.product([0, 1], repeat=3))))
    assert lecture.count_by_trying(cube) == 104  # not in general position: fewer than 128


def test_share_separable_is_near_theory(lecture):
    """500 labelings of 20 points with 10 weights: one half, within five standard errors."""
    assert lecture.share_separable(20, 10, 500, seed=1) == pytest.approx(0.5, abs=5 * (0.25 / 500) ** 0.5)


def test_digit_pair_splits_without_overlap(lecture):
    """All images of both digits, scaled to 0..1, in two parts."""
    X, t, X_test, t_test = lecture.digit_pair(3, 8)
    digits = lecture.load_digits()
    assert len(X) + len(X_test) == np.isin(digits.target, (3, 8)).sum()
    assert X.min() >= 0 and X.max() <= 1 and set(t) == set(t_test) == {0, 1}


def test_slider_callback_draws(lecture):
    """Each position of the slider gives a picture, and moving it changes the picture."""
    slider, view = lecture.make_cone_slider().children
    pictures = set()
    for slider.value in range(4):
        pictures.add(bytes(view.value))
        assert PIL.Image.open(lecture.io.BytesIO(view.value)).size[0] > 500
    assert len(pictures) == 4


@pytest.mark.parametrize(
    ("check", "answer", "said"),
    [
        ("check_update", lambda m: lambda *arguments: None, "not yet: .*nothing"),
        ("check_update", lambda m: lambda *arguments: 1 / 0, "not yet: it raises"),
        ("check_update", lambda m: lambda w, x, t, lr: w + (t - (w @ x > 0)) * x, "not yet: the learning rate"),
        ("check_update", lambda m: lambda w, x, t, lr: w - lr * (t - (w @ x > 0)) * x, "not yet: the sign"),
        ("check_update", lambda m: lambda w, x, t, lr: w + lr * (t - (w @ x >= 0)) * x, "not yet: z = 0"),
        ("check_update", lambda m: lambda w, x, t, lr: m.perceptron_step(w, 0, x, t, lr)[1], "right"),
        ("check_pocket_weights", lambda m: lambda *arguments: None, "not yet: .*nothing"),
        ("check_pocket_weights", lambda m: lambda *arguments: 1 / 0, "not yet: it raises"),
        ("check_pocket_weights", lambda m: lambda path, X, t: path[-1], "not yet: these are the last"),
        (
            "check_pocket_weights",
            lambda m: lambda path, X, t: m.errors_along(path, X, t).argmin(),
            "not yet: return the weights",
        ),
        ("check_pocket_weights", lambda m: lambda path, X, t: path[m.errors_along(path, X, t).argmin()], "right"),
    ],
)
def test_your_turn(lecture, capsys, check, answer, said):
    """Each check prints one line: a hint for a typical wrong answer, `right` for a correct one."""
    getattr(lecture, check)(answer(lecture))
    line = capsys.readouterr().out.strip()
    assert re.match(said, line), line
    assert "\n" not in line


@pytest.mark.parametrize("check", ["check_update", "check_pocket_weights"])
def test_a_check_never_raises(lecture, capsys, check):
    """Stubs, errors and nonsense of several shapes get one line that starts with `not yet`."""
    assert_never_raises(getattr(lecture, check), capsys, [3.0, [1, 2], [[1.0, 2, 3]], ([1, 2, 3], 4), np.ones((2, 3))])
