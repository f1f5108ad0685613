"""The laboratory of notebook 08: counts by hand, rules, logs, resuming, failures, instruments, noise band, drawings."""

import json
import types
from dataclasses import replace

import numpy as np
import psutil
import pytest

from tools.definitions import load_definitions

TINY = {"channels": 2, "width": 4, "num_epochs": 2, "batch_size": 32}


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of notebook 08, loaded where they cannot touch the repository."""
    return load_definitions("08", root=tmp_path_factory.mktemp("notebook_08"))


@pytest.fixture(scope="module")
def images():
    """Return (X, y, X_valid, y_valid): 64 and 32 random images and labels."""
    rng = np.random.default_rng(0)
    X, y = rng.random((96, 28, 28, 1), dtype=np.float32), rng.integers(0, 10, 96)
    return X[:64], y[:64], X[64:], y[64:]


def pretended_training(builder, settings, seed, data, watcher):
    """Return the untrained model of `settings`, with a history that looks like one of training: all but the wait."""
    rng = np.random.default_rng([seed, settings["kernel"]])
    for epoch in range(1, settings["num_epochs"] + 1):
        names = ("seconds", "loss", "accuracy", "valid_loss", "valid_accuracy")
        watcher.rows.append({"epoch": epoch} | {name: 0.3 + 0.4 * rng.random() for name in names})
        watcher.bar.update()
    model = builder(settings)
    model.compile("sgd")
    return model


@pytest.fixture
def toy(nb, images, tmp_path, monkeypatch):
    """Return a function that runs a toy table in a folder of its own, and notes which builders were called.

    It only pretends to train, unless it is called with train=True.
    """
    built, real_training = [], nb.trained_model

    def build(settings):
        built.append((settings["kernel"], settings["lr"]))
        return nb.build_cnn(settings)

    def run(table, resume=False, seeds=(0,), train=False, num_images=64):
        monkeypatch.setattr(nb, "trained_model", real_training if train else pretended_training)
        table = [replace(row, builder=build) if row.builder is nb.build_cnn else row for row in table]
        built.clear()
        base, logs, models = nb.BASELINE | TINY, tmp_path / "logs", tmp_path / "models"
        data = (images[0][:num_images], images[1][:num_images], *images[2:])
        counts = nb.run_laboratory(table, base, lambda row: seeds, data, logs, models, resume)
        return counts, list(built)

    run.logs, run.models = tmp_path / "logs", tmp_path / "models"
    return run


def rows(nb, *kernels):
    """Return a table with one row per kernel."""
    return [nb.Experiment(f"kernel {kernel}", "kernel", "", {"kernel": kernel}) for kernel in kernels]


HAND = {  # settings: (parameters, multiply-adds, receptive field), counted by hand
    "baseline": ({}, 80 + 16 * 73 + 64 * 785 + 650, 784 * 72 + 196 * 16 * 72 + 784 * 64 + 640, 10),
    "kernel 1": ({"kernel": 1}, 16 + 16 * 9 + 64 * 785 + 650, 784 * 8 + 196 * 16 * 8 + 784 * 64 + 640, 4),
    "kernel 5": ({"kernel": 5}, 208 + 16 * 201 + 64 * 785 + 650, 784 * 200 + 196 * 16 * 200 + 784 * 64 + 640, 16),
    "average": ({"head": "average"}, 80 + 16 * 73 + 170, 784 * 72 + 196 * 16 * 72 + 160, 10),
    "four": (
        {"convs": 2},
        80 + 8 * 73 + 16 * 73 + 16 * 145 + 64 * 785 + 650,
        784 * 72 + 784 * 8 * 72 + 196 * 16 * 72 + 196 * 16 * 144 + 784 * 64 + 640,
        16,
    ),
    "skips": (
        {"skip": True},
        80 + 16 + 16 * 73 + 16 * 9 + 64 * 785 + 650,
        784 * (72 + 8) + 196 * 16 * (72 + 8) + 784 * 64 + 640,
        10,
    ),
    "batch norm": (
        {"batch_norm": True},
        80 + 16 + 16 * 73 + 32 + 64 * 785 + 650,
        784 * 72 + 196 * 16 * 72 + 784 * 64 + 640,
        10,
    ),
    "depth": (
        {"depth": 2, "width": 8},
        80 + 16 * 73 + 2 * 16 * 145 + 8 * 785 + 90,
        784 * 72 + 196 * 16 * 72 + 2 * 49 * 16 * 144 + 784 * 8 + 80,
        26,
    ),
}


@pytest.mark.parametrize("settings, parameters, products, pixels", HAND.values(), ids=HAND)
def test_counts_equal_those_by_hand(nb, settings, parameters, products, pixels):
    """Parameters, multiply-adds and receptive field are what paper and pencil say."""
    model = nb.build_cnn(nb.BASELINE | settings)
    assert nb.trainable_parameters(model) == parameters
    assert nb.multiply_adds(model) == products
    assert nb.receptive_field(model) == pixels


@pytest.mark.parametrize("convs, kernel", [(1, 3), (2, 3), (1, 5), (1, 1)])
def test_receptive_field_is_what_a_pixel_can_reach(nb, convs, kernel):
    """Changing a pixel changes a number of the last feature map exactly if it lies in its receptive field."""
    model = nb.build_cnn(nb.BASELINE | {"convs": convs, "kernel": kernel})
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            layer.kernel.assign(np.ones(layer.kernel.shape) * 0.1)  # no ReLU blocks the way
    maps = nb.keras.Model(model.inputs[0], model.get_layer("pool2").output)
    image = nb.tf.Variable(np.linspace(0.1, 1, 784, dtype=np.float32).reshape(1, 28, 28, 1))
    influence = np.zeros((28, 28), bool)
    rng = np.random.default_rng(0)
    for _ in range(40):  # max-pooling lets one of four through: try many images
        image.assign(rng.random((1, 28, 28, 1), dtype=np.float32))
        with nb.tf.GradientTape() as tape:
            value = maps(image)[0, 3, 3, 0]
        influence |= tape.gradient(value, image).numpy()[0, :, :, 0] != 0
    reached = np.flatnonzero(influence.any(axis=0))
    assert reached.max() - reached.min() + 1 == nb.receptive_field(model)


def test_edges_show_every_shortcut(nb):
    """A network with four additions has edges into each of them from two layers, and the plain one is a chain."""
    plain = nb.build_cnn(nb.BASELINE)
    assert len(nb.network_edges(plain)) == len(plain.layers) - 1
    model = nb.build_cnn(nb.BASELINE | {"convs": 2, "skip": True})
    edges = nb.network_edges(model)
    additions = [layer.name for layer in model.layers if layer.name.endswith("_add")]
    assert len(additions) == 4
    assert all(sum(after == name for _, after in edges) == 2 for name in additions)
    assert ("conv1_act", "conv2_add") in edges  # the bare input, around conv2
    columns = nb.layer_positions(model)
    assert all(columns[before][0] < columns[after][0] for before, after in edges)
    assert len(set(columns.values())) == len(columns)


def test_drawings_have_content(nb):
    """The picture by visualkeras and the graph are pictures of some size and more than one color."""
    model = nb.build_cnn(nb.BASELINE | {"skip": True, "batch_norm": True})
    for picture in (nb.boxes_of(model), nb.as_picture(nb.graph_of(model))):
        assert min(picture.size) > 150
        assert len(picture.convert("RGB").getcolors(10**6)) > 5


def test_the_table_is_valid_and_each_row_is_one_change(nb):
    """The table passes its own check; each row outside the failures changes one thing, or builds on one that does."""
    nb.check_table(nb.TABLE, nb.RULES)
    assert set(nb.RULES) == set(nb.BASELINE)
    assert len(nb.TABLE) >= 25
    assert [row.name for row in nb.TABLE if not row.settings] == ["baseline"]
    settings = {row.name: row.settings for row in nb.TABLE}
    for sick, healthy, _ in nb.PATIENTS.values():
        a, b = nb.BASELINE | settings[sick], nb.BASELINE | settings[healthy]
        assert sum(a[key] != b[key] for key in a) == 1, (sick, healthy)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"learning_rate": 0.1}, ["learning_rate", "lr"]),
        ({"kernel": 4}, ["kernel", "4", "1, 3, 5 or 7"]),
        ({"dropout": 1.0}, ["dropout", "1.0"]),
        ({"dropout": "much"}, ["dropout", "much"]),
        ({"lr": 0}, ["lr", "above 0"]),
        ({"optimizer": "adamw"}, ["optimizer", "adamw", "sgd"]),
        ({"init": None}, ["init", "glorot"]),
    ],
)
def test_bad_rows_are_refused_before_anything_trains(nb, toy, settings, words):
    """An unknown setting or a bad value raises ValueError with names and allowed values, and no log is made."""
    with pytest.raises(ValueError) as error:
        toy(rows(nb, 1) + [nb.Experiment("bad row", "?", "?", settings)])
    assert all(word in str(error.value) for word in ["bad row", *words])
    assert not toy.logs.exists()


def test_equal_names_are_refused(nb):
    """Two rows whose files would have the same name are refused."""
    with pytest.raises(ValueError, match="2 rows"):
        nb.check_table([nb.Experiment("a b", "", ""), nb.Experiment("A-B", "", "")], nb.RULES)


def test_a_run_leaves_a_full_log_and_a_model_that_can_be_loaded(nb, toy, images):
    """JSON and CSV hold history, settings, seed, versions and seconds; the loaded model gives the logged accuracy."""
    (trained, kept), _ = toy(rows(nb, 3), seeds=(5,), train=True)
    assert (trained, kept) == (1, 0)
    record = json.loads((toy.logs / "kernel-3-seed5.json").read_text())
    assert nb.PARTS <= set(record)
    assert record["seed"] == 5 and record["settings"]["kernel"] == 3 and record["settings"]["channels"] == 2
    assert record["status"] == "finished" and record["seconds"] > 0 and "keras" in record["versions"]
    assert [row["epoch"] for row in record["history"]] == [1, 2]
    table = nb.pd.read_csv(toy.logs / "kernel-3-seed5.csv")
    assert len(table) == 2 and table["seed"].eq(5).all() and table["lr"].eq(1e-3).all() and "keras" in table
    assert table["valid_loss"].tolist() == pytest.approx([row["valid_loss"] for row in record["history"]])
    model = nb.keras.models.load_model(toy.models / "kernel-3-seed5.keras")
    _, accuracy = model.evaluate(images[2], images[3], verbose=0)
    assert accuracy == pytest.approx(record["history"][-1]["valid_accuracy"], abs=1e-6)
    assert not (toy.logs / "unfinished").exists()


def test_equal_seeds_give_equal_runs_and_others_do_not(nb, toy):
    """A run depends on its seed and not on the runs before it."""
    toy(rows(nb, 3), seeds=(0, 1), train=True)
    losses = {path.stem: json.loads(path.read_text())["history"][0]["loss"] for path in toy.logs.glob("*.json")}
    toy(rows(nb, 3), seeds=(0,), train=True)
    again = json.loads((toy.logs / "kernel-3-seed0.json").read_text())["history"][0]["loss"]
    assert again == pytest.approx(losses["kernel-3-seed0"], rel=1e-4)
    assert losses["kernel-3-seed1"] != pytest.approx(losses["kernel-3-seed0"], rel=1e-4)


def test_two_runs_at_a_time_equal_those_one_by_one(nb, images):
    """Start, order of images and dropout of a run do not depend on the run beside it."""
    table = [
        nb.Experiment("one", "", "", {"dropout": 0.5}),
        nb.Experiment("two", "", "", {"kernel": 1}),
        nb.Experiment("three", "", "", {"dropout": 0.5, "optimizer": "sgd"}),
        nb.Experiment("four", "", "", {"dropout": 0.2, "batch_size": 16}),
    ]

    def losses(rows, name):
        folder = nb.ROOT / name
        nb.run_laboratory(rows, nb.BASELINE | TINY, lambda row: [3], images, folder, folder)
        names = ("loss", "valid_loss")
        records = nb.read_logs(folder)
        return {r["experiment"]: [[epoch[k] for k in names] for epoch in r["history"]] for r in records}

    together = losses(table, "together")
    for row in table:
        alone = losses([row], f"alone {row.name}")[row.name]
        assert np.allclose(alone, together[row.name], atol=1e-4), row.name
    assert not np.allclose(together["one"], together["three"], atol=1e-4)


@pytest.mark.parametrize("decay, share", [(True, 0.0), (False, 1.0)])
def test_the_rate_falls_to_0_only_if_asked(nb, images, decay, share):
    """After the last update the learning rate is 0 with `decay`, and what it was without."""

    class Bar:
        def set_description_str(self, text):
            pass

        def update(self):
            pass

    settings = nb.BASELINE | TINY | {"decay": decay}
    model = nb.trained_model(nb.build_cnn, settings, 0, images, nb.RunWatcher(Bar(), "", settings["num_epochs"]))
    assert float(model.optimizer.learning_rate) == pytest.approx(share * settings["lr"], abs=1e-9)


def test_an_interrupted_laboratory_goes_on_where_it_stopped(nb, toy, monkeypatch):
    """After an interrupt between two groups of runs, the first group is kept, the others run, and the next starts anew.

    The interrupt comes where the second group begins, so that no speed decides what has ended.
    """
    groups = []

    def collect():
        groups.append(len(groups))
        if len(groups) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(nb, "gc", types.SimpleNamespace(collect=collect))
    num_rows = nb.GROUP + 4
    table = [nb.Experiment(f"row {number}", "", "", {}) for number in range(num_rows)]
    with pytest.raises(KeyboardInterrupt):
        toy(table)
    assert (toy.logs / "unfinished").exists()
    finished = {record["experiment"] for record in nb.read_logs(toy.logs)}
    assert finished == {row.name for row in table[: nb.GROUP]}
    counts, _ = toy(table)
    assert counts == (num_rows - nb.GROUP, nb.GROUP)
    assert not (toy.logs / "unfinished").exists()
    counts, _ = toy(table)  # complete: from the beginning
    assert counts == (num_rows, 0)


def test_resume_keeps_equal_runs_and_repeats_changed_ones(nb, toy):
    """With resume, only new rows, changed settings, other seeds and runs without a model train."""
    toy(rows(nb, 1, 3))
    changed = [rows(nb, 1)[0], replace(rows(nb, 3)[0], settings={"kernel": 3, "lr": 0.01}), rows(nb, 5)[0]]
    counts, built = toy(changed, resume=True)
    assert counts == (2, 1)
    assert built == [(3, 0.01), (5, 1e-3)]
    (toy.models / "kernel-1-seed0.keras").unlink()
    counts, built = toy(changed, resume=True)
    assert counts == (1, 2)
    counts, built = toy(changed, resume=True, num_images=48)  # other images: nothing is kept
    assert counts == (3, 0)


def test_a_completed_laboratory_leaves_no_old_rows_behind(nb, toy):
    """A row that is no longer in the table disappears from the logs when the laboratory starts anew."""
    toy(rows(nb, 1, 3))
    toy(rows(nb, 1))
    assert [record["experiment"] for record in nb.read_logs(toy.logs)] == ["kernel 1"]


@pytest.mark.parametrize("garbage", ["", "{", '{"experiment": "kernel 1"}', "[1, 2]", "null", "\x00\x01"])
def test_a_damaged_log_is_set_aside_and_its_run_repeated(nb, toy, capsys, garbage):
    """The file is kept under another name, the message names it, and the run has a good log again."""
    toy(rows(nb, 1))
    (toy.logs / "kernel-1-seed0.json").write_text(garbage)
    counts, _ = toy(rows(nb, 1), resume=True)
    assert counts == (1, 0)
    assert "kernel-1-seed0.json is damaged" in capsys.readouterr().out
    assert (toy.logs / "kernel-1-seed0.json.damaged-1").read_text() == garbage
    assert len(nb.read_logs(toy.logs)) == 1


def test_failures_are_recorded_and_the_rest_goes_on(nb, toy):
    """Not-a-number, lack of memory and a broken builder each leave a failed record with a reason; others finish."""

    def too_large(settings):
        raise MemoryError

    table = [
        nb.Experiment("explodes", "", "", {"optimizer": "sgd", "lr": 1e40}),
        nb.Experiment("too large", "", "", {}, too_large),
        nb.Experiment("broken", "", "", {}, lambda settings: nb.build_cnn({})),
        *rows(nb, 3),
    ]
    counts, _ = toy(table, train=True)
    assert counts == (4, 0)
    records = {record["experiment"]: record for record in nb.read_logs(toy.logs)}
    assert [record["status"] for record in records.values()] == ["failed"] * 3 + ["finished"]
    assert "not finite" in records["explodes"]["reason"]
    assert "MemoryError" in records["too large"]["reason"]
    assert "KeyError" in records["broken"]["reason"]
    assert list(nb.by_name(records.values())) == ["kernel 3"]


def test_noise_band_against_a_table(nb):
    """Student's factors from a printed table: 2.365 for 7 degrees of freedom at 95 %, 3.499 at 99 %."""
    values = np.arange(8.0)
    s = np.std(values, ddof=1)
    for level, factor in ((0.95, 2.365), (0.99, 3.499)):
        low, high = nb.noise_band(values, 1, level)
        assert high - 3.5 == pytest.approx(factor * s * np.sqrt(9 / 8), rel=1e-3)
        assert low + high == pytest.approx(7)
    low, high = nb.noise_band(values, 3)
    assert high - 3.5 == pytest.approx(3.499 * s * np.sqrt(1 / 3 + 1 / 8), rel=1e-3)
    assert nb.verdict_of([high + 0.01], values) == "inside"  # one run has the wider band
    assert nb.verdict_of([high + 0.01] * 3, values) == "above"
    assert nb.verdict_of([low - 0.01] * 3, values) == "below"
    with pytest.raises(ValueError, match="2 or more"):
        nb.noise_band([1.0])


