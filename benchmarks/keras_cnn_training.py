"""How fast the first network of notebook 08 trains: Keras `fit` in four ways, and the same network in PyTorch in two.

    make bench BENCH=keras

Everything in one run and one process: the same images, batches of 128, Adam, dropout, all cores. Keras trains with 1,
10 and 50 batches per call of its compiled function (`steps_per_execution`), and with `jit_compile`; PyTorch trains a
plain loop over images in memory, in its usual layout and in `channels_last`. The ways take turns in several rounds, so
that a slow moment of the machine meets all of them. An epoch's time is the median over all rounds without each round's
first epoch; the time to start is that first epoch minus an epoch, with building and compiling. The ratios compare with
the notebook's way. Written to logs/benchmarks/keras_cnn_training.json.
"""

import tempfile
import time

import numpy as np
import torch
import torch._dynamo  # before TensorFlow
from torch import nn

from tools.benchmarks import keep
from tools.course import ROOT
from tools.definitions import load_definitions

NUM_IMAGES, NUM_EPOCHS, NUM_ROUNDS, BATCH = 6_400, 3, 2, 128
OURS = "Keras, 10 batches per call (the notebook's way)"


def keras_epochs(nb, X, y, steps=10, jit=False):
    """Return the seconds of each epoch of a Keras `fit`, building and compiling in the first."""
    ends = [time.perf_counter()]
    model = nb.build_network(nb.BASELINE | {"channels": 16, "width": 128, "dropout": 0.4})
    model.compile(
        nb.keras.optimizers.Adam(3e-3),
        nb.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=steps,
        jit_compile=jit,
    )
    watch = nb.keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter()))
    model.fit(X, y, batch_size=BATCH, epochs=NUM_EPOCHS, verbose=0, callbacks=[watch])
    return np.diff(ends)


def torch_network():
    """Return the same network in PyTorch: images (n, 1, 28, 28) to ten logits."""
    features = [nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Flatten(), nn.Linear(800, 128), nn.ReLU(), nn.Dropout(0.4), nn.Linear(128, 10)]
    return nn.Sequential(*features, *head)


def torch_epochs(X, y, layout=torch.contiguous_format):
    """Return the seconds of each epoch of a plain PyTorch loop, building in the first; loss and accuracy are kept."""
    ends = [time.perf_counter()]
    X = torch.from_numpy(X).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    y, model = torch.from_numpy(y), torch_network().to(memory_format=layout)
    optimizer, loss_of = torch.optim.Adam(model.parameters(), 3e-3), nn.CrossEntropyLoss()
    for _ in range(NUM_EPOCHS):
        total, correct = 0.0, 0
        for index in torch.randperm(len(X)).split(BATCH):
            logits = model(X[index])
            loss = loss_of(logits, y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
            correct += (logits.detach().argmax(1) == y[index]).sum()
        ends.append(time.perf_counter())
    return np.diff(ends)


def measure(nb, X, y):
    """Return {way: {"epoch", "start", "ratio"}}: seconds, and seconds of an epoch over those of the notebook's way."""
    ways = {
        OURS: lambda: keras_epochs(nb, X, y),
        "Keras, 1 batch per call": lambda: keras_epochs(nb, X, y, steps=1),
        "Keras, 50 batches per call, an epoch": lambda: keras_epochs(nb, X, y, steps=50),
        "Keras, jit_compile, 10 batches per call": lambda: keras_epochs(nb, X, y, jit=True),
        "PyTorch": lambda: torch_epochs(X, y),
        "PyTorch, channels_last": lambda: torch_epochs(X, y, torch.channels_last),
    }
    seconds = {name: [] for name in ways}
    for number in range(1, NUM_ROUNDS + 1):
        for name, way in ways.items():
            seconds[name].append(way())
            print(f"round {number}/{NUM_ROUNDS}: {name:50} {seconds[name][-1].round(2)} s per epoch", flush=True)
    result = {}
    for name, rounds in seconds.items():
        epoch = float(np.median([later for first, *later in rounds]))
        start = float(np.median([first for first, *later in rounds])) - epoch
        result[name] = {"epoch": round(epoch, 3), "start": round(start, 3)}
    for row in result.values():
        row["ratio"] = round(row["epoch"] / result[OURS]["epoch"], 2)
    return result


def main():
    """Measure all ways, print them, and write logs/benchmarks/keras_cnn_training.json."""
    with tempfile.TemporaryDirectory() as folder:
        nb = load_definitions("08", folder)
    mnist = nb.load_mnist(ROOT / "data" / "MNIST" / "raw")
    X, y = nb.gray_images(mnist.X_train[:NUM_IMAGES]), mnist.y_train[:NUM_IMAGES]
    ways = measure(nb, X, y)
    ratio = round(ways["PyTorch"]["epoch"] / ways[OURS]["epoch"], 2)
    path = keep("keras_cnn_training", {"ratio": ratio, "ways": ways, "images": len(X), "rounds": NUM_ROUNDS})
    print(f"\n{'way':50} s/epoch  s to start  ratio")
    for name, row in ways.items():
        print(f"{name:50} {row['epoch']:7.2f} {row['start']:11.2f} {row['ratio']:6.2f}")
    print(f"\nratios above 1 are slower than the notebook's way    ({path})")


if __name__ == "__main__":
    main()
