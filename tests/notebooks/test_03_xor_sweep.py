"""Notebook 03: the batched engine equals the loop, statistics are right, and each check knows right from wrong."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from exercises import assert_never_raises, assert_verdict

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of notebook 03; its exercises are defined by their solutions."""
    return load_definitions("03", tmp_path_factory.mktemp("root"))


# ------------------------------------------------------------------ the engine


@pytest.mark.parametrize(("k", "bypass"), [(1, False), (2, True), (5, False)])
def test_start_is_xavier_uniform_with_zero_biases(nb, k, bypass):
    """Both layers fill their Xavier bounds, biases are 0, and the seed alone decides."""
    starts = nb.starting_weights(nb.grid([1.0], [k], [bypass], range(300))).T
    hidden, output = math.sqrt(6 / (2 + k)), math.sqrt(6 / (k + 2 * bypass + 1))
    w, b, v = starts[:, : 2 * k].abs(), starts[:, 2 * k : 3 * k], starts[:, 3 * k : -1].abs()
    assert starts.shape == (300, 4 * k + (3 if bypass else 1))
    assert 0.95 * hidden < w.max() <= hidden
    assert 0.95 * output < v.max() <= output
    assert not b.any() and not starts[:, -1].any()
    assert torch.equal(starts[7], nb.starting_weights(nb.grid([3.0], [k], [bypass], [7]))[:, 0])
    assert not torch.equal(starts[7], starts[8])


@pytest.mark.parametrize("bypass", [False, True])
def test_batch_and_module_compute_the_same(nb, bypass):
    """Logits and likelihood of a batch are those of the module."""
    batch = nb.NetworkBatch(nb.starting_weights(nb.grid([1.0], [3], [bypass], range(4))).double(), 3)
    for seed in range(4):
        with torch.no_grad():
            z = nb.make_network(3, bypass, seed).double()(nb.X.double())
        loss = F.binary_cross_entropy_with_logits(z, nb.T.double())
        assert torch.allclose(batch.z[:, seed], z, atol=1e-12)
        assert math.isclose(-math.log(batch.likelihood[seed]) / 8, loss, rel_tol=1e-10)


@pytest.mark.parametrize(("k", "bypass"), [(1, False), (1, True), (2, False), (3, True), (8, False)])
def test_gradients(nb, k, bypass):
    """The engine's gradients agree with autograd."""
    assert nb.gradient_error(k, bypass, range(3)) < 1e-12


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 5.0), ("momentum", 1.0), ("adam", 0.2)])
@pytest.mark.parametrize(("k", "bypass", "init"), [(2, False, "default"), (3, True, "xavier")])
def test_batched_equals_loop(nb, optimizer, lr, k, bypass, init):
    """Same stopping epoch and outcome in float64, losses to 1e-6, also after solved networks were taken out."""
    networks = nb.grid([lr, 1e-4], [k], [bypass], [1], [init], [optimizer])
    networks.index += 100
    rules = nb.Rules(max_epochs=850, goal=0.4, min_delta=1e-3)
    one = pd.DataFrame([nb.train_row(row, rules, torch.float64) for row in networks.itertuples()])
    many = nb.train_batched(networks, rules, torch.float64)
    assert one.solved.tolist() == [True, False]
    assert list(many.index) == [100, 101]
    assert one.solved.tolist() == many.solved.tolist()
    assert one.epochs.tolist() == many.epochs.tolist()
    assert np.allclose(one.loss, many.loss, rtol=0, atol=1e-6)


def test_divergence_stays_alone(nb):
    """A network with infinite weights fails, and its neighbors get their own results."""
    calm = nb.grid([3.0], [2], [True], range(3))
    mixed = pd.concat([calm, calm.assign(lr=1e39)], ignore_index=True)
    alone, together = (nb.train_batched(table, nb.Rules(max_epochs=2000)) for table in (calm, mixed))
    assert together.solved.tolist() == [True] * 3 + [False] * 3
    assert together.epochs[:3].tolist() == alone.epochs.tolist()
    assert np.allclose(together.loss[:3], alone.loss, atol=1e-6)


