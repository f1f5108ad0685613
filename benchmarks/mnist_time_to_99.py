"""Seconds to 99 % validation accuracy on MNIST: images one by one through a DataLoader, and the fast recipe.

    make bench BENCH=mnist

Both sides train on the same 54,000 images, on the same cores, in this one run, and are held to the same 6,000
validation images.

The slow side is of the kind that introductions use (the architecture, optimizer and transforms follow the MNIST
example of the PyTorch project): two 3x3 convolutions, dropout, two dense layers, Adadelta, batch 64, every image
opened, converted and standardized anew. Four seeds train side by side, an epoch each in turn. The time is the mean of
the four; the tests after each epoch are not counted.

The fast side is the recipe of notebook 06: its length here is the shortest on a grid that is enough. Its time is the
mean over other seeds, one after each epoch of the slow side, so that a slow moment of the machine meets both.

One rule for both sides: it is enough when the mean validation accuracy of the seeds exceeds 99 % by two standard
errors. The fast side chooses its length with ten seeds, the slow side stops after an epoch with four, so its standard
error is the larger one. `ratio_in_doubt` shows what that can matter: for it the slow side is there already when 99 %
lies no more than two standard errors above its mean. The test set decides nothing: the accuracies on it are reported.
"""

import sys
import time

import numpy as np
import pandas as pd
import PIL.Image
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from tools.benchmarks import keep
from tools.course import ROOT
from tools.definitions import load_definitions

TARGET, MAX_EPOCHS, SLOW_SEEDS = 0.99, 14, range(4)
LENGTHS, CHOICE_SEEDS = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2), range(100, 110)


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


class SlowRun:
    """One seed of the slow side: a network, its optimizer, and its own stream of random numbers.

    After each epoch `epochs`, `seconds` of training so far, and the accuracies `valid` and `test` are set.
    """

    def __init__(self, data, seed):
        self.seed, self.epochs, self.seconds = seed, 0, 0.0
        torch.manual_seed(seed)
        self.model = make_slow_network()
        self.optimizer = torch.optim.Adadelta(self.model.parameters(), lr=1.0)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1, gamma=0.7)
        self.loader = DataLoader(Digits(data["images"], data["labels"]), batch_size=64, shuffle=True)
        self.random_state = torch.get_rng_state()

    def train_epoch(self, nb, data):
        """Train one epoch, by the clock; then measure, without it."""
        torch.set_rng_state(self.random_state)
        start = time.perf_counter()
        for X, y in self.loader:
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(X), y).backward()
            self.optimizer.step()
        self.scheduler.step()
        self.seconds += time.perf_counter() - start
        self.random_state, self.epochs = torch.get_rng_state(), self.epochs + 1
        self.valid, self.test = (nb.hit_rate(nb.classify(self.model, X), y) for X, y in (data["valid"], data["test"]))
        print(
            f"DataLoader, seed {self.seed}: epoch {self.epochs}, {self.seconds:.0f} s, "
            f"validation {self.valid:.2%}, test {self.test:.2%}",
            flush=True,
        )


def race(nb, data, recipe, bfloat16):
    """Return the results of the slow and of the fast runs, two lists of dictionaries, and the slow side's history.

    The history is a list: after each epoch mean and standard error of the validation accuracy over the slow seeds, and
    their mean seconds of training so far.
    """
    slow, fast, history = [SlowRun(data, seed) for seed in SLOW_SEEDS], [], []
    while len(history) < MAX_EPOCHS and not (history and is_beyond_doubt(*history[-1][:2])):
        for run in slow:
            run.train_epoch(nb, data)
            fast.append(run_fast(nb, data, len(fast), recipe, bfloat16))
            numbers = ", ".join(f"{part} {fast[-1][part]:.2%}" for part in ("valid", "test"))
            print(f"fast recipe, seed {len(fast) - 1}: {fast[-1]['seconds']:.1f} s, {numbers}", flush=True)
        seconds = np.mean([run.seconds for run in slow])
        history.append((*mean_and_error([run.valid for run in slow]), seconds))
        print(f"DataLoader, epoch {len(history)}: validation {history[-1][0]:.3%} ± {history[-1][1]:.3%}", flush=True)
    names = ("seconds", "epochs", "valid", "test")
    return [{name: getattr(run, name) for name in names} for run in slow], fast, history


def mean_and_error(scores):
    """Return mean and standard error of a list of numbers."""
    return np.mean(scores), np.std(scores, ddof=1) / len(scores) ** 0.5


def is_beyond_doubt(mean, error):
    """Return whether the mean exceeds the target by at least two standard errors."""
    return mean - 2 * error >= TARGET


