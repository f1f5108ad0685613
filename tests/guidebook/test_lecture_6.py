"""Lecture 6: convolution, output sizes, receptive fields and blocks against PyTorch and against hand counts."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of lecture 6, loaded where they cannot touch the repository."""
    return load_definitions("lecture_6", root=tmp_path_factory.mktemp("lecture_6"))


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (1, 2), (3, 1)])
def test_cross_correlation_equals_pytorch(nb, stride, padding):
    """The loops give PyTorch's feature map, bias included, also for images that are not square."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((7, 9)), rng.standard_normal((3, 3))
    theirs = F.conv2d(torch.tensor(x)[None, None], torch.tensor(w)[None, None], stride=stride, padding=padding)[0, 0]
    assert np.allclose(nb.cross_correlate(x, w, 0.5, stride, padding), theirs.numpy() + 0.5)


def test_output_size(nb):
    """The check item, "same" padding and halving; bad input is named."""
    assert nb.output_size(32, 5, stride=2, padding=2) == 16
    assert nb.output_size(28, 3, padding=1) == 28
    assert nb.output_size(28, 2, stride=2) == 14
    for arguments, name in [
        ((0, 1), "n"),
        ((5, 0), "k"),
        ((5, 3, 0), "stride"),
        ((5, 3, 1, -1), "padding"),
        ((2, 3), "k"),
    ]:
        with pytest.raises(ValueError, match=name):
            nb.output_size(*arguments)


def test_parameter_counts(nb):
    """The counts of the quiz, and their agreement with PyTorch's layers."""
    assert nb.conv_parameters(3, 3, 64) == nb.count_parameters(torch.nn.Conv2d(3, 64, 3)) == 1792
    assert nb.dense_parameters(32 * 32 * 3, 32 * 32 * 64) == 201_392_128
    assert nb.dense_parameters(7, 5) == nb.count_parameters(torch.nn.Linear(7, 5))
    assert nb.count_parameters(nb.make_lenet()) == 61_706


def test_matrix_of_kernel_is_the_convolution(nb):
    """The matrix times the flattened image is the flattened feature map."""
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((6, 6)), rng.standard_normal((3, 3))
    assert np.allclose(nb.matrix_of_kernel(w, 6) @ x.ravel(), nb.cross_correlate(x, w).ravel())


def test_gradients_by_central_differences(nb):
    """Kernel, bias and image gradients agree with central differences."""
    rng = np.random.default_rng(2)
    x, w, delta = rng.standard_normal((5, 5)), rng.standard_normal((2, 2)), rng.standard_normal((4, 4))
    gradient_w, gradient_b, gradient_x = nb.conv_gradients(x, w, delta)
    h = 1e-5
    for array, gradient in [(w, gradient_w), (x, gradient_x)]:
        for index in np.ndindex(array.shape):
            step = np.zeros_like(array)
            step[index] = h
            up, down = [(x + s * step, w) if array is x else (x, w + s * step) for s in (1, -1)]
            slope = ((nb.cross_correlate(*up) - nb.cross_correlate(*down)) * delta).sum() / (2 * h)
            assert slope == pytest.approx(gradient[index], abs=1e-8)
    assert gradient_b == pytest.approx(delta.sum())


@pytest.mark.parametrize(
    ("layers", "field", "step"),
    [([], 1, 1), ([(3, 1)] * 3, 7, 1), ([(5, 1), (2, 2), (5, 1), (2, 2)], 16, 4), ([(7, 2), (3, 2)], 11, 4)],
)
def test_receptive_field(nb, layers, field, step):
    """The recursion gives the known fields, and gradients measure the same."""
    assert nb.field_and_step(layers)[-1] == (field, step)
    assert nb.measured_field(nb.gradient_of_center(layers, 31)) == field


def test_receptive_field_names_bad_layers(nb):
    """A kernel of 0 is refused."""
    with pytest.raises(ValueError, match="layers"):
        nb.field_and_step([(0, 1)])


def test_shifts(nb):
    """The edge map is equivariant, the pooled map for even shifts only, the global maximum invariant."""
    images = nb.padded_digits(nb.load_digits().images[:20], margin=6)
    before, one, two = (nb.shift_stages(nb.moved(images, shift)) for shift in (0, 1, 2))
    assert torch.equal(nb.moved(one["edge map"], -1), before["edge map"])
    assert torch.equal(nb.moved(two["pooled, stride 2"], -1), before["pooled, stride 2"])
    assert nb.relative_change(one["pooled, stride 2"], before["pooled, stride 2"]).min() > 0.1
    assert torch.equal(one["global maximum"], before["global maximum"])
    with pytest.raises(ValueError, match="shift"):
        nb.moved(images, 20)


def test_slider_picture(nb):
    """The callback's figure exists for each end of the sliders."""
    images = nb.padded_digits(nb.load_digits().images[:3], margin=6)
    for shift in (-nb.LARGEST_SHIFT, 0, nb.LARGEST_SHIFT):
        assert nb.png_of(nb.draw_shifted(images, 2, shift)).startswith(b"\x89PNG")


def test_blocks(nb):
    """A residual block with F = 0 is the identity on nonnegative input; shapes change as asked."""
    block = nb.ConvResidualBlock(8, 8)
    torch.nn.init.zeros_(block.norm2.weight)
    x = torch.rand(2, 8, 6, 6)
    assert torch.equal(block(x), x)
    assert nb.ConvResidualBlock(8, 16, stride=2)(x).shape == (2, 16, 3, 3)
    assert nb.InceptionModule(8, 4, 6, 2, 3, reduce3=2, reduce5=2)(x).shape == (2, 15, 6, 6)


