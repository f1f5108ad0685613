"""The definitions of lecture 2: gates, distances, the census, the builder of networks, XOR with a bypass."""

import itertools
import re

import numpy as np
import PIL.Image
import pytest

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def lecture(tmp_path_factory):
    """Return the definitions of the lecture, loaded in an empty folder."""
    return load_definitions("lecture_2", tmp_path_factory.mktemp("root"))


def test_gates(lecture):
    """Each gate computes its truth table, and no input lies on a boundary."""
    for w, b, table in lecture.GATES.values():
        rows = lecture.truth_rows(len(w))
        assert tuple(lecture.threshold_unit(rows, w, b)) == table
        assert np.abs(rows @ np.array(w) + b).min() >= 0.5


def test_zero_is_no(lecture):
    """The convention on the boundary: z = 0 gives 0."""
    assert lecture.threshold_unit((1, 1), (1, -1), 0) == 0


def test_distance(lecture):
    """The check of the lecture, and its invariance under positive scaling of w and b."""
    assert lecture.distance_from_plane((0, 0), (3, 4), -10) == pytest.approx(2)
    assert lecture.distance_from_plane((0, 0), (6, 8), -20) == pytest.approx(2)
    assert lecture.distance_from_plane([(2, 1), (0, 0)], (3, 4), -10) == pytest.approx([0, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.threshold_unit((1, 1, 1), (1, 1), 0), "one entry per weight"),
        (lambda m: m.truth_rows(0), "1 to 12"),
        (lambda m: m.distance_from_plane((0, 0), (0, 0), 1), "positive length"),
        (lambda m: m.lookup_network([0, 1, 1]), "2, 4, 8"),
        (lambda m: m.lookup_network([0, 2]), "each 0 or 1"),
        (lambda m: m.lookup_network([1]), "2, 4, 8"),
        (lambda m: m.builder_view(16), "0 to 15"),
    ],
)
def test_bad_input_is_named(lecture, call, message):
    """Input that makes no sense is a ValueError that says what is allowed."""
    with pytest.raises(ValueError, match=message):
        call(lecture)


def test_census_agrees_both_ways(lecture):
    """Linear programs and small weights find the same numbers for one and two bits."""
    for n, expected in [(1, 4), (2, 14)]:
        assert lecture.census_by_weights(n, n) == expected
        assert lecture.census_by_programs(n) == (expected, 2**2**n - expected)
    assert lecture.census_by_weights(3, 2) == 104
    assert lecture.census_by_weights(4, 3) == 1882


@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_table_is_built_exactly(lecture, n):
    """The Building Theorem for every table, with one hidden unit per true row and z at least 1/2 away from 0."""
    rows = lecture.truth_rows(n)
    for table in itertools.product([0, 1], repeat=2**n):
        W, b, v, c = lecture.lookup_network(table)
        h, y = lecture.run_network(rows, W, b, v, c)
        assert tuple(y) == table and len(W) == sum(table)
        if len(W):
            assert np.abs(rows @ W.T + b).min() == 0.5 and (h.sum(axis=1) <= 1).all()


def test_negating_the_complement_halves_the_units(lecture):
    """Exercise 3: OR of three bits from its single false row."""
    table = np.array([0, 1, 1, 1, 1, 1, 1, 1])
    W, b, v, c = lecture.lookup_network(1 - table)
    assert len(W) == 1
    assert (lecture.run_network(lecture.truth_rows(3), W, b, -v, -c)[1] == table).all()


def test_xor_with_bypass(lecture):
    """One hidden AND unit and a bypass."""
    assert lecture.xor_with_bypass(lecture.truth_rows(2))[1].tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("n", [1, 3, 7])
def test_parity_by_counting(lecture, n):
    """n units count the ones."""
    X = lecture.truth_rows(n)
    assert (lecture.run_network(X, *lecture.parity_network(n))[1] == X.sum(axis=1) % 2).all()