def test_run_all_keeps_the_order_of_the_networks(nb):
    """Each row of the table has the results of its own network, also when several kinds are mixed."""
    networks = nb.grid([3.0, 10.0], [1, 2], [False, True], range(2))
    rules = nb.Rules(max_epochs=300)

    def trainer(chunk, rules):
        assert len(chunk[["k", "bypass", "optimizer"]].drop_duplicates()) == 1
        return pd.DataFrame({"solved": chunk.bypass, "epochs": 1000 * chunk.k + chunk.seed, "loss": chunk.lr})

    with nb.parallel_config("threading"):
        table = nb.run_all(networks, rules, trainer)
    assert table.index.equals(networks.index)
    assert (table.epochs == 1000 * table.k + table.seed).all()
    assert (table.loss == table.lr).all() and (table.solved == table.bypass).all()


@pytest.mark.parametrize("bad", [([], [2], [True], [0]), ([-0.1], [2], [True], [0]), ([0.1], [0], [True], [0])])
def test_bad_grid(nb, bad):
    """Empty factors and impossible values are refused."""
    with pytest.raises(ValueError, match="lr > 0 and k >= 1"):
        nb.grid(*bad)


def test_mixed_batch_is_refused(nb):
    """A batch takes networks of one shape and one optimizer."""
    with pytest.raises(ValueError, match="2 kinds of networks"):
        nb.train_batched(nb.grid([1.0], [1, 2], [True], [0]), nb.Rules())


# ------------------------------------------------------------------ statistics


def test_intervals_cover_the_truth(nb):
    """The interval contains the true rate in about 95 % of many samples."""
    draws = np.random.default_rng(0).binomial(50, 0.8, 2000)
    ends = {s: nb.interval(s, 50) for s in set(draws)}
    assert 0.92 < np.mean([ends[s][0] <= 0.8 <= ends[s][1] for s in draws]) < 0.98


def test_ranking_counts_failures_and_unsound_successes(nb):
    """The cost is all epochs over sound successes; a setting without any is last and costs infinity."""
    runs = pd.DataFrame(
        {
            "lr": [1.0] * 3 + [2.0] * 2,
            "k": 2,
            "bypass": False,
            "solved": [True, True, False, True, False],
            "epochs": [100, 300, 1000, 10, 1000],
            "loss": [0.1, 0.1, 0.7, 0.5, 0.7],
        }
    )
    table = nb.ranking(runs)
    assert table.lr.tolist() == [1.0, 2.0]
    assert table.cost.tolist() == [700.0, math.inf]
    counts = nb.count_runs(runs)
    assert counts.failed.tolist() == [1, 1] and counts.epochs.tolist() == [200, 10]


@pytest.mark.parametrize("k", [1, 4, 16])
def test_stability_limit_at_zero(nb, k):
    """At weights of exactly 0 (hidden activations 1/2) the limit is 32 / (4 + k)."""
    limit = nb.stability_limits(torch.zeros(4 * k + 1, 1, dtype=torch.float64), k)
    assert limit.item() == pytest.approx(32 / (4 + k), rel=1e-6)


def test_stability_limit_against_autograd(nb):
    """At a random start it is 2 over the largest eigenvalue of the Hessian that autograd gives."""
    x, t = nb.X.double(), nb.T.double()

    def loss(theta):
        w1, w2, b, v = theta[:8].view(4, 2)
        z = torch.sigmoid(x[:4, :1] * w1 + x[:4, 1:] * w2 + b) @ v + x[:4] @ theta[8:10] + theta[10]
        return F.binary_cross_entropy_with_logits(z, t[:4])

    starts = 3 * nb.starting_weights(nb.grid([1.0], [2], [True], range(3))).double()
    expected = [2 / torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, start))[-1] for start in starts.T]
    assert torch.allclose(nb.stability_limits(starts, 2), torch.stack(expected), rtol=1e-6)


# ------------------------------------------------------------------ your turn


def rule(compare_last=False, from_zero=False, no_goal=False, no_delta=False):
    """Return a stopping rule with the mistakes asked for."""

    def stopping_epoch(losses, goal, min_delta, patience):
        best, last = math.inf, 0
        for epoch, loss in enumerate(losses, start=1):
            if loss < best - (0 if no_delta else min_delta):
                best, last = loss, epoch
            elif compare_last:
                best = loss
            if (no_goal or best < goal) and epoch - last >= patience:
                return epoch - from_zero
        return False

    return stopping_epoch


def wilson(nb, s, n, divide=True, swap=False):
    """Return the Wilson interval, with the mistakes asked for."""
    low, high = nb.interval(s, n)
    scale = 1 if divide else 1 + 1.96**2 / n
    return (high, low) if swap else (low * scale, high * scale)