def test_the_promise_of_the_band_holds(nb):
    """By luck alone a further run leaves the band as often as promised."""
    assert nb.outside_by_luck(2_000, 5, 0.9).mean() == pytest.approx(0.1, abs=0.025)


def test_shuffled_tiles(nb):
    """Tiles keep their content and change places; a network without a sense of place does not notice."""
    images = np.arange(2 * 16, dtype=np.float32).reshape(2, 4, 4, 1)
    shuffled = nb.shuffle_tiles(images, 2, seed=2)
    tiles = {tuple(shuffled[0, r : r + 2, c : c + 2, 0].ravel()) for r in (0, 2) for c in (0, 2)}
    assert tiles == {(0, 1, 4, 5), (2, 3, 6, 7), (8, 9, 12, 13), (10, 11, 14, 15)}
    assert not np.array_equal(images, shuffled)
    assert np.array_equal(shuffled[1] - shuffled[0], np.full((4, 4, 1), 16))  # the same permutation for all
    with pytest.raises(ValueError, match="size is 3"):
        nb.shuffle_tiles(images, 3)
    X = np.random.default_rng(0).random((8, 28, 28, 1), dtype=np.float32)
    blind = nb.build_cnn(nb.BASELINE | {"kernel": 1, "head": "average"})
    seeing = nb.build_cnn(nb.BASELINE | {"kernel": 1})
    differences = [np.abs(model(X) - model(nb.shuffle_tiles(X, 4))).max() for model in (blind, seeing)]
    assert differences[0] < 1e-5 < 1e-3 < differences[1]


