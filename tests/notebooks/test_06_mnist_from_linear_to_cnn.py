"""Notebook 06: training and its arguments, features, augmentation, pictures of every kind, and the checks."""

import base64
import io

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from exercises import assert_never_raises, assert_verdict
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of notebook 06; its exercises are defined by their solutions."""
    module = load_definitions("06", root=tmp_path_factory.mktemp("root"))
    module.mean, module.std, module.toy = 0.13, 0.31, np.array([[2, 1], [0, 2]])
    return module


def random_images(n, seed=0):
    """Return n random images (n, 1, 28, 28) and labels (n,)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 28, 28, generator=generator), torch.randint(10, (n,), generator=generator)


def loader_of(n=10, batch_size=10):
    """Return a loader of n random images, and the images with their labels."""
    X, y = random_images(n)
    return DataLoader(TensorDataset(X, y), batch_size, shuffle=True), (X, y)


# ------------------------------------------------------------------ training


def test_predict_is_in_blocks_and_keeps_the_mode(nb):
    """Blocks do not change the scores, dropout is off, and the model stays in the mode it was in."""
    model, (X, _) = nb.make_cnn(dropout=0.5), random_images(7)
    whole = nb.classify(model, X)
    assert torch.allclose(nb.classify(model, X, block=3), whole, atol=1e-6)
    assert model.training
    assert not whole.requires_grad


def test_train_learns_and_records(nb):
    """A small network learns ten images by heart; the history has the promised columns and counts updates."""
    loader, data = loader_of()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    history = nb.train_network(model, loader, 60, lr=1e-2, valid=data)
    assert list(history) == ["loss", "valid_loss", "valid_accuracy"]
    assert history["valid_accuracy"].iloc[-1] == 1.0
    assert history.index[-1] == 60
    assert history["valid_loss"].iloc[-1] < 0.1


@pytest.mark.parametrize("lr", [0, -1, np.nan, np.inf, "fast", None, True])
def test_train_names_a_bad_learning_rate(nb, lr):
    """A learning rate that is not a number above 0 is refused by name."""
    loader, data = loader_of()
    with pytest.raises(ValueError, match=r"lr is .*; it must be a number above 0"):
        nb.train_network(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), loader, 1, lr=lr, valid=data)


@pytest.mark.parametrize("num_epochs", [0, -1, 1.5, np.nan, "two"])
def test_train_names_a_bad_number_of_epochs(nb, num_epochs):
    """Epochs are counted in whole numbers above 0."""
    loader, data = loader_of()
    with pytest.raises(ValueError, match=r"num_epochs is .*; it must be a whole number above 0"):
        nb.train_network(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), loader, num_epochs, valid=data)


def test_batches_cover_each_epoch_and_stop(nb):
    """Each epoch is a permutation cut into full batches; the number of updates is exact."""
    indices = list(nb.batches(10, 3, 7))
    assert len(indices) == 7
    assert all(len(index) == 3 for index in indices)
    assert len(set(torch.cat(indices[:3]).tolist())) == 9
    assert len(set(torch.cat(indices[3:6]).tolist())) == 9


@pytest.mark.parametrize(
    ("batch_size", "num_updates", "name"),
    [(0, 1, "batch_size"), (11, 1, "batch_size"), (-1, 1, "batch_size"), (2.5, 1, "batch_size")]
    + [(3, 0, "num_updates"), (3, -1, "num_updates"), (3, 1.5, "num_updates")],
)
def test_batches_name_a_bad_argument(nb, batch_size, num_updates, name):
    """Arguments that would never end, or give no batch, are refused by name."""
    with pytest.raises(ValueError, match=f"{name} is "):
        next(nb.batches(10, batch_size, num_updates))


@pytest.mark.parametrize(
    "change", [{"lr": -1}, {"lr": np.nan}, {"num_epochs": 0}, {"batch_size": 0}, {"batch_size": 99}]
)
def test_train_fast_names_a_bad_argument(nb, change):
    """A recipe that cannot work is refused with the name of its entry."""
    X, y = random_images(20)
    with pytest.raises(ValueError, match=f"{next(iter(change))} is "):
        nb.train_fast(nb.make_fast_cnn(), X, y, nb.RECIPE | {"batch_size": 10} | change)


