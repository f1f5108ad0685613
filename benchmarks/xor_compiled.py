"""How much faster the sweep of notebook 03 is as a compiled kernel than as a plain loop over networks.

    make bench BENCH=xor_compiled

The networks are those of xor_sweep.py, under the same full protocol, 10,000 and 100,000 of them, from drawing the
weights to the table of results, one thread per core. The loop's cost per network and epoch is measured before and
after. The time to compile is not counted, but reported. Each sweep runs in a process of its own that never imports
torch, which would take half a gigabyte; its largest resident memory is reported, before the sweep and at the end.
Notebook 03 has the batched sweep to read; this one is for speed alone.

A block trains LANES networks side by side, small enough for the fastest cache. The inner loops run over the lanes, so
that the compiler turns each into vector instructions. A lane whose network has stopped takes the next one at once, so
no time is spent on networks that are done. All numbers have single precision, and gradient descent is the only
optimizer.
"""

import math
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from joblib import cpu_count
from numba import njit

from tools.benchmarks import keep
from tools.definitions import load_definitions

SIZES, LANES = (10_000, 100_000), 64
FAST = {"fastmath": True, "error_model": "numpy", "nogil": True}


@njit(**FAST)
def apply_sigmoid(z):
    """Replace each number of z (flat, float32) by its sigmoid; the largest error is below 3e-7.

    The sigmoid is 1/2 + tanh(z/2)/2, with tanh as a ratio of polynomials; their coefficients are those of the
    function `ptanh_float` of the Eigen library.
    """
    for i in range(z.size):
        x = np.float32(0.5) * z[i]
        x = x if x < np.float32(7.9053111) else np.float32(7.9053111)
        x = x if x > np.float32(-7.9053111) else np.float32(-7.9053111)
        s = x * x
        p = s * np.float32(-2.76076847742355e-16) + np.float32(2.00018790482477e-13)
        p = s * p + np.float32(-8.60467152213735e-11)
        p = s * p + np.float32(5.12229709037114e-08)
        p = s * p + np.float32(1.48572235717979e-05)
        p = s * p + np.float32(6.37261928935436e-04)
        p = s * p + np.float32(4.89352455891786e-03)
        q = s * np.float32(1.19825839466702e-06) + np.float32(1.18534705686654e-04)
        q = s * q + np.float32(2.26843463243900e-03)
        q = s * q + np.float32(4.89352518554385e-03)
        z[i] = np.float32(0.5) + np.float32(0.5) * (x * p / q)


@njit(**FAST)
def weighted_sum(out, a, b, c, x0, x1):
    """Set out = a x0 + b x1 + c, lane by lane; x0 and x1 are numbers."""
    for i in range(LANES):
        out[i] = a[i] * x0 + b[i] * x1 + c[i]


@njit(**FAST)
def add_product(out, a, b):
    """Add a b to out, lane by lane."""
    for i in range(LANES):
        out[i] += a[i] * b[i]


@njit(**FAST)
def forward(x, sign, w, v, u, h, right, likelihood):
    """Compute h (8, k, lanes), the probability `right` (8, lanes) of each right answer, and their product.

    x (8, 2) are the patterns, sign (8) is +1 or -1 by their class; w (3, k, lanes) and v (k, lanes) are the weights of
    the hidden units (inputs and bias, output), u (3, lanes) those of the bypass and the output's bias.
    """
    k = h.shape[1]
    for p in range(8):
        for j in range(k):
            weighted_sum(h[p, j], w[0, j], w[1, j], w[2, j], x[p, 0], x[p, 1])
    apply_sigmoid(h.reshape(-1))
    for p in range(8):
        weighted_sum(right[p], u[0], u[1], u[2], x[p, 0], x[p, 1])
        for j in range(k):
            add_product(right[p], v[j], h[p, j])
        for i in range(LANES):
            right[p, i] *= sign[p]
    apply_sigmoid(right.reshape(-1))
    for i in range(LANES):
        likelihood[i] = right[0, i] * right[1, i] * right[2, i] * right[3, i]
        likelihood[i] *= right[4, i] * right[5, i] * right[6, i] * right[7, i]


@njit(**FAST)
def descend(x, sign, w, v, u, h, right, lr, bypass):
    """Make one step of gradient descent at rates lr (lanes) on the 4 training patterns; `right` is used up."""
    for p in range(4):
        for i in range(LANES):  # the rate times the derivative of the mean loss for the logit
            right[p, i] = (right[p, i] - 1) * sign[p] * np.float32(0.25) * lr[i]
    for j in range(h.shape[1]):
        for i in range(LANES):
            g0, g1, g2, gv = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for p in range(4):
                delta, a = right[p, i], h[p, j, i]
                e = delta * v[j, i] * a * (1 - a)
                g0, g1, g2, gv = g0 + e * x[p, 0], g1 + e * x[p, 1], g2 + e, gv + delta * a
            w[0, j, i] -= g0
            w[1, j, i] -= g1
            w[2, j, i] -= g2
            v[j, i] -= gv
    for p in range(4):
        for i in range(LANES):
            u[0, i] -= bypass * right[p, i] * x[p, 0]
            u[1, i] -= bypass * right[p, i] * x[p, 1]
            u[2, i] -= right[p, i]


