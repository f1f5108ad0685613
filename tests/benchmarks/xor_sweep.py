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

import json
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

import cloudpickle
import pandas as pd
import torch
from joblib import Parallel, delayed, parallel_config

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from notebook_loader import load_definitions  # noqa: E402

NUM_NETWORKS, MANY_NETWORKS, CHUNK = 10_000, 100_000, 4_000


def experiments(nb, num_networks):
    """Return a table of `num_networks` networks, shared evenly among the nine published experiments."""
    share, rest = divmod(num_networks, len(nb.NINE))
    cells = [nb.grid([lr], [k], [bypass], range(share + (i < rest))) for i, (lr, k, bypass) in enumerate(nb.NINE)]
    return pd.concat(cells, ignore_index=True)


def loop_cost(nb, num_epochs=600):
    """Return the seconds per network and epoch of the plain loop: the mean over one network of each experiment."""
    networks = experiments(nb, len(nb.NINE))
    nb.train_loop(networks[:1], nb.Protocol(max_epochs=20))
    start = time.perf_counter()
    results = nb.train_loop(networks, nb.Protocol(max_epochs=num_epochs))
    return (time.perf_counter() - start) / results.epochs.sum()


def time_sweep(nb, networks, processes, protocol):
    """Return (seconds, network-epochs, share solved) of a batched sweep of `networks` on warm `processes`."""
    with tempfile.TemporaryDirectory() as folder, parallel_config("loky", n_jobs=processes):
        if processes > 1:
            short = nb.Protocol(max_epochs=1)
            Parallel()(delayed(nb.train_batched)(networks[:1], short) for _ in range(4 * processes))
        start = time.perf_counter()
        results = nb.sweep(networks, protocol, folder, nb.train_batched, CHUNK, name=f"{processes} processes")
        seconds = time.perf_counter() - start
    return seconds, int(results.epochs.sum()), float((results.outcome == "solved").mean())


def main():
    """Time both, print the ratio, and write it with the hardware to logs/benchmarks/xor_sweep.json."""
    with tempfile.TemporaryDirectory() as folder:
        nb = load_definitions("03", folder)
    cloudpickle.register_pickle_by_value(nb)
    torch.set_num_threads(1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    before = loop_cost(nb)
    seconds, epochs, solved = time_sweep(nb, experiments(nb, NUM_NETWORKS), cores, nb.PROTOCOL)
    after = loop_cost(nb)
    cost = (before + after) / 2
    time_sweep(nb, experiments(nb, MANY_NETWORKS), cores, nb.Protocol(max_epochs=100))
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    record = {
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
        "machine": platform.machine(),
        "processor": processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    path = ROOT / "logs" / "benchmarks" / "xor_sweep.json"
    nb.write_atomically(path, lambda temporary: Path(temporary).write_text(json.dumps(record, indent=1) + "\n"))
    print(f"loop      {1e6 * cost:8.1f} microseconds per network and epoch")
    print(f"batched   {1e6 * seconds / epochs:8.4f} microseconds, {cores} processes, {NUM_NETWORKS:,} networks")
    print(f"batched / loop at {NUM_NETWORKS:,} networks: {record['ratio']:,} times the speed")
    print(f"largest process with {MANY_NETWORKS:,} networks: {memory / 1024:.0f} MB")


def processor():
    """Return the processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()