def test_a_dense_network_has_units(nb):
    """Width 0 is refused by name."""
    with pytest.raises(ValueError, match="width is 0"):
        nb.make_wide_dense(0)


@pytest.mark.parametrize("constant", [False, True])
def test_train_fast_learns_by_heart(nb, constant):
    """Both schedules fit 64 random images within a few epochs."""
    X, y = random_images(64)
    torch.manual_seed(0)
    model = nb.make_fast_cnn(channels=(8, 8, 16))
    recipe = nb.RECIPE | {"num_epochs": 40, "batch_size": 16, "lr": 0.1, "label_smoothing": 0.0}
    nb.train_fast(model, X, y, recipe | {"constant": constant})
    assert nb.hit_rate(nb.classify(model, X), y) > 0.95


def test_the_schedule_rises_and_falls_to_zero(nb):
    """The triangle peaks at a fifth and ends near 0; the constant rate is half of `lr`, the same mean."""
    rates = {}
    for constant in (False, True):
        optimizer, scheduler = nb.make_sgd(nn.Linear(2, 2), nb.RECIPE | {"constant": constant}, 100)
        rates[constant] = []
        for _ in range(100):
            rates[constant].append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    peak, lr = int(np.argmax(rates[False])), nb.RECIPE["lr"]
    assert 17 <= peak <= 21 and rates[False][peak] == pytest.approx(lr)
    assert rates[False][-1] < 0.03 * lr
    assert rates[True] == pytest.approx([lr / 2] * 100)
    assert np.mean(rates[False]) == pytest.approx(lr / 2, rel=0.03)


def test_train_fast_tells_how_far_it_is(nb):
    """`change` sees each batch and the share of the training that is over."""
    X, y = random_images(32)
    seen = []

    def change(images, done):
        seen.append((len(images), done))
        return images

    nb.train_fast(
        nb.make_fast_cnn(channels=(2, 2, 2)), X, y, nb.RECIPE | {"num_epochs": 3, "batch_size": 8}, False, change
    )
    assert [size for size, _ in seen] == [8] * 12
    assert [done for _, done in seen] == pytest.approx([k / 12 for k in range(12)])


def test_networks_have_the_parameters_that_the_prose_counts(nb):
    """Counted by formula: convolutions c_out (k² c_in + 1), dense layers out (in + 1)."""
    by_hand = 16 * 50 + 32 * (9 * 16 + 1) + 128 * (1568 + 1) + 10 * 129
    assert nb.count_parameters(nb.make_cnn()) == by_hand == 207_562
    by_hand = 16 * 25 + 32 * 16 * 9 + 64 * 32 * 9 + 2 * (16 + 32 + 64) + 10 * (64 * 4 + 1)
    assert nb.count_parameters(nb.make_fast_cnn()) == by_hand == 26_234
    for stride, cut in ((1, 3), (2, 0), (2, 4)):
        model = nb.make_fast_cnn(stride=stride, cut=cut, batch_norm=False)
        assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


# ------------------------------------------------------------------ looking inside, features, augmentation


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


def test_neighbor_correlation(nb):
    """It is 1 for patches that are flat in themselves, -1 for a checkerboard, and near 0 for noise."""
    flat = torch.randn(20, 1, 1, generator=torch.Generator().manual_seed(0)).expand(20, 5, 5)
    assert nb.neighbor_correlation(flat) == pytest.approx(1)
    board = (torch.arange(6)[:, None] + torch.arange(6)) % 2
    assert nb.neighbor_correlation(board[None].double()) == pytest.approx(-1)
    noise = torch.randn(2000, 5, 5, generator=torch.Generator().manual_seed(0))
    assert nb.neighbor_correlation(noise) == pytest.approx(0, abs=0.02)


