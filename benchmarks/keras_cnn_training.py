"""Which way of feeding and compiling trains the small network of notebook 08 fastest on this machine.

    make bench BENCH=keras

Everything in one run and in one process: the baseline network of notebook 08 trains on the same images with

- the batch sizes 16, 32, 64 and 128,
- the notebook's stream of batches, NumPy arrays, tensors in memory, and three other tf.data pipelines as input,
- 1, 10 and all updates of an epoch per call of the compiled function (`steps_per_execution`),
- `jit_compile` off and on, whose compilation is paid once per run,
- `model.fit`, and a loop over `train_on_batch`.

The ways take turns in several rounds, so that a slow moment of the machine meets all of them. An epoch's time is the
median over all rounds, without the first epoch of each fit; the time to start a fit is its first epoch minus that.
Processor seconds stand beside seconds, because other programs may run at the same time. The ratios compare with the
way that the notebook takes, with one thread per operation as there.

Then whole runs, building and compiling included: one after the other with TensorFlow's default threads (in a process
of its own), one after the other with one thread, and two at a time, as in the notebook. Written to
logs/benchmarks/keras_cnn_training.json.
"""

import gc
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tools.course import ROOT
from tools.definitions import load_definitions

NUM_IMAGES, NUM_EPOCHS, NUM_ROUNDS, BATCH = 4_096, 3, 2, 32  # whole batches of every size
NUM_RUNS = 6  # of whole runs
DEFAULT_THREADS = "--default-threads"
if DEFAULT_THREADS not in sys.argv:
    os.environ["TF_NUM_INTRAOP_THREADS"], os.environ["TF_NUM_INTEROP_THREADS"] = "1", "2"  # as in the notebook


def clear(nb):
    """Clear the state of earlier models."""
    nb.keras.backend.clear_session()
    gc.collect()


def compiled_model(nb, jit_compile=False, steps=1):
    """Return the baseline network, fresh and compiled, after the state of earlier ones is cleared."""
    clear(nb)
    nb.keras.utils.set_random_seed(0)
    model = nb.build_cnn(nb.BASELINE)
    loss = nb.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metric = nb.keras.metrics.SparseCategoricalAccuracy("accuracy")
    model.compile(
        nb.keras.optimizers.Adam(1e-3), loss, metrics=[metric], jit_compile=jit_compile, steps_per_execution=steps
    )
    return model


class EpochClock:
    """Seconds and processor seconds of each epoch."""

    def __init__(self):
        self.seconds, self.processor = [], []

    def begin(self):
        """Start an epoch."""
        self.start = time.perf_counter(), time.process_time()

    def end(self):
        """End an epoch."""
        self.seconds.append(time.perf_counter() - self.start[0])
        self.processor.append(time.process_time() - self.start[1])