def test_instruments_know_a_dead_a_saturated_and_a_faded_network(nb, images):
    """Each instrument shows the extreme it was made for."""
    X, y = images[:2]
    model = nb.build_cnn(nb.BASELINE)
    health = nb.examine(model, X, y)
    assert list(health.index) == ["conv1", "conv2", "hidden", "scores"]
    assert (health["gradient"] > 1e-4).all() and health.loc["hidden", "dead"] < 0.9
    model.get_layer("hidden").bias.assign(np.full(64, -100.0))
    dead = nb.examine(model, X, y)
    assert dead.loc["hidden", "dead"] == 1 and dead.loc["hidden", "spread"] == 0
    assert dead.loc[["conv1", "conv2", "hidden"], "gradient"].max() == 0
    assert nb.favorite_share(model, X) == 1
    deep = nb.BASELINE | {"depth": 3, "activation": "tanh", "width": 16}
    faded = nb.examine(nb.build_cnn(deep | {"init": "normal 0.01"}), X, y)
    saturated = nb.examine(nb.build_cnn(deep | {"init": "normal 1"}), X, y)
    assert faded.loc["conv5", "spread"] < 1e-3 and faded["saturated"].max() == 0
    assert saturated.loc["conv5", "saturated"] > 0.5


def test_gradient_norm_against_finite_differences(nb, images):
    """The norm of the gradient of the last layer agrees with central differences."""
    X, y = images[:2]
    model = nb.build_cnn(nb.BASELINE | {"channels": 1, "width": 2})
    kernel, slopes, h = model.get_layer("scores").kernel, [], 1e-2
    values = kernel.numpy()

    def loss():
        scores = model(X).numpy().astype(float)
        return np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(y)), y])

    for index in np.ndindex(values.shape):
        pair = []
        for step in (h, -h):
            moved = values.copy()
            moved[index] += step
            kernel.assign(moved)
            pair.append(loss())
        slopes.append((pair[0] - pair[1]) / (2 * h))
    kernel.assign(values)
    assert nb.examine(model, X, y).loc["scores", "gradient"] == pytest.approx(np.linalg.norm(slopes), rel=1e-2)