def test_filters_are_normalized_and_reproducible(nb):
    """Filters have mean 0, responses of standard deviation 1, and depend on the seed alone."""
    X, _ = random_images(200)
    patches = nb.sample_patches(X, seed=3, size=5, num_patches=2000)
    filters = nb.whitened_filters(patches, num_filters=6)
    assert filters.shape == (6, 1, 5, 5)
    assert filters.mean(dim=(1, 2, 3)).abs().max() < 1e-5
    assert np.allclose((patches @ filters.reshape(6, -1).numpy().T).std(axis=0), 1, atol=1e-4)
    assert np.array_equal(patches, nb.sample_patches(X, seed=3, size=5, num_patches=2000))


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
    """The copy differs, each image in its own way; the originals stay; without spread nothing moves."""
    X = torch.zeros(6, 1, 28, 28)
    X[:, :, 8:20, 12:16] = 1
    before = X.clone()
    torch.manual_seed(0)
    first = nb.augmented(X)
    assert first.shape == X.shape and torch.equal(X, before)
    assert not torch.equal(first[0], first[1])
    assert (first > 0.5).flatten(1).sum(dim=1).min() > 20, "the stroke is still there"
    assert torch.allclose(nb.augmented(X, 0, 0, 0), X, atol=1e-4)


def test_augmentation_is_an_affine_map_and_interpolated_arrows(nb):
    """The matrix product gives the grids that PyTorch's own functions give one by one."""
    X = torch.rand(5, 1, 28, 28)
    torch.manual_seed(0)
    found = nb.augmented(X, 0.1, 0.2, 0.3)
    torch.manual_seed(0)
    affine = torch.eye(2, 3) + torch.randn(5, 2, 3) * torch.tensor([0.1, 0.1, 0.2])
    arrows = F.interpolate(0.3 * torch.randn(5, 2, 5, 5), size=28, mode="bilinear")
    grid = F.affine_grid(affine, X.shape, align_corners=False) + arrows.permute(0, 2, 3, 1)
    wanted = F.grid_sample(X, grid, padding_mode="border", align_corners=False)
    assert torch.allclose(found, wanted, atol=1e-4)


# ------------------------------------------------------------------ pictures of every kind


def stroke(height=90, width=150):
    """Return a lopsided stroke, uint8 (height, width), 255 on 0."""
    drawing = np.zeros((height, width), np.uint8)
    drawing[20:70, 30:42] = 255
    drawing[58:70, 30:60] = 255
    return drawing


def test_center_like_mnist(nb):
    """Size 20, center of mass in the middle, wherever and however large the drawing was."""
    small = np.zeros((100, 100), np.uint8)
    small[10:50, 5:15] = 200
    result = nb.center_like_mnist(small)
    rows, columns = np.nonzero(result)
    assert result.shape == (28, 28) and result.dtype == np.uint8
    assert rows.max() - rows.min() + 1 == 20 and columns.max() - columns.min() + 1 == 5
    assert abs(np.average(rows) - 14) <= 1 and abs(np.average(columns) - 14) <= 1
    assert np.array_equal(result, nb.center_like_mnist(np.roll(small, (30, 60), axis=(0, 1))))


def test_center_like_mnist_keeps_lopsided_drawings_inside(nb):
    """A long thin line with a heavy end still gives 28 x 28 pixels."""
    drawing = np.zeros((140, 140), np.uint8)
    drawing[70, 5:135] = 255
    drawing[50:90, 5:45] = 255
    assert nb.center_like_mnist(drawing).shape == (28, 28)


