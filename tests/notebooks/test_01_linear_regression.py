"""Notebook 01: the neuron, its gradient, descent and its limit, least squares, uncertainty, and what checks say."""

import numpy as np
import pytest

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of notebook 01."""
    return load_definitions("01", tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def parts(nb):
    """Return the notebook's own training and held-out pairs."""
    return nb.split_pairs(*nb.make_readings(nb.NUM_PAIRS, nb.NOISE, nb.SEED), 32, nb.SEED)


def test_readings_follow_the_rule_and_the_seed(nb):
    """The noise has the size asked for; without it the rule is exact; one seed gives one data set."""
    x, t = nb.make_readings(20_000, 3.0, 0)
    assert x.min() >= 0 and x.max() <= 100
    assert np.std(t - (1.8 * x + 32)) == pytest.approx(3, rel=0.03)
    x, t = nb.make_readings(160, 0.0, 5)
    np.testing.assert_allclose(t, 1.8 * x + 32)
    np.testing.assert_array_equal(nb.make_readings(160, 3.0, 5)[1], nb.make_readings(160, 3.0, 5)[1])
    assert not np.array_equal(nb.make_readings(160, 3.0, 5)[1], nb.make_readings(160, 3.0, 6)[1])


def test_split_keeps_every_pair_once(nb):
    """The parts together are the pairs, x still beside its t."""
    x = np.arange(10.0)
    x_train, t_train, x_test, t_test = nb.split_pairs(x, x * x, 3, 0)
    assert len(x_test) == 3
    assert sorted([*x_train, *x_test]) == x.tolist()
    np.testing.assert_array_equal([*t_train, *t_test], np.square([*x_train, *x_test]))


def test_toy_numbers_by_hand(nb):
    """Outputs, loss and gradient of the three toy pairs, worked out on paper."""
    y = nb.neuron_output(nb.TOY_X, 1.0, 0.0)
    assert nb.squared_loss(y, nb.TOY_T) == pytest.approx(5056)
    assert nb.loss_gradient(nb.TOY_X, y, nb.TOY_T) == pytest.approx((-23200 / 3, -368 / 3))


def test_gradient_against_finite_differences(nb):
    """The gradient agrees with central differences at random places, data and sizes."""
    rng = np.random.default_rng(0)
    for n in (2, 5, 100):
        x, t, (w, b) = rng.normal(size=n), rng.normal(size=n), rng.normal(size=2)
        exact = nb.loss_gradient(x, nb.neuron_output(x, w, b), t)
        np.testing.assert_allclose(exact, nb.numerical_gradient(x, t, w, b), rtol=1e-7, atol=1e-8)


def test_hessian_is_the_derivative_of_the_gradient(nb):
    """Each column of the Hessian is the change of the gradient along one parameter, exact for a quadratic."""
    x, t, _, _ = nb.split_pairs(*nb.make_readings(50, 3.0, 2), 10, 0)

    def gradient(w, b):
        return np.array(nb.loss_gradient(x, nb.neuron_output(x, w, b), t))

    columns = np.stack([gradient(2.0, 1.0) - gradient(1.0, 1.0), gradient(1.0, 2.0) - gradient(1.0, 1.0)], axis=1)
    np.testing.assert_allclose(nb.hessian(x), columns, rtol=1e-9)


def test_curvature_is_the_second_derivative(nb, parts):
    """Along any direction it is v H v, from two losses beside one; a step of another size gives the same."""
    x, t, _, _ = parts
    for direction in ((1, 0), (0, 1), (-0.3, 2.0)):
        expected = np.array(direction) @ nb.hessian(x) @ np.array(direction)
        assert nb.curvature(x, t, direction) == pytest.approx(expected)
        assert nb.curvature(x, t, direction, step=7.0) == pytest.approx(expected)


def test_epochs_needed_counts_steps_to_the_goal(nb):
    """One step at rate 1/2 of a round bowl; none at all from the goal itself."""
    u, t = np.array([-1.0, 1.0]), np.array([3.0, 7.0])
    assert nb.epochs_needed(u, t, 0.0, 0.0, 0.5, 1e-9) == 1
    assert nb.epochs_needed(u, t, 2.0, 5.0, 0.5, 1e-9) == 0
    assert nb.epochs_needed(u, t, 0.0, 0.0, 0.25, 29 / 4) == 1  # half of the distance is left, a quarter of the loss


