"""Notebook 03: the batched kernel equals the loop, and a sweep survives dead workers and dead processes."""

import math
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from joblib import parallel_config
from notebook_loader import ROOT, load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of notebook 03, sent to worker processes by value."""
    module = load_definitions("03", tmp_path_factory.mktemp("root"))
    cloudpickle.register_pickle_by_value(module)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield module
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    cloudpickle.unregister_pickle_by_value(module)


# ------------------------------------------------------------------ the networks


@pytest.mark.parametrize(("k", "bypass"), [(1, False), (2, True), (5, False)])
def test_start_is_xavier_uniform_with_zero_biases(nb, k, bypass):
    """Both layers fill their Xavier bounds, biases are 0, and the seed alone decides."""
    starts = torch.stack([nb.initial_weights(k, bypass, seed) for seed in range(300)])
    hidden, output = math.sqrt(6 / (2 + k)), math.sqrt(6 / (k + 2 * bypass + 1))
    w, b, v = starts[:, : 2 * k].abs(), starts[:, 2 * k : 3 * k], starts[:, 3 * k : -1].abs()
    assert starts.shape == (300, 4 * k + (3 if bypass else 1))
    assert 0.97 * hidden < w.max() <= hidden
    assert 0.97 * output < v.max() <= output
    assert not b.any() and not starts[:, -1].any()
    assert torch.equal(starts[7], nb.initial_weights(k, bypass, 7)) and not torch.equal(starts[7], starts[8])


@pytest.mark.parametrize("bypass", [False, True])
def test_batch_and_module_compute_the_same(nb, bypass):
    """Logits, likelihood and final losses of a batch are those of the module."""
    X, t = nb.PROTOCOL.tensors(torch.float64)
    theta = torch.stack([nb.initial_weights(3, bypass, seed) for seed in range(4)], dim=1)
    batch = nb.NetworkBatch(theta, 3, nb.PROTOCOL)
    losses = nb.final_losses(theta, 3, nb.PROTOCOL)
    for seed in range(4):
        with torch.no_grad():
            z = nb.SweepNetwork(3, bypass, seed, torch.float64)(X)
        loss = F.binary_cross_entropy_with_logits(z, t)
        assert torch.allclose(batch.z[:, seed], z, atol=1e-12)
        assert math.isclose(-math.log(batch.likelihood[seed]) / 8, loss, rel_tol=1e-10)
        assert math.isclose(losses["valid_loss"][seed], loss, rel_tol=1e-8)
        assert math.isclose(losses["train_loss"][seed], F.binary_cross_entropy_with_logits(z[:4], t[:4]), rel_tol=1e-8)


@pytest.mark.parametrize(("k", "bypass"), [(1, False), (1, True), (2, False), (3, True), (8, False)])
def test_gradients(nb, k, bypass):
    """Hand-derived gradients agree with autograd and with finite differences."""
    automatic, numeric = nb.worst_gradient_error(k, bypass, range(3))
    assert automatic < 1e-12
    assert numeric < 1e-9


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 4.0), ("momentum", 0.5), ("adam", 0.1)])
@pytest.mark.parametrize(("k", "bypass"), [(2, False), (3, True)])
def test_batched_equals_loop(nb, optimizer, lr, k, bypass):
    """Same stopping epoch and outcome in float64, losses to 1e-6, also after finished networks were taken out."""
    networks = nb.grid([lr, 1e-4], [k], [bypass], [5], [optimizer])
    networks.index += 100
    protocol = nb.Protocol(max_epochs=850, goal=0.4)
    one, many = (train(networks, protocol, torch.float64) for train in (nb.train_loop, nb.train_batched))
    assert {"solved", "not solved"} <= set(one.outcome)
    assert one.index.equals(many.index)
    assert one.epochs.tolist() == many.epochs.tolist()
    assert one.outcome.tolist() == many.outcome.tolist()
    assert np.allclose(one[["train_loss", "valid_loss"]], many[["train_loss", "valid_loss"]], rtol=0, atol=1e-6)


def test_stopping_rule_word_for_word(nb):
    """The stopping epoch is the one that the published rule gives on the recorded validation losses."""
    k, seed, lr = 4, 0, 3.0
    X, t = nb.PROTOCOL.tensors(torch.float64)
    model = nb.SweepNetwork(k, False, seed, torch.float64)
    trace = []
    for _ in range(1500):
        model.zero_grad()
        F.binary_cross_entropy_with_logits(model(X[:4]), t[:4]).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= lr * p.grad
            trace.append(F.binary_cross_entropy_with_logits(model(X), t).item())
    best, waited, epoch = math.inf, 0, 0
    while epoch < 1500 and not (best < 0.2 and waited >= 10):
        best, waited = (trace[epoch], 0) if trace[epoch] < best - 0.0001 else (best, waited + 1)
        epoch += 1
    row = nb.train_batched(nb.grid([lr], [k], [False], [seed]), nb.PROTOCOL, torch.float64).iloc[0]
    assert epoch < 1500
    assert (row.outcome, row.epochs) == ("solved", epoch)
    assert row.valid_loss == pytest.approx(trace[epoch - 1], abs=1e-9)


def test_divergence_is_an_outcome_and_stays_alone(nb, monkeypatch):
    """Not-a-number is reported as "diverged" by both ways, and the neighbors get their own results."""
    calm, wild = nb.grid([2.0], [2], [True], range(3)), nb.grid([1e39], [2], [True], range(3))
    mixed = pd.concat([calm, wild], ignore_index=True)
    protocol = nb.Protocol(max_epochs=2000)
    alone, together = nb.train_batched(calm, protocol), nb.train_batched(mixed, protocol)
    assert together.outcome[:3].tolist() == alone.outcome.tolist() == ["solved"] * 3
    assert together.epochs[:3].tolist() == alone.epochs.tolist()
    assert np.allclose(together.valid_loss[:3], alone.valid_loss, atol=1e-6)
    assert (together.outcome[3:] == "diverged").all()
    monkeypatch.setattr(nb, "initial_weights", lambda k, bypass, seed: torch.full((11,), math.nan).double())
    for train in (nb.train_loop, nb.train_batched):
        results = train(nb.grid([1.0], [2], [True], [0]), protocol)
        assert results[["epochs", "outcome"]].to_numpy().tolist() == [[100, "diverged"]]


def test_extreme_weights_are_not_mistaken_for_divergence(nb):
    """A confident wrong network (likelihood 0 in single precision) has a finite loss."""
    theta = torch.full((13 - 4, 2), 80.0)
    losses = nb.final_losses(theta, 2, nb.PROTOCOL)
    assert nb.NetworkBatch(theta, 2, nb.PROTOCOL).likelihood.eq(0).all()
    assert all(loss.isfinite().all() and loss.gt(10).all() for loss in losses.values())


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [2], [True], [0]), "empty: lr"),
        (([0.1], [], [True], [0]), "empty: k"),
        (([-0.1], [2], [True], [0]), "lr is -0.1; it must be a finite number above 0"),
        (([math.nan], [2], [True], [0]), "lr is nan"),
        (([0.1], [0], [True], [0]), "k is 0; it must be a whole number of 1 or more"),
        (([0.1], [2.5], [True], [0]), "k is 2.5"),
        (([0.1], [2], ["no"], [0]), "bypass is 'no'; it must be True or False"),
        (([0.1], [2], [True], [-1]), "seed is -1"),
        (([0.1], [2], [True], [0], ["rmsprop"]), "optimizer is 'rmsprop'; it must be one of sgd, momentum, adam"),
    ],
)
def test_bad_grid(nb, arguments, message):
    """Each bad factor is named, with what is allowed."""
    with pytest.raises(ValueError, match=message):
        nb.grid(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patterns": ((0, 0), (1, 1))}, "4 by 2"),
        ({"patterns": ((0,), (0,), (1,), (1,))}, "4 by 2"),
        ({"targets": (0, 1, 1)}, "targets must have 4"),
        ({"targets": (0, 1, 2, 0)}, "must be 0 or 1"),
        ({"max_epochs": 0}, "max_epochs is 0"),
    ],
)
def test_bad_protocol(nb, options, message):
    """A truth table of the wrong shape and impossible rules are refused."""
    with pytest.raises(ValueError, match=message):
        nb.Protocol(**options)


def test_other_bad_input(nb, tmp_path):
    """Mixed batches, empty sweeps, unknown optimizers and cells outside the grid are refused."""
    with pytest.raises(ValueError, match="k differ within one batch"):
        nb.train_batched(nb.grid([1.0], [1, 2], [True], [0]), nb.PROTOCOL)
    with pytest.raises(ValueError, match="networks has 0 rows"):
        nb.sweep(nb.grid([1.0], [1], [True], [0]).iloc[:0], nb.PROTOCOL, tmp_path, nb.train_batched)
    with pytest.raises(ValueError, match="'newton'; use one of sgd, momentum, adam"):
        nb.BatchOptimizer("newton", torch.zeros(1, 1))
    cells = nb.summarize(pd.DataFrame([{"lr": 1.0, "k": 2, "bypass": True, "outcome": "solved", "epochs": 7,
                                        "train_loss": 0.1, "valid_loss": 0.1}] * 3))  # fmt: skip
    assert "<b>3 of 3</b>" in nb.describe_cell(cells, 1.0, 2, True)
    with pytest.raises(ValueError, match="choose values of the grid"):
        nb.describe_cell(cells, 5.0, 2, True)


# ------------------------------------------------------------------ statistics


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (77, 100), (10, 10)])
def test_wilson_interval_solves_its_equation(nb, successes, n):
    """Both ends satisfy |rate - p| = z sqrt(p (1 - p) / n), and lie in 0 to 1."""
    rate = successes / n
    for p in nb.wilson_interval(successes, n):
        assert 0 <= p <= 1
        assert abs(rate - p) == pytest.approx(1.96 * math.sqrt(p * (1 - p) / n), abs=1e-9)
    with pytest.raises(ValueError, match="between 0 and n"):
        nb.wilson_interval(n + 1, n)


def test_intervals_cover_the_truth(nb):
    """The Wilson and the median interval contain the true value in about 95 % of many samples."""
    rng = np.random.default_rng(0)
    wilson = [nb.wilson_interval(s, 50) for s in rng.binomial(50, 0.8, 2000)]
    assert 0.92 < np.mean([low <= 0.8 <= high for low, high in wilson]) < 0.98
    median = [nb.median_interval(sample)[1:] for sample in rng.exponential(size=(2000, 40))]
    assert 0.92 < np.mean([low <= math.log(2) <= high for low, high in median]) < 0.99
    assert np.isnan(nb.median_interval([])).all()
    few = nb.median_interval([1, 2, 3, 4, 9])  # five values cannot give 95 %
    assert few[0] == 3 and np.isnan(few[1:]).all()
    assert nb.median_interval([1, 2, 3, 4, 9, 10]) == (3.5, 1, 10)


def test_survival_curve(nb):
    """It starts at 1, steps down at each solved network, and keeps the unsolved ones."""
    group = pd.DataFrame({"epochs": [30, 100, 20], "outcome": ["solved", "not solved", "solved"]})
    epochs, left = nb.survival_curve(group, 100)
    assert epochs.tolist() == [0, 20, 30, 100]
    assert left.tolist() == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize("k", [1, 4, 16])
def test_stability_limit_at_zero(nb, k):
    """At weights of exactly 0 (hidden activations 1/2) the limit is 32 / (4 + k)."""
    limit = nb.stability_limits(torch.zeros(4 * k + 1, 1, dtype=torch.float64), k)
    assert limit.item() == pytest.approx(32 / (4 + k), rel=1e-6)


def test_stability_limit_against_autograd(nb):
    """At a random start it is 2 over the largest eigenvalue of the Hessian that autograd gives."""
    X, t = nb.PROTOCOL.tensors(torch.float64)

    def loss(theta):
        w1, w2, b, v = theta[:8].view(4, 2)
        z = torch.sigmoid(X[:4, :1] * w1 + X[:4, 1:] * w2 + b) @ v + X[:4] @ theta[8:10] + theta[10]
        return F.binary_cross_entropy_with_logits(z, t[:4])

    starts = torch.stack([3 * nb.initial_weights(2, True, seed) for seed in range(3)], dim=1)
    expected = [2 / torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, start))[-1] for start in starts.T]
    assert torch.allclose(nb.stability_limits(starts, 2), torch.stack(expected), rtol=1e-6)


# ------------------------------------------------------------------ the sweep


def small(nb):
    """Return a sweep of six chunks that takes a moment: networks and protocol."""
    return nb.grid([1.0, 3.0], [1, 2, 3], [False, True], range(3)), nb.Protocol(max_epochs=1200)


def test_chunks(nb):
    """Chunks are a partition, hold one architecture, respect the size; names depend on rows and rules."""
    networks = nb.grid([0.1, 1.0], [1, 2], [False, True], range(5), nb.OPTIMIZERS)
    chunks = nb.chunks_of(networks, 4)
    assert sorted(i for chunk in chunks for i in chunk.index) == list(networks.index)
    assert all(len(chunk) <= 4 and len(chunk[["k", "bypass", "optimizer"]].drop_duplicates()) == 1 for chunk in chunks)
    names = {nb.chunk_name(chunk, nb.PROTOCOL) for chunk in chunks}
    assert len(names) == len(chunks)
    assert nb.chunk_name(chunks[0], nb.Protocol(goal=0.1)) not in names
    assert nb.chunk_name(chunks[0].assign(lr=chunks[0].lr + 1e-12), nb.PROTOCOL) not in names


def test_sweep_returns_one_row_per_network_and_cleans_up(nb, tmp_path):
    """The table is that of the trainer, in the order of the networks; no chunk file is left."""
    networks, protocol = small(nb)
    table = nb.sweep(networks, protocol, tmp_path, nb.train_batched, size=4)
    direct = pd.concat([nb.train_batched(chunk, protocol) for chunk in nb.chunks_of(networks, 4)]).sort_index()
    pd.testing.assert_frame_equal(table, networks.join(direct), check_dtype=False)
    assert not list(tmp_path.iterdir())


def test_interrupted_sweep_resumes(nb, tmp_path):
    """What was finished is read, the rest computed, and the result is the uninterrupted one."""
    networks, protocol = small(nb)
    found, computed, result = nb.interrupted_and_resumed(networks, protocol, tmp_path / "a", stop_at=4)
    assert (found, computed) == (3, 3)
    assert result.equals(nb.sweep(networks, protocol, tmp_path / "b", nb.train_batched))


def die_once(train, marker, chunk, protocol):
    """Kill this worker process for good at the first call, train at every later one."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return train(chunk, protocol)
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_worker_loses_nothing(nb, tmp_path, capsys):
    """A worker killed by SIGKILL is noticed, its chunk runs again, and the result is complete."""
    networks, protocol = small(nb)
    trainer = partial(die_once, nb.train_batched, str(tmp_path / "died"))
    with parallel_config("loky", n_jobs=2):
        table = nb.sweep(networks, protocol, tmp_path / "chunks", trainer, size=4)
        assert (tmp_path / "died").exists()
        assert "A worker died" in capsys.readouterr().out
    assert table.equals(nb.sweep(networks, protocol, tmp_path / "chunks", nb.train_batched, size=4))