def test_figures_come_from_the_logs_alone(nb, toy):
    """Every figure can be drawn from records that were read from files, and drawing twice gives the same pixels."""
    toy(
        [replace(row, factor="kernel") for row in [nb.Experiment("baseline", "baseline", ""), *rows(nb, 1, 5)]],
        seeds=(0, 1, 2),
    )
    records = nb.read_logs(toy.logs)
    for figure in (nb.baseline_figure, nb.ranking_figure, nb.small_multiples, nb.memory_figure,
                   lambda logs: nb.factor_figure(logs, "kernel", "title")):  # fmt: skip
        first, second = (np.asarray(nb.as_picture(figure(records))) for _ in range(2))
        assert np.array_equal(first, second)
        assert first.std() > 1
    table = nb.summary_table(records)
    assert table["n"].tolist() == [3, 3, 3]
    assert table["verdict"].tolist()[0] == "baseline" and set(table["verdict"][1:]) <= {"above", "below", "inside"}


def test_growth_per_run(nb):
    """A steady climb of 5 MB per run is found, whatever the first runs did."""
    assert nb.growth_per_run([0, 900, 10] + [1000 + 5 * i for i in range(30)], skip=3) == pytest.approx(5)
    assert nb.growth_per_run([1000] * 30) == pytest.approx(0, abs=1e-9)