def test_condition_number(nb, parts):
    """It is 1 for standardized inputs, the variance (or its inverse) for centered ones, and large for raw ones."""
    x = parts[0]
    u = (x - x.mean()) / x.std()
    assert nb.condition_number(u) == pytest.approx(1)
    assert nb.condition_number(7 * u) == pytest.approx(49)
    assert nb.condition_number(u / 7) == pytest.approx(49)
    assert nb.condition_number(x) == pytest.approx(np.linalg.cond(nb.hessian(x)))
    assert nb.condition_number(x) > 10_000


def test_descend_first_step_by_hand_and_shape(nb):
    """The first row is the start, the second one gradient step, and there is one row more than epochs."""
    path = nb.descend(nb.TOY_X, nb.TOY_T, 1.0, 0.0, 1e-4, 3)
    assert path.shape == (4, 3)
    np.testing.assert_allclose(path[0], [1, 0, 5056])
    np.testing.assert_allclose(path[1, :2], [1 + 1e-4 * 23200 / 3, 1e-4 * 368 / 3])


def test_descend_reaches_least_squares_and_stops_at_the_goal(nb, parts):
    """From any start it ends at the closed-form line; a goal ends it early, at the first loss below."""
    x, t, _, _ = parts
    u = (x - x.mean()) / x.std()
    for start in ((0.0, 0.0), (-500.0, 900.0)):
        path = nb.descend(u, t, *start, 0.3, 200)
        assert nb.to_raw(*path[-1, :2], x.mean(), x.std()) == pytest.approx(nb.least_squares(x, t), abs=1e-8)
    short = nb.descend(u, t, 0.0, 0.0, 0.1, 200, goal=100.0)
    assert short[-1, 2] <= 100 < short[-2, 2]
    assert len(nb.descend(u, t, 0.0, 0.0, 0.5, 200, goal=path[-1, 2] + 1e-9)) == 2  # a single step


def test_descend_says_when_the_loss_overflows(nb, parts):
    """A hopeless learning rate ends with a FloatingPointError that names it, and without a numpy warning."""
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match=r"lr = 0\.3"):
        nb.descend(parts[0], parts[1], 0.0, 0.0, 0.3, 1000)


def test_predicted_gaps_equal_measured_ones(nb):
    """The formula for the learning curve holds on other data and rates, also above the limit."""
    rng = np.random.default_rng(3)
    x, t = rng.normal(2, 1, 40), rng.normal(size=40)
    low = nb.squared_loss(nb.neuron_output(x, *nb.least_squares(x, t)), t)
    limit = 2 / np.linalg.eigvalsh(nb.hessian(x))[1]
    for lr in (0.1 * limit, 0.9 * limit, 1.05 * limit):
        measured = nb.descend(x, t, 3.0, -2.0, lr, 20)[:, 2] - low
        np.testing.assert_allclose(sum(nb.predicted_gaps(x, t, 3.0, -2.0, lr, np.arange(21))), measured, rtol=1e-7)


def test_largest_rate_is_two_over_the_curvature(nb):
    """Trial finds 2 / h on data of another scale; a bracket that does not hold the limit is refused."""
    rng = np.random.default_rng(4)
    x, t = rng.normal(5, 2, 30), rng.normal(size=30)
    limit = 2 / np.linalg.eigvalsh(nb.hessian(x))[1]
    assert nb.find_largest_rate(x, t, 1.0, 1.0, limit / 9, limit * 9) == pytest.approx(limit, rel=1e-3)
    with pytest.raises(ValueError, match="does not work"):
        nb.find_largest_rate(x, t, 1.0, 1.0, limit * 2, limit * 3)
    with pytest.raises(ValueError, match="does not explode"):
        nb.find_largest_rate(x, t, 1.0, 1.0, limit / 9, limit / 3)


def test_raw_and_standardized_are_the_same_line(nb):
    """The two changes of coordinates undo each other and keep the outputs."""
    x = np.array([-3.0, 0.0, 8.0])
    w_u, b_u = nb.to_standardized(1.8, 32.0, 50.0, 20.0)
    assert nb.to_raw(w_u, b_u, 50.0, 20.0) == pytest.approx((1.8, 32))
    np.testing.assert_allclose(nb.neuron_output((x - 50) / 20, w_u, b_u), nb.neuron_output(x, 1.8, 32.0))


def test_least_squares_against_polyfit(nb, parts):
    """NumPy's polynomial fit gives the same line, and exact data give the exact rule."""
    x, t, _, _ = parts
    assert nb.least_squares(x, t) == pytest.approx(tuple(np.polyfit(x, t, 1)), abs=1e-8)
    assert nb.least_squares([0, 10, 100], [32, 50, 212]) == pytest.approx((1.8, 32))


