"""Seconds to 99 % test accuracy on MNIST: a network trained per-image through a DataLoader, and the fast recipe.

    make bench BENCH=mnist

The slow side is of the kind that introductions use (the architecture, optimizer and transforms follow the MNIST
example of the PyTorch project): two 3x3 convolutions, dropout, two dense layers, Adadelta, batch 64, every image
opened, converted and standardized anew. It is tested after each epoch, and its time is that of the epochs until the
first test accuracy of 99 %. The fast side is the recipe of notebook 06, with a fixed number of updates, in nine seeds;
its time is the mean. Both train on the same 54,000 images on the same cores, in this one run.
"""

import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from notebook_loader import load_definitions  # noqa: E402

TARGET, NUM_SEEDS, MAX_EPOCHS = 0.99, 9, 14


class Digits(Dataset):
    """Images as files would come: each is opened, converted and standardized when it is asked for."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels
        steps = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.1307], [0.3081])]
        self.transform = v2.Compose(steps)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(PIL.Image.fromarray(self.images[index])), self.labels[index]


def make_slow_network():
    """Return the network of the usual example: 1,199,882 parameters."""
    convolutions = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)]
    return nn.Sequential(
        *convolutions, nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)
    )


def time_slow(images, labels, X_test, y_test, predict, accuracy):
    """Return (seconds of training until 99 % on the test set, epochs); tests are not counted in the seconds."""
    torch.manual_seed(0)
    model = make_slow_network()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.7)
    loader, seconds = DataLoader(Digits(images, labels), batch_size=64, shuffle=True), 0.0
    for epoch in range(1, MAX_EPOCHS + 1):
        start = time.perf_counter()
        for X, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(X), y).backward()
            optimizer.step()
        scheduler.step()
        seconds += time.perf_counter() - start
        reached = accuracy(predict(model, X_test), y_test)
        print(f"per-image DataLoader: epoch {epoch}, {seconds:.0f} s, test accuracy {reached:.2%}", flush=True)
        if reached >= TARGET:
            return seconds, epoch
    raise RuntimeError(f"no {TARGET:.0%} within {MAX_EPOCHS} epochs")


def time_fast(nb, X_train, y_train, X_test, y_test, bfloat16):
    """Return a list of (seconds, test accuracy), one pair per seed, of the recipe with its fixed number of updates."""
    runs = []
    for seed in range(-1, NUM_SEEDS):  # the first run warms up and is not counted
        torch.manual_seed(seed)
        model = nb.make_fast_cnn()
        seconds = nb.train_fast(model, lambda epoch: (X_train, y_train), nb.Recipe(), seed % 1000, bfloat16)
        runs.append((seconds, nb.accuracy(nb.predict(model, X_test, bfloat16=bfloat16), y_test)))
        print(f"fast recipe: seed {seed}, {seconds:.1f} s, test accuracy {runs[-1][1]:.2%}", flush=True)
    return runs[1:]


def main():
    """Measure both sides, print the ratio, and write it with the hardware to logs/benchmarks."""
    nb = load_definitions("06")
    mnist = nb.load_mnist(ROOT / "data" / "MNIST" / "raw")
    if mnist.source != "MNIST":
        sys.exit("This benchmark needs the real MNIST files; see data/README.md.")
    images, labels, *_ = nb.split(mnist.X_train, mnist.y_train, 6000, 0)
    X_train, X_test = (nb.to_tensor(part, 0.1307, 0.3081) for part in (images, mnist.X_test))
    y_train, y_test = torch.from_numpy(labels), torch.from_numpy(mnist.y_test)
    bfloat16 = nb.time_of_step(True) < nb.time_of_step(False)
    fast = np.array(time_fast(nb, X_train, y_train, X_test, y_test, bfloat16))
    slow_seconds, epochs = time_slow(images, labels, X_test, y_test, nb.predict, nb.accuracy)
    record = {
        "benchmark": "mnist_time_to_99", "ratio": round(slow_seconds / fast[:, 0].mean(), 1),
        "slow": {"seconds": round(slow_seconds, 1), "epochs": epochs},
        "fast": {"seconds_mean": round(fast[:, 0].mean(), 2), "seconds_std": round(fast[:, 0].std(ddof=1), 2),
                 "accuracy_mean": round(fast[:, 1].mean(), 5), "accuracy_std": round(fast[:, 1].std(ddof=1), 5),
                 "accuracy_min": fast[:, 1].min(), "seeds": NUM_SEEDS, "bfloat16": bfloat16},
        "machine": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__,
        "python": platform.python_version(),
    }  # fmt: skip
    path = ROOT / "logs" / "benchmarks" / "mnist_time_to_99.json"
    nb.write_atomically(path, lambda temporary: Path(temporary).write_text(json.dumps(record, indent=1) + "\n"))
    print(
        f"\nfast recipe: {fast[:, 0].mean():.2f} ± {fast[:, 0].std(ddof=1):.2f} s, test accuracy "
        f"{fast[:, 1].mean():.2%} ± {fast[:, 1].std(ddof=1):.2%}, worst {fast[:, 1].min():.2%} (n = {NUM_SEEDS})"
    )
    print(f"per-image DataLoader: {slow_seconds:.0f} s in {epochs} epochs")
    print(f"ratio: {record['ratio']}    ({path.relative_to(ROOT)})")
    assert fast[:, 1].min() >= TARGET, "the fast recipe missed 99 % in a seed"


if __name__ == "__main__":
    main()