def may_be_there(mean, error):
    """Return whether the target lies no more than two standard errors above the mean."""
    return mean + 2 * error >= TARGET


def run_fast(nb, data, seed, recipe, bfloat16):
    """Return seconds, validation and test accuracy of one run of `recipe` as a dictionary."""
    torch.manual_seed(seed)
    model = nb.make_fast_cnn()
    seconds = nb.train_fast(model, *data["train"], recipe, bfloat16)
    scores = [nb.hit_rate(nb.classify(model, X, bfloat16=bfloat16), y) for X, y in (data["valid"], data["test"])]
    return {"seconds": seconds, "valid": scores[0], "test": scores[1]}


def choose_length(nb, data, bfloat16):
    """Return {epochs: mean validation accuracy} up to the first of LENGTHS that is two standard errors above target."""
    means = {}
    for length in LENGTHS:
        recipe = nb.RECIPE | {"num_epochs": length}
        scores = [run_fast(nb, data, seed, recipe, bfloat16)["valid"] for seed in CHOICE_SEEDS]
        means[length], error = mean_and_error(scores)
        print(f"length {length} epochs: validation {means[length]:.3%} ± {error:.3%} (n = {len(scores)})", flush=True)
        if is_beyond_doubt(means[length], error):
            break
    return means


def load_data(nb):
    """Return the split of notebook 06 as a dictionary: raw images and labels, and (X, y) of train, valid and test."""
    mnist = nb.load_mnist(ROOT / "data" / "MNIST" / "raw")
    if mnist.source != "MNIST":
        sys.exit("This benchmark needs the real MNIST files; see data/README.md.")
    images, images_valid, labels, labels_valid = nb.train_test_split(
        mnist.X_train, mnist.y_train, test_size=0.1, random_state=0, stratify=mnist.y_train
    )
    parts = {"train": (images, labels), "valid": (images_valid, labels_valid), "test": (mnist.X_test, mnist.y_test)}
    tensors = {name: (nb.to_tensor(X, 0.1307, 0.3081), torch.from_numpy(y)) for name, (X, y) in parts.items()}
    return tensors | {"images": images, "labels": labels}


def summary(runs):
    """Return mean and standard deviation of each number in `runs`, a list of dictionaries, rounded."""
    table = pd.DataFrame(runs).astype(float)
    return {
        f"{name}_{kind}": round(getattr(table[name], kind)(), 5) for name in table for kind in ("mean", "std", "min")
    }


def main():
    """Measure both sides, print the ratio, and write it with the hardware to logs/benchmarks."""
    nb = load_definitions("06")
    data = load_data(nb)
    bfloat16 = nb.time_of_step(True) < nb.time_of_step(False)
    run_fast(nb, data, 0, nb.RECIPE | {"num_epochs": 0.1}, bfloat16)  # warm-up
    lengths = choose_length(nb, data, bfloat16)
    recipe = nb.RECIPE | {"num_epochs": max(lengths)}
    print(f"The rule chooses {max(lengths)} epochs; notebook 06 plays safe with {nb.RECIPE['num_epochs']}.")
    slow, fast, history = race(nb, data, recipe, bfloat16)
    means = [np.mean([run["seconds"] for run in side]) for side in (slow, fast)]
    early = next((seconds for *score, seconds in history if may_be_there(*score)), means[0])
    numbers = {
        "ratio": round(means[0] / means[1], 1), "ratio_in_doubt": round(early / means[1], 1),
        "target": f"validation {TARGET}",
        "length_in_epochs": recipe["num_epochs"], "lengths": {str(k): round(v, 5) for k, v in lengths.items()},
        "slow_by_epoch": [[round(float(number), 5) for number in row] for row in history],
        "slow": summary(slow) | {"seeds": len(slow)}, "fast": summary(fast) | {"seeds": len(fast)},
        "bfloat16": bfloat16, "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }  # fmt: skip
    path = keep("mnist_time_to_99", numbers)
    print(f"\nfast recipe: {means[1]:.2f} s, validation {numbers['fast']['valid_mean']:.2%}, test "
          f"{numbers['fast']['test_mean']:.2%}, worst {numbers['fast']['test_min']:.2%} (n = {len(fast)})")  # fmt: skip
    print(f"DataLoader: {means[0]:.0f} s in {len(history)} epochs, validation {history[-1][0]:.2%} (n = {len(slow)})")
    print(f"ratio: {numbers['ratio']}, with the benefit of the doubt {numbers['ratio_in_doubt']}    ({path})")
    if not is_beyond_doubt(*history[-1][:2]):
        print(f"The DataLoader side did not reach {TARGET:.0%} in {MAX_EPOCHS} epochs: the ratio is a lower bound.")


if __name__ == "__main__":
    main()