def test_standard_errors_against_polyfit_and_the_hessian(nb, parts):
    """They agree with the covariance of numpy.polyfit and with 2 sigma^2 / n times the inverse Hessian."""
    x, t, _, _ = parts
    se_w, se_b, sigma = nb.standard_errors(x, t)
    _, covariance = np.polyfit(x, t, 1, cov=True)
    assert (se_w, se_b) == pytest.approx(tuple(np.sqrt(np.diag(covariance))))
    np.testing.assert_allclose(covariance, 2 * sigma**2 / len(x) * np.linalg.inv(nb.hessian(x)), rtol=1e-8)


def test_many_fits_equal_single_fits(nb, parts):
    """The vectorized fit is `least_squares` row by row, and its spread is what the formula says."""
    x = parts[0]
    t = nb.repeat_readings(x, 3.0, 3000, seed=7)
    w, b, residuals = nb.fit_many(x, t)
    for row in (0, 17):
        assert (w[row], b[row]) == pytest.approx(nb.least_squares(x, t[row]), abs=1e-8)
        np.testing.assert_allclose(residuals[row], t[row] - nb.neuron_output(x, w[row], b[row]), atol=1e-9)
    assert w.std() == pytest.approx(3 / x.std() / np.sqrt(len(x)), rel=0.08)
    assert w.mean() == pytest.approx(1.8, abs=5 * w.std() / np.sqrt(3000))


def test_bow_sees_curvature_only(nb):
    """A pure square has bow 1, its mirror image -1, a line or an odd curve (on symmetric x) 0; rows are kept apart."""
    x = np.linspace(-1, 1, 41)
    square = x**2 - (x**2).mean()
    np.testing.assert_allclose(nb.bow(x, np.stack([square, -square, x, x**3])), [1, -1, 0, 0], atol=1e-12)


def test_loss_surface_equals_the_loss(nb):
    """Each entry of the grid is the loss of its (w, b), w along the columns."""
    ws, bs = np.array([0.0, 1.0, 2.0]), np.array([-5.0, 5.0])
    surface = nb.losses_on_grid(nb.TOY_X, nb.TOY_T, ws, bs)
    assert surface.shape == (2, 3)
    assert surface[1, 2] == pytest.approx(nb.squared_loss(nb.neuron_output(nb.TOY_X, 2.0, 5.0), nb.TOY_T))


def test_sliders_answer(nb, parts):
    """Moving a slider changes the sentence and the picture; a rate above 1 explodes, one below falls."""
    x, t, _, _ = parts
    box = nb.make_sliders(x, t, (0.0, 0.0))
    lr, num_epochs, sentence, picture = box.children
    assert "falls" in sentence.value
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG")
    lr.value = 1.2
    assert "explodes" in sentence.value
    assert bytes(picture.value) != before
    lr.value, num_epochs.value = 0.3, 100
    w, b = nb.least_squares(x, t)
    assert sentence.value.startswith(f"w = {w:.4g}, b = {b:.4g};")


GOOD = np.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("x", "t", "message"),
    [
        ([1.0], [1.0], r"x has shape \(1,\)"),
        (np.ones((3, 1)), GOOD, r"x has shape \(3, 1\)"),
        (GOOD, np.ones((3, 1)), r"t has shape \(3, 1\)"),
        ([1.0, np.nan, 2.0], GOOD, "x holds values that are not finite"),
        (GOOD, [1.0, np.inf, 2.0], "t holds values that are not finite"),
        (GOOD, [1.0, 2.0], "x has 3 values and t has 2"),
    ],
)
def test_bad_pairs_are_refused(nb, x, t, message):
    """Every function that takes pairs names the argument and what is wrong with it."""
    for function in (
        lambda: nb.descend(x, t, 0.0, 0.0, 0.1, 1),
        lambda: nb.least_squares(x, t),
        lambda: nb.standard_errors(x, t),
    ):
        with pytest.raises(ValueError, match=message):
            function()


@pytest.mark.parametrize("lr", [0, -0.1, np.nan, np.inf])
def test_bad_learning_rate_is_refused(nb, lr):
    """A learning rate must be finite and above 0."""
    with pytest.raises(ValueError, match=r"lr is .*above 0"):
        nb.descend(GOOD, GOOD, 0.0, 0.0, lr, 1)


@pytest.mark.parametrize("num_epochs", [0, -1, 2.5, np.nan, np.inf])
def test_bad_number_of_epochs_is_refused(nb, num_epochs):
    """The number of epochs must be whole and at least 1."""
    with pytest.raises(ValueError, match=r"num_epochs is .*whole number"):
        nb.descend(GOOD, GOOD, 0.0, 0.0, 0.1, num_epochs)