def gradient(factor=1.0, slope=True, v_too=True):
    """Return a function for the gradient of w, with the mistakes asked for."""

    def gradient_w(x, t, h, v, z):
        delta = factor * (torch.sigmoid(z) - t[:, None])[:, None] / 4
        part = delta * (v if v_too else 1) * (h * (1 - h) if slope else torch.ones_like(h))
        return torch.tensordot(x.T, part, 1)

    return gradient_w


def answers(nb):
    """Return {name of the check: list of (answer, start of its verdict, word of its hint)}."""
    usual = lambda s, n: (s / n - 1.96 * (s / n * (1 - s / n) / n) ** 0.5,) * 2  # noqa: E731
    return {
        "check_stopping_epoch": [
            (rule(), "right", ""),
            (rule(from_zero=True), "not yet", "first epoch is 1"),
            (rule(no_delta=True), "not yet", "min_delta"),
            (rule(no_goal=True), "not yet", ""),
            (rule(compare_last=True), "not yet", ""),
        ],
        "check_wilson": [
            (lambda s, n: wilson(nb, s, n), "right", ""),
            (lambda s, n: wilson(nb, s, n, divide=False), "not yet", "divide by 1 + z²/n"),
            (lambda s, n: wilson(nb, s, n, swap=True), "not yet", "low comes first"),
            (usual, "not yet", "usual formula"),
            (lambda s, n: s / n, "not yet", "two numbers"),
            (lambda s, n: "ab", "not yet", "two numbers"),
        ],
        "check_share_unsolved": [
            (lambda runs, e: 1 - (runs.solved & (runs.epochs <= e)).mean(), "right", ""),
            (lambda runs, e: (runs.epochs > e).mean(), "not yet", "never solved"),
            (lambda runs, e: (runs.epochs[runs.solved] > e).mean(), "not yet", "divide by all"),
            (lambda runs, e: (runs.solved & (runs.epochs <= e)).mean(), "not yet", "who is left"),
            (lambda runs, e: 1 - (runs.solved & (runs.epochs < e)).mean(), "not yet", "solved at 30"),
        ],
        "check_cost": [
            (lambda runs: nb.ranking(runs.assign(lr=1, k=1, bypass=True)).cost[0], "right", ""),
            (lambda runs: runs.epochs[runs.solved].mean(), "not yet", "silent on failures"),
            (lambda runs: runs.epochs.mean(), "not yet", "divide by the successes"),
            (lambda runs: runs.epochs.sum() / runs.solved.sum(), "not yet", "above the goal"),
            (lambda runs: float(runs.epochs.sum()) / int(nb.is_sound(runs).sum()), "not yet", "math.inf"),
        ],
        "check_gradient_w": [
            (gradient(), "right", ""),
            (gradient(factor=-1), "not yet", "sign"),
            (gradient(factor=4), "not yet", "needs a 4"),
            (gradient(slope=False), "not yet", "h (1 - h)"),
            (gradient(v_too=False), "not yet", "v is missing"),
            (lambda x, t, h, v, z: gradient()(x, t, h, v, z).sum(2), "not yet", "shape"),
            (lambda x, t, h, v, z: "text", "not yet", "shape"),
        ],
        "check_runs_needed": [
            (lambda lower: next(n for n in itertools.count(1) if nb.interval(n, n)[0] > lower), "right", ""),
            (lambda lower: nb.runs_needed(lower) - 1, "not yet", "first n"),
            (lambda lower: 20, "not yet", "try more n"),
        ],
    }


CHECKS = ["stopping_epoch", "wilson", "share_unsolved", "cost", "gradient_w", "runs_needed"]


@pytest.mark.parametrize("name", CHECKS)
def test_checks_know_right_from_wrong(nb, name, capsys):
    """The notebook's solution is right; each typical mistake gets its own hint, in one line."""
    check = getattr(nb, f"check_{name}")
    check(getattr(nb, name))  # the solution stands after the stub, so it is the one defined
    assert capsys.readouterr().out.startswith("right:")
    for answer, verdict, hint in answers(nb)[f"check_{name}"]:
        assert_verdict(check, answer, verdict, hint, capsys)


@pytest.mark.parametrize("name", CHECKS)
def test_checks_never_raise(nb, name, capsys):
    """A stub, an error and nonsense are answered in one line, too."""
    assert_never_raises(getattr(nb, f"check_{name}"), capsys)