@njit(nogil=True, error_model="numpy")
def train(W, V, U, rates, bypass, x, sign, growth, goal, patience, max_epochs, solved, epochs):
    """Train n networks, W (3, k, n), V (k, n), U (3, n), in place; fill solved (n) and epochs (n).

    A network has improved when its likelihood exceeds `growth` times that of its last improvement. It stops as
    solved after `patience` epochs without one if that product is above `goal`, else after `max_epochs`.
    """
    _, k, n = W.shape
    w, v, u = np.zeros((3, k, LANES), W.dtype), np.zeros((k, LANES), W.dtype), np.zeros((3, LANES), W.dtype)
    h, right, likelihood = np.zeros((8, k, LANES), W.dtype), np.zeros((8, LANES), W.dtype), np.zeros(LANES, W.dtype)
    lr, limit = np.zeros(LANES, W.dtype), np.zeros(LANES, W.dtype)
    last, epoch, network = np.zeros(LANES, np.int32), np.zeros(LANES, np.int32), np.full(LANES, -1)
    waited, following, running = np.zeros(LANES, np.bool_), 0, 0
    while True:
        for i in range(LANES):
            if network[i] < 0 and following < n:
                network[i] = following
                w[:, :, i], v[:, i], u[:, i] = W[:, :, following], V[:, following], U[:, following]
                lr[i], limit[i], last[i], epoch[i] = rates[following], 0, 0, 0
                following += 1
                running += 1
        if running == 0:
            return
        forward(x, sign, w, v, u, h, right, likelihood)
        stopped = 0
        while stopped == 0:
            descend(x, sign, w, v, u, h, right, lr, bypass)
            forward(x, sign, w, v, u, h, right, likelihood)
            for i in range(LANES):
                epoch[i] += 1
                better = likelihood[i] > limit[i]
                last[i] = epoch[i] if better else last[i]
                limit[i] = likelihood[i] * growth if better else limit[i]
                waited[i] = (epoch[i] - last[i] >= patience) & (limit[i] > goal)
                stopped += (network[i] >= 0) & (waited[i] | (epoch[i] >= max_epochs))
        for i in range(LANES):
            c = network[i]
            if c >= 0 and (waited[i] or epoch[i] >= max_epochs):
                W[:, :, c], V[:, c], U[:, c] = w[:, :, i], v[:, i], u[:, i]
                solved[c], epochs[c], network[i], lr[i] = waited[i], epoch[i], -1, 0
                running -= 1


def draw_weights(k, bypass, seeds):
    """Return the initial weights (rows, n) that `starting_weights` of notebook 03 gives, without torch.

    torch and NumPy's RandomState have the same generator, the Mersenne Twister (Matsumoto and Nishimura 1998), seeded
    alike; torch.rand takes the lowest 24 of 32 bits. `make_network` draws each layer twice, first as nn.Linear does
    and then by Xavier's rule (Glorot and Bengio 2010), which is what counts; so the first numbers are left out.
    """
    fan = k + 2 * bypass  # inputs of the output unit
    skipped, numbers = 3 * k + fan + 1, {}
    for seed in set(seeds):
        drawn = np.random.RandomState(seed).randint(2**32, size=skipped + 2 * k + fan, dtype=np.uint32)
        numbers[seed] = (drawn[skipped:] % 2**24).astype(np.float32) / np.float32(2**24)
    uniform = 2 * np.stack([numbers[seed] for seed in seeds], axis=1) - 1
    hidden = math.sqrt(6 / (2 + k)) * uniform[: 2 * k].reshape(k, 2, -1).transpose(1, 0, 2).reshape(2 * k, -1)
    output = math.sqrt(6 / (fan + 1)) * uniform[2 * k :]
    zeros = np.zeros_like(output[:1])
    return np.concatenate([hidden, np.repeat(zeros, k, axis=0), output, zeros]).astype(np.float32)


def losses(theta, k, x, sign):
    """Return the mean cross-entropy (n,) on all patterns of networks with the weights theta (rows, n)."""
    theta, ones = theta.astype(float), np.ones((len(x), 1))
    inputs = np.hstack([x, ones])
    h = 1 / (1 + np.exp(-np.tensordot(inputs, theta[: 3 * k].reshape(3, k, -1), 1)))
    z = (h * theta[3 * k : 4 * k]).sum(axis=1) + inputs[:, 4 * k - len(theta) :] @ theta[4 * k :]
    return np.logaddexp(0, -z * sign[:, None]).mean(axis=0)