def test_other_bad_input_is_refused(nb):
    """The split, the fit and its uncertainty refuse what they cannot use."""
    for function, message in (
        (lambda: nb.split_pairs(GOOD, GOOD, 3, 0), "num_held_out is 3"),
        (lambda: nb.split_pairs(GOOD, GOOD, 0, 0), "num_held_out is 0"),
        (lambda: nb.least_squares([2, 2, 2], GOOD), "one value only"),
        (lambda: nb.standard_errors([1, 2], [1, 2]), "needs 3 or more"),
        (lambda: nb.descend(GOOD, GOOD, np.nan, 0.0, 0.1, 1), "w is nan"),
    ):
        with pytest.raises(ValueError, match=message):
            function()


def test_matching_decimals(nb):
    """A difference of 1e-8 is agreement to 8 decimals; no difference counts as 16."""
    assert nb.matching_decimals(1e-8) == pytest.approx(8)
    assert nb.matching_decimals(0.02) == pytest.approx(1.69897)
    assert nb.matching_decimals(0.0) == pytest.approx(16)


# ---- what the checks say: each hint for its mistake, and right for a right answer ----


def said(capsys, check, answer):
    """Return the one line that `check` prints for `answer`."""
    check(answer)
    (line,) = capsys.readouterr().out.splitlines()
    return line


def raises(*_):
    """Stand for a reader's function that does not run."""
    raise RuntimeError("oops\nand more")


EXERCISES = [
    "my_loss", "my_gradient", "my_descent", "one_step_rate", "standardize", "back_to_celsius",
    "my_condition_number", "same_number", "noisy_slope", "own_unit_loss",
]  # fmt: skip


@pytest.mark.parametrize("name", EXERCISES)
def test_checks_take_the_solution_and_survive_anything(nb, capsys, name):
    """The solution is right; what returns nothing, nonsense or an error is not yet, in one line."""
    check = getattr(nb, f"check_{name}")
    assert said(capsys, check, getattr(nb, name)).startswith("right: ")
    assert said(capsys, check, raises).startswith("not yet: your code raises RuntimeError: oops")
    for value in (None, ...):
        assert said(capsys, check, lambda *_, value=value: value).startswith("not yet: nothing is returned")
    for value in ("text", 0.0, np.nan, [1, 2, 3], [[1], [2, 3]], {}, np.zeros((2, 2)), lambda: 0):
        assert said(capsys, check, lambda *_, value=value: value).startswith("not yet: "), value
    for value in (None, 3, "text"):
        assert said(capsys, check, value).startswith("not yet: your code raises TypeError")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda y, t: np.sum((y - t) ** 2), "divide by the number"),
        (lambda y, t: np.mean(t - y), "differ"),
        (lambda y, t: np.mean(y - t), "cancel"),
        (lambda y, t: np.abs(y - t).mean(), "absolute"),
        (lambda y, t: np.sqrt(np.mean((y - t) ** 2)), "root"),
        (lambda y, t: (y - t) ** 2, "take their mean"),
    ],
)
def test_hints_on_the_loss(nb, capsys, answer, hint):
    """Sum, no square, absolute value, root, no mean."""
    assert hint in said(capsys, nb.check_my_loss, answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda x, e: (-2 * np.mean(e * x), -2 * np.mean(e)), "sign is wrong"),
        (lambda x, e: (np.mean(e * x), np.mean(e)), "factor 2"),
        (lambda x, e: (-np.mean(e * x), -np.mean(e)), "sign is wrong, and the factor 2"),
        (lambda x, e: (2 * np.sum(e * x), 2 * np.sum(e)), "divide by the number"),
        (lambda x, e: (2 * np.mean(e), 2 * np.mean(e * x)), "first for w"),
        (lambda x, e: (2 * np.mean(e), 2 * np.mean(e)), "multiply each error"),
        (lambda x, e: (2 * np.mean(e) * np.mean(x), 2 * np.mean(e)), "before you sum"),
        (lambda x, e: 2 * np.mean(e * x), "the shape is ()"),
    ],
)
def test_hints_on_the_gradient(nb, capsys, answer, hint):
    """Wrong sign, forgotten factor, sum, order, forgotten input, one number instead of two."""
    assert hint in said(capsys, nb.check_my_gradient, lambda x, y, t: answer(x, y - t))