def test_emptied_variables(nb, images):
    """After `empty_variables` a trained network and its Adam hold no number any more."""
    bar = types.SimpleNamespace(set_description_str=lambda text: None, update=lambda: None)
    model = nb.trained_model(nb.build_cnn, nb.BASELINE | TINY, 0, images, nb.RunWatcher(bar, "x", 2))
    variables = [*model.variables, *model.optimizer.variables]
    assert sum(variable.value.read_value().numpy().size for variable in variables) > 1000
    nb.empty_variables(model)
    assert sum(variable.value.read_value().numpy().size for variable in variables) == 0


def test_memory_does_not_grow_with_the_size_of_the_trained_networks(nb, images, toy):
    """Networks of 6.5 MB (20 MB with Adam) leave less than 8 MB per run behind."""
    memory = []

    def build_and_note(settings):
        memory.append(psutil.Process().memory_info().rss / 2**20)
        return nb.build_cnn(settings)

    nb.tf.get_logger().setLevel("ERROR")  # as in the notebook; pytest keeps each warning with all it refers to
    wide = nb.Experiment("wide", "toy", "?", {"channels": 8, "width": 2048, "num_epochs": 1}, build_and_note)
    toy([wide], seeds=range(24), train=True)
    assert nb.growth_per_run(memory) < 8


def test_differing_names_the_changed_settings(nb):
    """Settings that a row repeats from the baseline do not count as different."""
    one = nb.Experiment("one", "", "", {"kernel": 5, "dropout": 0.0})
    other = nb.Experiment("other", "", "", {"kernel": 3, "lr": 0.1})
    assert nb.differing(one, other) == ["kernel", "lr"]
    assert nb.differing(one, one) == []