def test_random_shifts_keep_every_digit(nb):
    """No ink is lost, images move on their own, and no move is longer than asked."""
    images = nb.padded_digits(nb.load_digits().images[:50], nb.MARGIN)
    moved = nb.shifted_at_random(images, 2, torch.Generator().manual_seed(0))
    assert torch.allclose(moved.sum((1, 2, 3)), images.sum((1, 2, 3)))
    assert 1 < len({tuple(np.argwhere(m[0].numpy() > 0).min(0)) for m in moved})
    assert moved[:, :, 0].abs().max() == 0


def test_small_cnn_and_frozen_body(nb):
    """Both heads give ten scores, another is refused, and only the new last layer of a frozen network trains."""
    for head in ("flatten", "average"):
        assert nb.make_small_cnn(head)(torch.zeros(2, 1, 14, 14)).shape == (2, 10)
    with pytest.raises(ValueError, match="head"):
        nb.make_small_cnn("max")
    assert nb.count_parameters(nb.frozen_with_new_head(10)) == 5130


def test_multiplications(nb):
    """Counts by hand, for one layer, for the small network and for torchvision's."""
    assert nb.conv_multiplications(3, 3, 64, 32, 32) == 32 * 32 * 27 * 64
    assert nb.count_multiplications(torch.nn.Conv2d(2, 3, 5), (3, 4, 6)) == 3 * 2 * 25 * 24
    assert nb.count_multiplications(torch.nn.Linear(7, 5), (5,)) == 35
    assert nb.count_multiplications(torch.nn.MaxPool2d(2), (3, 4, 4)) == 0
    table = nb.traced(nb.make_lenet(), torch.zeros(1, 1, 32, 32))
    assert table["products"].sum() == 416_520
    assert nb.cost_of("alexnet", torch.zeros(1, 3, 224, 224)) == (8, 61_100_840, 714_188_480)


def test_separable_ratio(nb):
    """The counted weights give the ratio of the formula."""
    assert nb.separable_ratio(32, 64, 3) == pytest.approx(1 / 64 + 1 / 9)


def dilated(layers, step=True, gap=True):
    """Return the field of dilated layers, without the step or the gap if these are False."""
    r, j = 1, 1
    for k, stride, d in layers:
        r, j = r + (k - 1) * (d if gap else 1) * (j if step else 1), stride * j
    return r


@pytest.mark.parametrize("layers", [[(3, 1, 1), (3, 1, 2), (3, 1, 4)], [(5, 3, 1), (3, 2, 2)]])
def test_dilated_fields_are_those_of_gradients(nb, layers):
    """The widths that the check expects are measured by gradients, too."""
    x = torch.ones(1, 1, 41, 41, dtype=torch.float64, requires_grad=True)
    z = x
    for k, stride, d in layers:
        z = F.conv2d(z, torch.ones(1, 1, k, k, dtype=torch.float64), stride=stride, dilation=d)
    z[0, 0, z.shape[2] // 2, z.shape[3] // 2].backward()
    columns = np.flatnonzero(x.grad[0, 0].numpy().any(axis=0))  # gaps inside the field stay 0
    assert columns[-1] - columns[0] + 1 == dilated(layers)


DOT = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]])


@pytest.mark.parametrize(
    ("check", "answer", "said"),
    [
        ("check_dot_kernel", lambda: None, "not yet: .*nothing"),
        ("check_dot_kernel", lambda: 1 / 0, "not yet: it raises"),
        ("check_dot_kernel", lambda: "dot", "not yet: return nine"),
        ("check_dot_kernel", lambda: np.ones(9), "not yet: the shape"),
        ("check_dot_kernel", lambda: DOT / 0.0, "not yet: all nine"),
        ("check_dot_kernel", lambda: DOT + 1, "not yet: on an even surface"),
        ("check_dot_kernel", lambda: -DOT, "not yet: a dot in the middle"),
        ("check_dot_kernel", lambda: [[0, 0, 0], [0, 1, -1], [0, 0, 0]], "not yet: a dot beside"),
        ("check_dot_kernel", lambda: DOT, "right"),
        ("check_dot_kernel", lambda: [[0, -1, 0], [-1, 4, -1], [0, -1, 0]], "right"),
        ("check_dilated_field", lambda layers: None, "not yet: .*nothing"),
        ("check_dilated_field", lambda layers: 1 / 0, "not yet: it raises"),
        ("check_dilated_field", lambda layers: (dilated(layers), 1), "not yet: return the width"),
        ("check_dilated_field", lambda layers: dilated(layers) - 1, "not yet: one pixel"),
        ("check_dilated_field", lambda layers: dilated(layers, gap=False), "not yet: the taps"),
        ("check_dilated_field", lambda layers: dilated(layers, step=False), "not yet: the units of the layer"),
        ("check_dilated_field", lambda layers: 99, "not yet: .* has 5 pixels"),
        ("check_dilated_field", dilated, "right"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_your_turn(nb, capsys, check, answer, said):
    """Each check prints one line: a hint for a typical wrong answer, `right` for a correct one."""
    getattr(nb, check)(answer)
    line = capsys.readouterr().out.strip()
    assert re.match(said, line), line
    assert "\n" not in line
