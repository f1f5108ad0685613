"""Train the network that reads digits on the site, and write its weights: PYTHONPATH=. python site/train_digits.py

Two convolutions (8 and 16 filters of 5 x 5, each with ReLU and max pooling) and a dense layer: 6,018 weights. The
images are turned, scaled and moved a little while it trains, since readers draw less tidily than MNIST's writers. The
number of epochs was chosen beforehand; the test images only serve for the accuracy that is printed and stored.
"""

import gzip
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
RAW = ROOT / "data" / "MNIST" / "raw"
EPOCHS, BATCH, PEAK_RATE = 12, 256, 0.006


def make_network():
    """Return the network, for images (n, 1, 28, 28) from 0 to 1."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 10)),
    )


def read(part, offset, shape):
    """Return the numbers of one IDX file of MNIST as float32 or int64."""
    raw = np.frombuffer(gzip.decompress((RAW / f"{part}.gz").read_bytes()), np.uint8, offset=offset)
    X = torch.from_numpy(raw.copy()).reshape(shape)
    return X.float() / 255 if len(shape) > 1 else X.long()


def distorted(X):
    """Return the images `X`, each turned by up to 15 degrees, scaled by up to 15 % and moved by up to 2 pixels."""
    n = len(X)
    angle = (2 * torch.rand(n) - 1) * np.pi / 12
    scale = 1 + 0.15 * (2 * torch.rand(2, n) - 1)
    move = (2 * torch.rand(n, 2, 1) - 1) * 2 / 14
    turn = torch.stack([angle.cos() * scale[0], -angle.sin(), angle.sin(), angle.cos() * scale[1]], 1)
    grid = F.affine_grid(torch.cat([turn.reshape(n, 2, 2), move], 2), X.shape, align_corners=False)
    return F.grid_sample(X, grid, align_corners=False)


def main():
    """Train, and write site/_static/digits.js."""
    torch.manual_seed(0)
    X, y = read("train-images-idx3-ubyte", 16, (-1, 1, 28, 28)), read("train-labels-idx1-ubyte", 8, (-1,))
    X_test, y_test = read("t10k-images-idx3-ubyte", 16, (-1, 1, 28, 28)), read("t10k-labels-idx1-ubyte", 8, (-1,))
    network = make_network()
    num_updates = EPOCHS * (len(X) // BATCH)
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=num_updates)
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(X))[: len(X) // BATCH * BATCH].split(BATCH):
            loss = F.cross_entropy(network(distorted(X[rows])), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}, loss {loss.item():.3f}", flush=True)
    with torch.no_grad():
        accuracy = (network(X_test).argmax(1) == y_test).float().mean().item()
    print(f"test accuracy {accuracy:.4f}")

    def numbers(tensor):
        return [float(f"{value:.4g}") for value in tensor.detach().flatten().tolist()]

    convolutions = [
        {"weight": numbers(m.weight), "bias": numbers(m.bias), "channels": m.in_channels, "kernel": 5}
        for m in network
        if isinstance(m, nn.Conv2d)
    ]
    dense = {"weight": numbers(network[-1].weight), "bias": numbers(network[-1].bias)}
    content = {"accuracy": round(accuracy, 4), "convolutions": convolutions, "dense": dense}
    text = f"/* Made by site/train_digits.py. */\nconst DIGITS = {json.dumps(content)};\n"
    (ROOT / "site" / "_static" / "digits.js").write_text(text)


if __name__ == "__main__":
    main()