def fit_way(nb, X, y, batch_size=BATCH, source="stream", jit_compile=False, steps=None):
    """Return the EpochClock of a `model.fit` with one kind of input; `steps` updates per call, None for an epoch."""
    tf, clock = nb.tf, EpochClock()
    model = compiled_model(nb, jit_compile, steps or len(X) // batch_size)
    watch = nb.keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: clock.begin(), on_epoch_end=lambda epoch, logs: clock.end()
    )
    options = {"epochs": NUM_EPOCHS, "verbose": 0, "callbacks": [watch]}
    if source == "stream":
        updates = len(X) // batch_size
        stream = nb.batch_stream(X, y, updates * NUM_EPOCHS, batch_size, seed=0)
        model.fit(stream, steps_per_epoch=updates, shuffle=False, **options)
        return clock
    if source == "NumPy":
        model.fit(X, y, batch_size, **options)
        return clock
    X, y = tf.constant(X), tf.constant(y)
    if source == "tensors":
        model.fit(X, y, batch_size=batch_size, **options)
        return clock
    if source == "tf.data of rows":
        pipeline = tf.data.Dataset.from_tensor_slices((X, y)).shuffle(len(X)).batch(batch_size)
    elif source == "tf.data of indices":
        pipeline = tf.data.Dataset.range(len(X)).shuffle(len(X)).batch(batch_size)
        pipeline = pipeline.map(lambda index: (tf.gather(X, index), tf.gather(y, index)), tf.data.AUTOTUNE)
    elif source == "tf.data of fixed batches":
        pipeline = tf.data.Dataset.from_tensor_slices((X, y)).batch(batch_size).cache().shuffle(len(X) // batch_size)
    else:
        raise ValueError(f"source is {source!r}; use 'stream', 'NumPy', 'tensors' or one of the three 'tf.data of ...'")
    model.fit(pipeline.prefetch(2), **options)
    return clock


def batch_way(nb, X, y, batch_size=BATCH):
    """Return the EpochClock of a plain loop over `train_on_batch`."""
    clock, model, rng = EpochClock(), compiled_model(nb), np.random.default_rng(0)
    for _ in range(NUM_EPOCHS):
        clock.begin()
        order = rng.permutation(len(X))
        for start in range(0, len(X), batch_size):
            index = order[start : start + batch_size]
            model.train_on_batch(X[index], y[index])
        clock.end()
    return clock


def measure(nb, X, y):
    """Return {way: {"epoch", "processor", "start"}} in seconds, the medians over all rounds."""
    ways = {"stream, batch 32, an epoch per call (the notebook's way)": {}}
    ways |= {f"... batch {size}": {"batch_size": size} for size in (16, 64, 128)}
    sources = ("NumPy", "tensors", "tf.data of rows", "tf.data of indices", "tf.data of fixed batches")
    ways |= {f"... {source}": {"source": source} for source in sources}
    ways |= {f"... {steps} updates per call": {"steps": steps} for steps in (1, 10)}
    ways |= {
        "... jit_compile": {"jit_compile": True},
        "... jit_compile, 1 update per call": {"jit_compile": True, "steps": 1},
    }
    ways |= {"... train_on_batch": None}
    clocks = {name: [] for name in ways}
    for number in range(1, NUM_ROUNDS + 1):
        for name, options in ways.items():
            clock = batch_way(nb, X, y) if options is None else fit_way(nb, X, y, **options)
            clocks[name].append(clock)
            print(f"round {number}/{NUM_ROUNDS}: {name:55} {np.median(clock.seconds[1:]):.2f} s per epoch", flush=True)
    result = {}
    for name, group in clocks.items():
        epoch = np.median([value for clock in group for value in clock.seconds[1:]])
        processor = np.median([value for clock in group for value in clock.processor[1:]])
        start = np.median([clock.seconds[0] for clock in group]) - epoch
        result[name] = {"epoch": round(epoch, 3), "processor": round(processor, 3), "start": round(start, 3)}
    return result


class NoBar:
    """A progress bar that shows nothing."""

    def set_description_str(self, text):
        """Do nothing."""

    def update(self, n=1):
        """Do nothing."""


def seconds_per_run(nb, X, y, at_a_time):
    """Return the seconds per run of some runs of the baseline in the laptop budget, so many at a time."""
    data = (X[: nb.NUM_TRAIN], y[: nb.NUM_TRAIN], X[-nb.NUM_VALID :], y[-nb.NUM_VALID :])

    def run(seed):
        watcher = nb.RunWatcher(NoBar(), "", nb.BASELINE["num_epochs"])
        nb.trained_model(nb.build_cnn, nb.BASELINE, seed, data, watcher)

    run(0)  # a warm-up
    clear(nb)
    start = time.perf_counter()
    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(run, range(NUM_RUNS)))
    return round((time.perf_counter() - start) / NUM_RUNS, 2)


def whole_runs(nb, X, y):
    """Return {way: seconds per run}; the way with TensorFlow's default threads is measured in a process of its own."""
    child = subprocess.run([sys.executable, __file__, DEFAULT_THREADS], stdout=subprocess.PIPE, text=True, check=True)
    return {
        "one after the other, default threads": float(child.stdout.split()[-1]),
        "one after the other, one thread": seconds_per_run(nb, X, y, 1),
        "two at a time, one thread each (the notebook's way)": seconds_per_run(nb, X, y, 2),
    }


def main():
    """Measure all ways, print them with their ratios, and write logs/benchmarks/keras_cnn_training.json."""
    nb = load_definitions("08")
    mnist = nb.load_mnist(ROOT / "data" / "MNIST" / "raw")
    if mnist.source != "MNIST":
        sys.exit("This benchmark needs the real MNIST files; see data/README.md.")
    X, y = nb.gray_images(mnist.X_train), mnist.y_train
    if DEFAULT_THREADS in sys.argv:
        print(seconds_per_run(nb, X, y, 1))
        return
    runs, ways = whole_runs(nb, X, y), measure(nb, X[:NUM_IMAGES], y[:NUM_IMAGES])
    ours = next(iter(ways.values()))
    for way in ways.values():
        way["ratio"] = round(way["epoch"] / ours["epoch"], 2)
        way["ratio_of_five_epochs"] = round((way["start"] + 5 * way["epoch"]) / (ours["start"] + 5 * ours["epoch"]), 2)
    record = {
        "benchmark": "keras_cnn_training", "images": NUM_IMAGES, "rounds": NUM_ROUNDS, "ways": ways,
        "seconds_per_run": runs,
        "machine": platform.machine(), "cores": os.cpu_count(), "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "keras": nb.keras.__version__, "tensorflow": nb.tf.__version__, "python": platform.python_version(),
    }  # fmt: skip
    path = ROOT / "logs" / "benchmarks" / "keras_cnn_training.json"
    nb.save_file(path, lambda temporary: Path(temporary).write_text(json.dumps(record, indent=1) + "\n"))
    print(f"\n{'way':55} s/epoch  cpu s  start s  ratio  ratio of a run of 5 epochs")
    for name, way in ways.items():
        numbers = f"{way['epoch']:7.2f} {way['processor']:6.2f} {way['start']:8.2f} {way['ratio']:6.2f}"
        print(f"{name:55} {numbers} {way['ratio_of_five_epochs']:8.2f}")
    print("\nseconds per run:", *(f"{seconds:8.2f}  {name}" for name, seconds in runs.items()), sep="\n")
    print(f"\nratios above 1 are slower than the notebook's way    ({path.relative_to(ROOT)})")


if __name__ == "__main__":
    main()