DASK_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import nbformat
import notebook_loader
cells = nbformat.read(notebook_loader.find_notebook("03"), as_version=4).cells
sources = [cell.source for cell in cells if cell.cell_type == "code"]
exec(compile(notebook_loader.definitions_of_source(sources, "03"), "03", "exec"))
def die_once(chunk, protocol):
    try:
        Path({died!r}).touch(exist_ok=False)
    except FileExistsError:
        return train_batched(chunk, protocol)
    time.sleep(0.3)
    os.kill(os.getpid(), 9)
networks, protocol = grid([1.0, 3.0], [1, 2, 3], [False, True], range(3)), Protocol(max_epochs=1200)
cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs="CRITICAL")
with cluster, Client(cluster), parallel_config("dask", wait_for_workers_timeout=60):
    table = sweep(networks, protocol, "chunks", die_once, size=4)
print("equal:", table.equals(sweep(networks, protocol, "alone", train_batched, size=4)))
"""


def test_killed_dask_worker_loses_nothing(tmp_path):
    """A Dask worker killed by SIGKILL is noticed, its chunk runs again, and the result is complete.

    A process of its own, because Dask sends functions by value only if they are defined in __main__, as in a notebook.
    """
    code = DASK_SCRIPT.format(tests=str(ROOT / "tests"), died=str(tmp_path / "died"))
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (tmp_path / "died").exists()
    assert "A worker died" in result.stdout, result.stderr[-2000:]
    assert "equal: True" in result.stdout


def test_workers_that_always_die_end_the_sweep(nb, tmp_path):
    """After the allowed retries the sweep says what it has and where, and keeps it."""
    networks, protocol = small(nb)
    calls = []

    def trainer(chunk, protocol):
        calls.append(len(chunk))
        if len(calls) > 2:
            raise nb.BrokenProcessPool("no process is left")
        return nb.train_batched(chunk, protocol)

    with pytest.raises(RuntimeError, match="workers died 3 times; 2 of 6 chunks are in"):
        nb.sweep(networks, protocol, tmp_path, trainer, retries=2)
    assert len(calls) == 5
    assert len(list(tmp_path.glob("chunk-*.csv"))) == 2


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
from notebook_loader import load_definitions
nb = load_definitions("03", {root!r})
def slow(chunk, protocol):
    time.sleep(0.5)
    return nb.train_batched(chunk, protocol)
networks = nb.grid([1.0, 3.0], [1, 2, 3], [False, True], range(3))
nb.sweep(networks, nb.Protocol(max_epochs=1200), {folder!r}, slow)
"""


def test_killed_process_loses_nothing(nb, tmp_path):
    """A process killed in the middle leaves whole chunk files; the next start computes only the others."""
    networks, protocol = small(nb)
    folder = tmp_path / "chunks"
    code = SCRIPT.format(tests=str(ROOT / "tests"), root=str(tmp_path), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while len(list(folder.glob("chunk-*.csv"))) < 2 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None, "the sweep ended before it could be killed"
    finally:
        process.kill()
        process.wait()
    safe = len(list(folder.glob("chunk-*.csv")))
    assert 2 <= safe < 6
    computed = []

    def trainer(chunk, protocol):
        computed.append(len(chunk))
        return nb.train_batched(chunk, protocol)

    table = nb.sweep(networks, protocol, folder, trainer)
    assert len(computed) == 6 - safe
    assert table.equals(nb.sweep(networks, protocol, tmp_path / "other", nb.train_batched))