def kinds(drawing):
    """Return {name: the same picture in another form}."""
    gray, full = drawing, np.full_like(drawing, 255)
    rgb = np.stack([gray] * 3, axis=-1)
    return {
        "black on white": 255 - gray,
        "floats": gray / 255,
        "floats, black on white": 1 - gray / 255,
        "bool": gray > 0,
        "sixteen bits": gray.astype(np.uint16) * 257,
        "one channel": gray[..., None],
        "gray and opacity": np.stack([gray, full], axis=-1),
        "RGB": rgb,
        "blue on white": np.stack([255 - gray, 255 - gray, full], axis=-1),
        "RGBA": np.concatenate([rgb, full[..., None]], axis=-1),
        "RGBA, black on white": np.concatenate([255 - rgb, full[..., None]], axis=-1),
        "black on transparent": np.concatenate([0 * rgb, gray[..., None]], axis=-1),
        "white on transparent": np.concatenate([0 * rgb + 255, gray[..., None]], axis=-1),
        "gray on gray": (100 + gray // 3).astype(np.uint8),
        "nested lists": gray.tolist(),
        "PIL image": PIL.Image.fromarray(255 - gray),
        "PIL image, palette": PIL.Image.fromarray(255 - rgb).quantize(),
        "tensor": torch.from_numpy(gray),
    }


@pytest.mark.parametrize("kind", kinds(stroke()))
def test_every_kind_of_picture_becomes_the_same_digit(nb, kind):
    """Size, colors, range and ground make no difference; the picture is not square."""
    wanted = nb.center_like_mnist(stroke()).astype(int)
    found = nb.center_like_mnist(kinds(stroke())[kind]).astype(int)
    assert abs(found - wanted).max() <= 3


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (np.zeros((140, 140)), "the picture is empty; draw a digit first"),
        (np.full((50, 60, 3), 255, np.uint8), "the picture is empty"),
        (np.zeros((5, 5, 4)), "the picture is empty"),
        (np.zeros((0, 4)), r"shape \(0, 4\); expected \(h, w\) or \(h, w, colors\)"),
        (np.ones(784), r"shape \(784,\)"),
        (np.ones((3, 28, 28)), r"shape \(3, 28, 28\)"),
        (np.full((5, 5), np.nan), "below 0, infinite or missing"),
        (-np.eye(5), "below 0, infinite or missing"),
        ("three", "image or an array of numbers"),
        (None, "below 0, infinite or missing|shape|image or an array"),
        ([[1, 2], [3]], "image or an array of numbers"),
    ],
)
def test_bad_pictures_are_explained(nb, picture, sentence):
    """What is no picture leads to a plain sentence, never to a wrong digit."""
    with pytest.raises(ValueError, match=sentence):
        nb.center_like_mnist(picture)


