"""How much faster the batched sweep of notebook 03 trains 10,000 networks than the plain loop trains them one by one.

    make bench BENCH=xor

The 10,000 networks are the nine published experiments of the notebook (the first of them one network larger), under
the full protocol: at most 40,000 epochs, validation after each epoch, early stopping. The batched sweep runs them all,
from drawing the weights to the table of results, in one process per core with one thread each.
The loop would need days, so its cost per network and epoch is measured, before and after, on networks of all nine
experiments, and multiplied by the epochs that the batched networks took. The time to start the worker processes is not
counted. At the end 100,000 networks run for 100 epochs, to see the memory that they need. The ratio and the memory go
to logs/benchmarks/xor_sweep.json.
"""

import resource
import tempfile
import time

import cloudpickle
import pandas as pd
import torch
from joblib import Parallel, cpu_count, delayed

from tools.benchmarks import keep
from tools.definitions import load_definitions

NUM_NETWORKS, MANY_NETWORKS, CHUNK = 10_000, 100_000, 4_000
NINE = [  # (learning rate, hidden units, bypass) of the published experiments
    (0.25, 1, True), (0.1, 4, False), (0.1, 2, True), (0.1, 4, True), (0.1, 2, False),
    (0.01, 2, False), (0.01, 2, True), (0.01, 4, False), (0.01, 4, True),
]  # fmt: skip


def experiments(nb, num_networks):
    """Return a table of `num_networks` networks, shared evenly among the nine published experiments."""
    share, rest = divmod(num_networks, len(NINE))
    cells = [nb.grid([lr], [k], [bypass], range(share + (i < rest))) for i, (lr, k, bypass) in enumerate(NINE)]
    return pd.concat(cells, ignore_index=True)


def loop_cost(nb, num_epochs=600):
    """Return the seconds per network and epoch of the plain loop: the mean over one network of each experiment."""
    rows = list(experiments(nb, len(NINE)).itertuples())
    nb.train_row(rows[0], nb.Rules(max_epochs=20))
    start = time.perf_counter()
    epochs = sum(nb.train_row(row, nb.Rules(max_epochs=num_epochs))["epochs"] for row in rows)
    return (time.perf_counter() - start) / epochs


def time_sweep(nb, networks, processes, rules):
    """Return (seconds, network-epochs, share solved) of a batched sweep of `networks` on warm `processes`."""
    chunks = [
        group.iloc[start : start + CHUNK]
        for _, group in networks.groupby(["k", "bypass"])
        for start in range(0, len(group), CHUNK)
    ]
    chunks.sort(key=lambda chunk: -len(chunk) * (chunk.k.iloc[0] + 2))
    pool = Parallel(processes)
    pool(delayed(nb.train_batched)(networks[:1], nb.Rules(max_epochs=1)) for _ in range(4 * processes))
    start = time.perf_counter()
    results = pd.concat(pool(delayed(nb.train_batched)(chunk, rules) for chunk in chunks))
    seconds = time.perf_counter() - start
    return seconds, int(results.epochs.sum()), float(results.solved.mean())


def main():
    """Time both, print the ratio, and write it with the hardware to logs/benchmarks/xor_sweep.json."""
    with tempfile.TemporaryDirectory() as folder:
        nb = load_definitions("03", folder)
    cloudpickle.register_pickle_by_value(nb)
    torch.set_num_threads(1)
    cores = cpu_count()
    before = loop_cost(nb)
    seconds, epochs, solved = time_sweep(nb, experiments(nb, NUM_NETWORKS), cores, nb.Rules())
    after = loop_cost(nb)
    cost = (before + after) / 2
    time_sweep(nb, experiments(nb, MANY_NETWORKS), cores, nb.Rules(max_epochs=100))
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    numbers = {
        "networks": NUM_NETWORKS,
        "ratio": round(epochs * cost / seconds),
        "loop_microseconds_per_network_epoch": {"before": round(1e6 * before, 1), "after": round(1e6 * after, 1)},
        "batched_seconds": round(seconds, 2),
        "network_epochs": epochs,
        "million_network_epochs_per_second": round(epochs / seconds / 1e6, 2),
        "share_solved": round(solved, 4),
        "peak_memory_MB_with_100000_networks": round(memory / 1024),
        "processes": cores,
        "threads_per_process": 1,
    }
    path = keep("xor_sweep", numbers)
    print(f"loop      {1e6 * cost:8.1f} microseconds per network and epoch")
    print(f"batched   {1e6 * seconds / epochs:8.4f} microseconds, {cores} processes, {NUM_NETWORKS:,} networks")
    print(f"batched / loop at {NUM_NETWORKS:,} networks: {numbers['ratio']:,} times the speed")
    print(f"largest process with {MANY_NETWORKS:,} networks: {memory / 1024:.0f} MB    ({path})")


if __name__ == "__main__":
    main()
