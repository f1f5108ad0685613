"""The definitions of notebook 06, tested on small data."""

import base64

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of notebook 06."""
    return load_definitions("06", root=tmp_path_factory.mktemp("root"))


def random_images(n, seed=0):
    """Return n random images (n, 1, 28, 28) and labels (n,)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 28, 28, generator=generator), torch.randint(10, (n,), generator=generator)


def test_split_uses_every_image_once(nb):
    """Training and validation part are disjoint, complete, and the same for the same seed."""
    X, y = np.arange(100), np.arange(100) % 10
    X_train, y_train, X_valid, _ = nb.split(X, y, 20, seed=1)
    assert len(X_valid) == 20
    assert sorted([*X_train, *X_valid]) == list(range(100))
    assert (X_train % 10 == y_train).all()
    assert (nb.split(X, y, 20, seed=1)[0] == X_train).all()
    assert not (nb.split(X, y, 20, seed=2)[0] == X_train).all()


def test_batches_cover_each_epoch_and_stop(nb):
    """Each epoch is a permutation cut into full batches; the number of updates is exact."""
    indices = list(nb.batches(10, 3, 7, seed=0))
    assert len(indices) == 7
    assert all(len(index) == 3 for index in indices)
    assert len(set(torch.cat(indices[:3]).tolist())) == 9
    assert len(set(torch.cat(indices[3:6]).tolist())) == 9


@pytest.mark.parametrize("batch_size", [0, 11, -1])
def test_batches_name_a_bad_batch_size(nb, batch_size):
    """A batch size that does not fit is refused with the allowed values."""
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}; it must be between 1 and the 10"):
        next(nb.batches(10, batch_size, 1, seed=0))


def test_no_updates_are_no_batches(nb):
    """Zero and negative numbers of updates end at once."""
    assert list(nb.batches(10, 3, 0, seed=0)) == list(nb.batches(10, 3, -1, seed=0)) == []


def test_learning_rate_rises_then_falls_to_zero(nb):
    """The triangle peaks at `rise`, starts and ends near zero, and has mean 1/2; another name is refused."""
    factors = [nb.learning_rate_factor(update, 1000) for update in range(1000)]
    assert 145 <= int(np.argmax(factors)) <= 155
    assert max(factors) <= 1
    assert factors[0] < 0.01 and factors[-1] < 0.01
    assert np.mean(factors) == pytest.approx(0.5, abs=0.01)
    assert nb.learning_rate_factor(3, 10, "constant") == 0.5
    with pytest.raises(ValueError, match="'triangle' or 'constant'"):
        nb.learning_rate_factor(0, 10, "cosine")


def test_confusion_and_scores_equal_scikit_learn(nb):
    """Counts, precision, recall and F1 agree with scikit-learn on random predictions with a missing class."""
    rng = np.random.default_rng(0)
    y, y_hat = rng.integers(0, 10, 500), rng.integers(0, 9, 500)
    counts = nb.confusion_matrix(y, y_hat)
    assert (counts == metrics.confusion_matrix(y, y_hat, labels=range(10))).all()
    expected = metrics.precision_recall_fscore_support(y, y_hat, labels=range(10), zero_division=0)[:3]
    assert np.allclose(nb.class_scores(counts).to_numpy().T, expected)


def test_predict_is_in_blocks_and_keeps_the_mode(nb):
    """Blocks do not change the scores, dropout is off, and the model stays in the mode it was in."""
    model = nb.make_cnn(1, dropout=0.5, channels=(2, 2), width=8)
    X, _ = random_images(7)
    whole = nb.predict(model, X)
    assert torch.allclose(nb.predict(model, X, block=3), whole, atol=1e-6)
    assert model.training
    assert not whole.requires_grad


def test_train_learns_and_records(nb, capsys):
    """A small network learns ten images by heart; the history has the promised columns."""
    X, y = random_images(10)
    torch.manual_seed(0)
    model = nb.make_dense(width=32)
    history = nb.train_with_adam(model, (X, y, X, y), 60, batch_size=10, lr=1e-2)
    assert list(history) == ["update", "loss", "valid_loss", "valid_accuracy", "seconds"]
    assert history["valid_accuracy"].iloc[-1] == 1.0
    assert history["update"].iloc[-1] == 60
    assert history["valid_loss"].iloc[-1] < 0.1


def test_train_stops_when_the_loss_is_not_finite(nb):
    """A broken input ends in an error that names the model and says what to do."""
    X, y = random_images(10)
    X[0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"loss of broken is not finite .* lower the learning rate"):
        nb.train_with_adam(nb.make_logistic(), (X, y, X, y), 10, batch_size=10, name="broken")