def test_nand_is_enough(lecture):
    """Exercise 2: OR from NAND units."""
    p, q = lecture.truth_rows(2).T

    def nand(p, q):
        return lecture.threshold_unit(np.column_stack([p, q]), (-1, -1), 1.5)

    assert nand(nand(p, p), nand(q, q)).tolist() == [0, 1, 1, 1]


def test_largest_margin_of_majority(lecture):
    """Exercise 4: one third."""
    margin, w, b = lecture.separation_margin(lecture.truth_rows(3), [0, 0, 0, 1, 0, 1, 1, 1])
    assert margin == pytest.approx(1 / 3) and np.allclose([*w, b], [2 / 3, 2 / 3, 2 / 3, -1])


@pytest.mark.parametrize("number", [0, 6, 9, 15])
def test_slider_callback_draws(lecture, number):
    """The plain function behind the slider returns a picture, for the empty network as well."""
    png = lecture.builder_view(number)
    assert PIL.Image.open(lecture.io.BytesIO(png)).size[0] > 500


def test_slider_is_wired(lecture):
    """Moving the slider changes the picture."""
    slider, view = lecture.make_builder().children
    before = view.value
    slider.value = 9
    assert view.value != before


def test_certificate_of_impossibility(lecture):
    """A quarter each for XOR; a separable function has no certificate, and a wrong one is refused."""
    rows = lecture.truth_rows(2)
    multipliers = lecture.margin_multipliers(rows, lecture.XOR)
    assert np.allclose(multipliers, -0.25)
    assert lecture.proves_impossible(rows, lecture.XOR, multipliers)
    assert not lecture.proves_impossible(rows, lecture.XOR, [-0.5, -0.5, 0, 0])
    AND = (0, 0, 0, 1)
    assert not lecture.proves_impossible(rows, AND, lecture.margin_multipliers(rows, AND))


@pytest.mark.parametrize(
    ("check", "answer", "said"),
    [
        ("check_majority", lambda m: lambda *arguments: None, "not yet: .*nothing"),
        ("check_majority", lambda m: lambda *arguments: 1 / 0, "not yet: it raises"),
        ("check_majority", lambda m: lambda: ((1, 1, 1), -2.5), "not yet: this is AND"),
        ("check_majority", lambda m: lambda: ((1, 1, 1), -0.5), "not yet: this is OR"),
        ("check_majority", lambda m: lambda: ((-1, -1, -1), 1.5), "not yet: every answer"),
        ("check_majority", lambda m: lambda: ((1, 1), -1.5), "not yet: three weights"),
        ("check_majority", lambda m: lambda: ((1, 1, (1,)), -1.5), "not yet: three weights"),
        ("check_majority", lambda m: lambda: ((1, 1, 1), "-1.5"), "not yet: it raises"),
        ("check_majority", lambda m: lambda: ((2, 2, 2), -3), "right"),
        ("check_cheap_network", lambda m: lambda *arguments: None, "not yet: .*nothing"),
        ("check_cheap_network", lambda m: lambda *arguments: 1 / 0, "not yet: it raises"),
        ("check_cheap_network", lambda m: m.lookup_network, "not yet: 5 hidden units"),
        ("check_cheap_network", lambda m: lambda table: (1, 2, 3, 4), "not yet: it raises"),
        ("check_cheap_network", lambda m: lambda table: m.lookup_network(1 - np.array(table)), "not yet: "),
        ("check_cheap_network", lambda m: lambda table: cheap(m, np.array(table)), "right"),
    ],
)
def test_your_turn(lecture, capsys, check, answer, said):
    """Each check prints one line: a hint for a typical wrong answer, `right` for a correct one."""
    getattr(lecture, check)(answer(lecture))
    line = capsys.readouterr().out.strip()
    assert re.match(said, line), line
    assert "\n" not in line


def cheap(m, table):
    """Return the cheaper of two networks, the solution of the second Your turn."""
    if table.sum() <= len(table) / 2:
        return m.lookup_network(table)
    W, b, v, c = m.lookup_network(1 - table)
    return W, b, -v, -c