def test_the_widget_answers_in_sentences(nb):
    """An empty canvas, an empty drawing, no file and a file that is no picture give no traceback."""
    for pixels in ("", base64.b64encode(bytes(140 * 140)).decode()):
        assert nb.describe_drawing(None, pixels) == "<p>the picture is empty; draw a digit first</p>"
    assert nb.describe_upload(None, ()) == nb.describe_upload(None, {}) == "<p>no file yet</p>"
    for content in (b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(30)):
        assert "no picture that can be read" in nb.describe_upload(None, [{"content": content}])


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_damaged_file_is_no_picture(nb, form):
    """A small file that ends too early gives a sentence, although its head can be read."""
    PIL.Image.fromarray(255 - stroke()).save(file := io.BytesIO(), form)
    content = file.getvalue()
    damaged = content[: len(content) // 2]
    assert "no picture that can be read" in nb.describe_upload(None, [{"content": damaged}])


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF"])
def test_an_uploaded_file_is_read(nb, form):
    """A file of either version of ipywidgets gets ten bars and the picture that the network sees."""
    PIL.Image.fromarray(255 - stroke()).save(file := io.BytesIO(), form)
    files = [{"content": memoryview(file.getvalue())}]
    model = nb.make_cnn()
    answer = nb.describe_upload(model, files)
    assert answer.count("flex") == 10 and "<img alt=" in answer
    assert answer == nb.describe_upload(model, {"three.png": files[0]})


def test_bars_show_ten_digits_and_mark_the_largest(nb):
    """Each digit has a line, and the largest probability is bold."""
    probabilities = np.full(10, 0.05)
    probabilities[7] = 0.55
    text = nb.bars_as_html(probabilities)
    assert text.count("flex") == 10
    assert "<b>7 55.0%</b>" in text and text.count("<b>") == 1


def test_stored_drawing_has_ink(nb):
    """The stored drawing is 140 x 140 with white strokes on black."""
    drawing = nb.draw_strokes([nb.THREE])
    assert drawing.shape == (140, 140)
    assert 0.03 < (drawing > 0).mean() < 0.3


# ------------------------------------------------------------------ your turn


def loss_of(scores, label):
    """Return the right cross-entropy as a float."""
    return F.cross_entropy(torch.tensor(scores), torch.tensor(label)).item()


def naive(scores, label):
    """Return the cross-entropy as most people write it first."""
    return -np.log(np.exp(scores)[label] / np.exp(scores).sum())


def log_of_softmax(scores, label):
    """Return minus the logarithm of a softmax that does not overflow, but rounds small probabilities to 0."""
    powers = np.exp(scores - scores.max())
    return -np.log(powers[label] / powers.sum())


def scores_from(counts, swap=False, mean=False, half=False, everything=False):
    """Return precision, recall and F1, with the mistakes asked for."""
    hits = np.diag(counts)
    precision, recall = hits / counts.sum(axis=0), hits / counts.sum(axis=1)
    f1 = (precision + recall) / 2 if mean else 2 * precision * recall / (precision + recall)
    if everything:
        precision = hits / counts.sum()
    return (recall, precision, f1) if swap else (precision, recall, f1 / 2 if half else f1)


def convolved(image, kernel):
    """Return the right convolution."""
    return F.conv2d(torch.tensor(image)[None, None], torch.tensor(kernel)[None, None])[0, 0].numpy()


def covered(image, row, column, size, value):
    """Return a copy with a square."""
    image = image.clone()
    image[:, row : row + size, column : column + size] = value
    return image


def covered_in_place(image, row, column, size, value):
    """Cover the image itself."""
    image[:, row : row + size, column : column + size] = value
    return image


ANSWERS = {
    "cross_entropy": [
        (loss_of, "right", ""),
        (naive, "not yet", "overflows"),
        (log_of_softmax, "not yet", "the probability has become 0"),
        (lambda s, k: -loss_of(s, k), "not yet", "sign"),
        (lambda s, k: np.exp(-loss_of(s, k)), "not yet", "take its logarithm"),
        (lambda s, k: loss_of(s, k) / np.log(10), "not yet", "natural"),
        (lambda s, k: s, "not yet", "one number"),
    ],
    "scores_of_classes": [
        (scores_from, "right", ""),
        (lambda c: scores_from(c, swap=True), "not yet", "swapped"),
        (lambda c: scores_from(c, mean=True), "not yet", "harmonic"),
        (lambda c: scores_from(c, half=True), "not yet", "factor 2"),
        (lambda c: scores_from(c, everything=True), "not yet", "not by all images"),
        (lambda c: np.diag(c), "not yet", "three arrays"),
    ],
    "convolve": [
        (convolved, "right", ""),
        (lambda i, k: convolved(i, k[::-1, ::-1].copy()), "not yet", "flipped"),
        (lambda i, k: convolved(i, k) / k.size, "not yet", "do not average"),
        (lambda i, k: np.zeros(i.shape), "not yet", "shape"),
    ],
    "cover": [
        (covered, "right", ""),
        (covered_in_place, "not yet", "image.clone()"),
        (lambda i, r, c, s, v: covered(i, c, r, s, v), "not yet", "rows come first"),
        (lambda i, r, c, s, v: covered(i, r, c, s + 1, v), "not yet", "have changed"),
        (lambda i, r, c, s, v: covered(i, r, c, s, v + 1), "not yet", "the value is not"),
        (lambda i, r, c, s, v: i[0], "not yet", "shape"),
    ],
}


@pytest.mark.parametrize("name", ANSWERS)
def test_checks_know_right_from_wrong(nb, name, capsys):
    """The notebook's solution is right; each typical mistake gets its own hint, in one line."""
    check = getattr(nb, f"check_{name}")
    check(getattr(nb, name))  # the solution stands after the stub, so it is the one defined
    assert capsys.readouterr().out.startswith("right:")
    for answer, verdict, hint in ANSWERS[name]:
        assert_verdict(check, answer, verdict, hint, capsys)


@pytest.mark.parametrize("name", ANSWERS)
def test_checks_never_raise(nb, name, capsys):
    """A stub, an error and nonsense are answered in one line, too."""
    assert_never_raises(getattr(nb, f"check_{name}"), capsys)