@pytest.mark.parametrize(("stages", "expected"), [(1, 3_222_954), (2, 1_630_154)])
def test_cnn_has_the_parameters_that_the_formula_gives(nb, stages, expected):
    """Counted by formula: convolutions c_out (25 c_in + 1), dense layers out (in + 1)."""
    by_hand = 16 * 26 + (32 * (25 * 16 + 1) + 1024 * (1568 + 1) if stages == 2 else 1024 * (3136 + 1)) + 10 * 1025
    assert nb.count_parameters(nb.make_cnn(stages)) == by_hand == expected
    assert nb.make_cnn(stages)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_cnn_names_a_bad_number_of_stages(nb):
    """Three stages are refused."""
    with pytest.raises(ValueError, match="num_stages is 3; it must be 1 or 2"):
        nb.make_cnn(3)


def test_first_reach(nb):
    """The first row at the target counts; nan where the target is never reached."""
    history = nb.pd.DataFrame({"update": [1, 2, 3], "valid_accuracy": [0.5, 0.99, 0.98], "seconds": [0.1, 0.2, 0.3]})
    assert nb.first_reach(history, 0.99) == (2, 0.2)
    assert np.isnan(nb.first_reach(history, 0.995)).all()


def test_occlusion_finds_the_pixels_that_matter(nb):
    """For a model that reads one corner only, the map is positive there and zero elsewhere."""

    class CornerModel(nn.Module):
        def forward(self, X):
            score = X[:, 0, :5, :5].sum(dim=(1, 2))
            return torch.stack([score, torch.zeros_like(score)], dim=1)

    fall = nb.occlusion_map(CornerModel(), torch.ones(1, 28, 28), 0, background=0.0, size=7)
    assert fall.shape == (22, 22)
    assert fall[0, 0] == fall.max() > 0.4
    assert fall[10:, 10:].abs().max() == 0


def test_filters_are_normalized_and_reproducible(nb):
    """Filters have mean 0, the promised shape, and depend on the seed alone."""
    X, _ = random_images(200)
    filters = nb.learn_filters(X, num_filters=6, size=5, seed=3)
    assert filters.shape == (6, 1, 5, 5)
    assert filters.mean(dim=(1, 2, 3)).abs().max() < 1e-5
    assert torch.equal(filters, nb.learn_filters(X, num_filters=6, size=5, seed=3))


def test_features_see_both_signs_and_are_local(nb):
    """A dark and a bright copy of an image swap the two halves of the features; one far pixel changes few of them."""
    X, _ = random_images(4)
    filters = torch.randn(3, 1, 11, 11, generator=torch.Generator().manual_seed(0))
    features = nb.convolutional_features(X, filters).reshape(4, 2, 3 * 16)
    assert torch.allclose(features, nb.convolutional_features(-X, filters).reshape(4, 2, -1).flip(1), atol=1e-5)
    changed = X.clone()
    changed[:, :, 27, 27] += 10
    same = nb.convolutional_features(changed, filters).reshape(4, 2, 3, 4, 4) == features.reshape(4, 2, 3, 4, 4)
    assert same[..., :2, :2].all()
    assert not same[..., 3, 3].all()


def test_augmentation_changes_images_but_not_the_originals(nb):
    """The copy differs, has the same type and shape, depends on the seed alone; the originals stay."""
    images = torch.zeros(6, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 8:20, 12:16] = 255
    before = images.clone()
    first = nb.augmented(images, seed=1, group=2)
    assert first.dtype == torch.uint8 and first.shape == images.shape
    assert torch.equal(images, before) and not torch.equal(first, images)
    assert torch.equal(first, nb.augmented(images, seed=1, group=2))
    assert (first > 127).flatten(1).sum(dim=1).min() > 20, "the stroke is still there"


def test_shifts_are_by_one_pixel_at_most(nb):
    """Every shifted image is one of the nine shifts of its original."""
    X, _ = random_images(30)
    padded = nn.functional.pad(X, (1, 1, 1, 1), mode="replicate")
    nine = torch.stack([padded[:, :, r : r + 28, c : c + 28] for r in range(3) for c in range(3)])
    equal = (nn.functional.pad(nb.shifted(X, seed=0), (0, 0)) == nine).flatten(2).all(dim=2)
    assert equal.any(dim=0).all()
    assert equal.any(dim=1).sum() >= 7, "nearly all of the nine shifts occur"


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_train_fast_learns_by_heart(nb, optimizer):
    """Both optimizers fit 64 random images within a few epochs."""
    X, y = random_images(64)
    torch.manual_seed(0)
    model = nb.make_fast_cnn(channels=(8, 8, 16))
    recipe = nb.Recipe(num_epochs=40, batch_size=16, lr=0.1, optimizer=optimizer, label_smoothing=0.0)
    nb.train_fast(model, lambda epoch: (X, y), recipe)
    assert nb.accuracy(nb.predict(model, X), y) > 0.95


def test_train_fast_asks_for_each_epoch_once(nb):
    """`epoch_data` is called for epochs 0, 1, 2 in order, and the number of updates is that of the recipe."""
    X, y = random_images(32)
    epochs = []

    def epoch_data(epoch):
        epochs.append(epoch)
        return X, y

    nb.train_fast(nb.make_fast_cnn(channels=(2, 2, 2)), epoch_data, nb.Recipe(num_epochs=3, batch_size=8))
    assert epochs == [0, 1, 2]