def train_compiled(x, t, networks, rules, threads=1):
    """Train the table `networks` of one k and bypass; return results as `train_batched` of notebook 03.

    x (8, 2) are the patterns and t (8,) their targets, the first four to train on. Each of `threads` threads takes a
    part of the networks. ValueError for several kinds, or another optimizer or init.
    """
    kinds = networks[["k", "bypass", "optimizer", "init"]].drop_duplicates()
    if len(kinds) != 1 or (kinds.optimizer.iloc[0], kinds.init.iloc[0]) != ("sgd", "xavier"):
        raise ValueError("this takes networks of one k and bypass, the optimizer sgd and the init xavier")
    k, bypass, n = int(kinds.k.iloc[0]), bool(kinds.bypass.iloc[0]), len(networks)
    theta = draw_weights(k, bypass, networks.seed.tolist())
    U = np.zeros((3, n), theta.dtype)
    U[0 if bypass else 2 :] = theta[4 * k :]
    rates = networks.lr.to_numpy(theta.dtype)
    sign = 2 * t - 1
    growth = np.float32(math.exp(8 * rules.min_delta))
    goal = np.float32(math.exp(-8 * (rules.goal - rules.min_delta)))

    def part(number):
        columns = slice(n * number // threads, n * (number + 1) // threads)
        W, V = theta[: 3 * k, columns].reshape(3, k, -1), theta[3 * k : 4 * k, columns].copy()
        mine, W, found, epochs = U[:, columns].copy(), W.copy(), np.zeros(W.shape[2], bool), np.zeros(W.shape[2], int)
        train(
            W, V, mine, rates[columns], np.float32(bypass), x, sign, growth, goal, rules.patience, rules.max_epochs,
            found, epochs,
        )  # fmt: skip
        rest = mine if bypass else mine[2:]
        return np.concatenate([W.reshape(3 * k, -1), V, rest]), found, epochs

    with ThreadPoolExecutor(threads) as pool:
        thetas, solved, epochs = (np.concatenate(parts, axis=-1) for parts in zip(*pool.map(part, range(threads))))
    loss = losses(thetas, k, x, sign)
    return pd.DataFrame({"solved": solved, "epochs": epochs, "loss": loss}, index=networks.index)


def peak_memory():
    """Return the largest resident memory of this process so far, in MB.

    Linux says so in /proc; `getrusage` there counts the process from which this one was started, too.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def time_sweep(x, t, networks, rules, threads):
    """Compile, then train the table `networks`; return a record with seconds, network-epochs and memory."""
    start = time.perf_counter()
    train_compiled(x, t, networks[:2], SimpleNamespace(**vars(rules) | {"max_epochs": 2}))
    compiled, memory = time.perf_counter(), peak_memory()
    kinds = [kind for _, kind in networks.groupby(["k", "bypass"])]
    results = pd.concat([train_compiled(x, t, kind, rules, threads) for kind in kinds])
    seconds, epochs = time.perf_counter() - compiled, int(results.epochs.sum())
    return {
        "networks": len(networks),
        "seconds": round(seconds, 2),
        "network_epochs": epochs,
        "million_network_epochs_per_second": round(epochs / seconds / 1e6, 2),
        "share_solved": round(float(results.solved.mean()), 4),
        "seconds_to_compile": round(compiled - start, 1),
        "peak_memory_MB": {"before": round(memory), "end": round(peak_memory())},
    }


def main():
    """Time both, print the ratios, and write them with the hardware to logs/benchmarks/xor_compiled.json."""
    from xor_sweep import experiments, loop_cost  # needs torch, and the processes of the sweeps must not import it

    with tempfile.TemporaryDirectory() as folder:
        nb = load_definitions("03", folder)
    x, t, rules, threads = nb.X.numpy(), nb.T.numpy(), SimpleNamespace(**vars(nb.Rules())), cpu_count()
    before, sweeps = loop_cost(nb), []
    for size in SIZES:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            sweeps.append(alone.submit(time_sweep, x, t, experiments(nb, size), rules, threads).result())
    after = loop_cost(nb)
    for sweep in sweeps:
        sweep["ratio"] = round(sweep["network_epochs"] * (before + after) / 2 / sweep["seconds"])
        memory = sweep["peak_memory_MB"]
        print(
            f"{sweep['networks']:,} networks: {sweep['seconds']:.1f} s, {sweep['ratio']:,} times the speed of the loop,"
            f" {sweep['share_solved']:.1%} solved, {memory['before']} MB before, {memory['end']} MB at the end"
        )
    loop = {"before": round(1e6 * before, 1), "after": round(1e6 * after, 1)}
    numbers = {"ratio": sweeps[-1]["ratio"], "threads": threads, "sweeps": sweeps}
    print(keep("xor_compiled", numbers | {"loop_microseconds_per_network_epoch": loop}))


if __name__ == "__main__":
    main()