def descent(step):
    """Return a reader's descent whose single step is `step(x, t, w, b, lr)`."""

    def answer(x, t, w, b, lr, num_epochs):
        for _ in range(num_epochs):
            w, b = step(x, t, w, b, lr)
        return w, b

    return answer


def test_hints_on_descent(nb, capsys):
    """Uphill, a single step, nothing moves, b from the new w, outputs of the start."""

    def uphill(x, t, w, b, lr):
        slope_w, slope_b = nb.loss_gradient(x, w * x + b, t)
        return w + lr * slope_w, b + lr * slope_b

    def in_turn(x, t, w, b, lr):
        w = w - lr * nb.loss_gradient(x, w * x + b, t)[0]
        return w, b - lr * nb.loss_gradient(x, w * x + b, t)[1]

    def once(x, t, w, b, lr, num_epochs):
        return nb.my_descent(x, t, w, b, lr, 1)

    def stale(x, t, w, b, lr, num_epochs):
        slope_w, slope_b = nb.loss_gradient(x, w * x + b, t)
        return w - num_epochs * lr * slope_w, b - num_epochs * lr * slope_b

    check = nb.check_my_descent
    assert "uphill" in said(capsys, check, descent(uphill))
    assert "before you change w" in said(capsys, check, descent(in_turn))
    assert "do not move" in said(capsys, check, lambda x, t, w, b, lr, num_epochs: (w, b))
    assert "one step" in said(capsys, check, once)
    assert "outputs again" in said(capsys, check, stale)
    assert said(capsys, check, nb.my_descent).startswith("right: ")


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("one_step_rate", lambda h: 2 / h, "limit"),
        ("one_step_rate", lambda h: h, "smaller rate"),
        ("one_step_rate", lambda h: 0.5, "use h"),
        ("standardize", lambda x, new: (new - new.mean()) / new.std(), "of x"),
        ("standardize", lambda x, new: (new - x.mean()) / x.var(), "variance"),
        ("standardize", lambda x, new: new - x.mean(), "now divide"),
        ("standardize", lambda x, new: new / x.std(), "subtract the mean"),
        ("standardize", lambda x, new: new - x.mean() / x.std(), "brackets"),
        ("standardize", lambda x, new: (x - x.mean()) / x.std(), "not x"),
        ("back_to_celsius", lambda w, b, m, s: (w / s, b), "at x = 0"),
        ("back_to_celsius", lambda w, b, m, s: (w / s, b + w * m / s), "sign"),
        ("back_to_celsius", lambda w, b, m, s: (w * s, b + w * m), "way back"),
        ("back_to_celsius", lambda w, b, m, s: (b - w * m / s, w / s), "w first"),
        ("same_number", lambda w, b: b / (w - 1), "sign"),
        ("same_number", lambda w, b: -b / w, "where the line is 0"),
        ("same_number", lambda w, b: -40, "9/5 and 32 only"),
    ],
)
def test_hints_on_short_answers(nb, capsys, name, answer, hint):
    """The common mistakes of the exercises that are one formula long."""
    line = said(capsys, getattr(nb, f"check_{name}"), answer)
    assert line.startswith("not yet: ") and hint in line


def test_hints_on_later_exercises(nb, capsys, monkeypatch):
    """Condition number upside down; noise on t, and as a variance; held-out pairs in the training unit."""
    line = said(capsys, nb.check_my_condition_number, lambda x: 1 / np.linalg.cond(nb.hessian(x)))
    assert "smallest over largest" in line
    assert "both" in said(capsys, nb.check_my_condition_number, lambda x: np.linalg.eigvalsh(nb.hessian(x)))

    def noise(seed, size, n):
        return np.random.default_rng(seed).normal(0, size, n)

    check = nb.check_noisy_slope
    assert "not to t" in said(capsys, check, lambda x, t, e, s: np.polyfit(x, t + noise(s, e, len(x)), 1)[0])
    assert "root" in said(capsys, check, lambda x, t, e, s: np.polyfit(x + noise(s, e**0.5, len(x)), t, 1)[0])
    assert "alone" in said(capsys, check, lambda x, t, e, s: np.polyfit(x + noise(s, e, len(x)), t, 1))

    monkeypatch.setattr(nb, "mean", 50.0, raising=False)
    monkeypatch.setattr(nb, "std", 30.0, raising=False)
    check = nb.check_own_unit_loss
    assert "training unit" in said(capsys, check, lambda w, b, x, t: np.mean((w * (x - 50) / 30 + b - t) ** 2))
    assert "not standardized" in said(capsys, check, lambda w, b, x, t: np.mean((w * x + b - t) ** 2))