def test_unknown_optimizer_is_named(nb):
    """A misspelled optimizer is refused with the known ones."""
    with pytest.raises(ValueError, match="optimizer is 'adam'; use 'sgd' or 'muon'"):
        nb.make_optimizers(nb.make_fast_cnn(), nb.Recipe(optimizer="adam"))


@pytest.mark.parametrize("shape", [(8, 200), (200, 8), (16, 16)])
def test_orthogonalize_keeps_directions_and_evens_out_sizes(nb, shape):
    """Singular values end near 1; the singular vectors stay those of the matrix."""
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    result = nb.orthogonalize(matrix, steps=8)
    values = torch.linalg.svdvals(result)
    assert 0.6 < values.min() and values.max() < 1.3
    U, _, Vh = torch.linalg.svd(matrix, full_matrices=False)
    inner = U.T @ result @ Vh.T
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-6


@pytest.mark.parametrize("steps, least", [(3, 0.02), (5, 0.002)])
def test_orthogonalize_lifts_small_singular_values(nb, steps, least):
    """Values from `least` times the norm arrive within the given steps; one of a tenth of that does not."""
    values = torch.logspace(np.log10(least), np.log10(0.3), 50, dtype=torch.float64)
    for value in values:
        matrix = torch.diag(torch.tensor([value, (1 - value**2) ** 0.5], dtype=torch.float64))
        assert 0.65 < torch.linalg.svdvals(nb.orthogonalize(matrix, steps)).min() < 1.25, value
    matrix = torch.diag(torch.tensor([least / 10, 1.0], dtype=torch.float64))
    assert torch.linalg.svdvals(nb.orthogonalize(matrix, steps)).min() < 0.3


def test_center_like_mnist(nb):
    """Size 20, center of mass in the middle, wherever and however large the drawing was."""
    small = np.zeros((100, 100), np.uint8)
    small[10:50, 5:15] = 200
    result = nb.center_like_mnist(small)
    rows, columns = np.nonzero(result)
    assert result.shape == (28, 28)
    assert rows.max() - rows.min() + 1 == 20 and columns.max() - columns.min() + 1 == 5
    assert abs(np.average(rows) - 14) <= 1 and abs(np.average(columns) - 14) <= 1
    assert np.array_equal(result, nb.center_like_mnist(np.roll(small, (30, 60), axis=(0, 1))))


def test_center_like_mnist_keeps_lopsided_drawings_inside(nb):
    """A long thin line with a heavy end still gives 28 x 28 pixels."""
    drawing = np.zeros((140, 140), np.uint8)
    drawing[0, :] = 255
    drawing[0:40, 0:40] = 255
    assert nb.center_like_mnist(drawing).shape == (28, 28)


def test_bad_drawings_are_explained(nb):
    """An empty drawing and one with a color axis lead to plain sentences, in the widget without a traceback."""
    with pytest.raises(ValueError, match="draw a digit first"):
        nb.center_like_mnist(np.zeros((140, 140)))
    with pytest.raises(ValueError, match=r"shape \(3, 3, 3\); expected \(height, width\)"):
        nb.center_like_mnist(np.ones((3, 3, 3)))
    for pixels in ("", base64.b64encode(bytes(140 * 140)).decode()):
        assert nb.describe_drawing(None, pixels) == "<p>the drawing is empty; draw a digit first</p>"


def test_bars_show_ten_digits_and_mark_the_largest(nb):
    """Each digit has a line, and the largest probability is bold."""
    probabilities = np.full(10, 0.05)
    probabilities[7] = 0.55
    text = nb.bars_as_html(probabilities)
    assert text.count("flex") == 10
    assert "<b>7 55.0%</b>" in text and text.count("<b>") == 1


def test_stored_drawing_has_ink(nb):
    """The stored drawing is 140 x 140 with white strokes on black."""
    drawing = nb.draw_strokes(nb.STROKES)
    assert drawing.shape == (140, 140)
    assert 0.03 < (drawing > 0).mean() < 0.3


def test_neighbor_correlation(nb):
    """It is 1 for patches that are flat in themselves, -1 for a checkerboard, and near 0 for noise."""
    flat = torch.randn(20, 1, 1, generator=torch.Generator().manual_seed(0)).expand(20, 5, 5)
    assert nb.neighbor_correlation(flat) == pytest.approx(1)
    board = (torch.arange(6)[:, None] + torch.arange(6)) % 2
    assert nb.neighbor_correlation(board[None].double()) == pytest.approx(-1)
    noise = torch.randn(2000, 5, 5, generator=torch.Generator().manual_seed(0))
    assert nb.neighbor_correlation(noise) == pytest.approx(0, abs=0.02)
