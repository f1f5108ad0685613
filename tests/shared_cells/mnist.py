# shared cell: mnist
import contextlib
import gzip
import hashlib
import socket
import threading
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pooch
from scipy.ndimage import zoom
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

MNIST_FILES = {  # official file names and their SHA-256
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MNIST_MIRRORS = [
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
]


class Mnist(NamedTuple):
    """Digits as arrays: X (n, 28, 28) uint8 with 0 for the background, y (n,) int64; `source` names the data."""

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    source: str


def has_checksum(path, sha256):
    """Return whether `path` is a file with this SHA-256."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def set_aside(path):
    """Rename a damaged file to NAME.damaged-N, so that it is never used and never lost; say so."""
    number = 1
    while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    try:
        path.rename(target)
        print(f"{path.name} is damaged (wrong checksum). It is kept as {target.name} and fetched again.")
    except OSError:
        print(f"{path.name} is damaged (wrong checksum) and is not used.")


def look_up(url, timeout):
    """Raise OSError unless the host name of `url` is found within `timeout` seconds, a limit that sockets lack."""
    host, found = urlsplit(url).hostname, threading.Event()

    def resolve():
        with contextlib.suppress(OSError):
            socket.getaddrinfo(host, None)
            found.set()

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(timeout)
    if not found.is_set():
        raise OSError(f"no address for {host}")


def fetch_mnist_file(name, sha256, folders, mirrors, timeout):
    """Return the path of a verified copy of `name`: from one of `folders`, else downloaded into one of them.

    `mirrors` is a list of base URLs; one that fails is removed from it, so that it costs its `timeout`
    (seconds to find its address, to connect, and between two packets) only once. Raises OSError when nothing works.
    """
    for folder in folders:
        if has_checksum(folder / name, sha256):
            return folder / name
        if (folder / name).exists():
            set_aside(folder / name)
    problem = "no mirror is left to try"
    for mirror in list(mirrors):
        for folder in folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.NamedTemporaryFile(dir=folder):
                    pass
            except OSError as error:
                problem = f"{error.strerror}: {folder.name}"
                continue
            try:
                look_up(mirror, timeout)
                pooch.retrieve(
                    mirror + name,
                    f"sha256:{sha256}",
                    fname=name,
                    path=folder,
                    downloader=pooch.HTTPDownloader(timeout=timeout),
                )
                return folder / name
            except (OSError, ValueError) as error:
                problem = f"{type(error).__name__} at {mirror}"
                mirrors.remove(mirror)
                break
    raise OSError(problem)


def read_idx(path):
    """Return the uint8 array in a gzip-compressed IDX file (format: LeCun's MNIST page)."""
    content = gzip.decompress(path.read_bytes())
    num_dimensions = content[3]
    shape = np.frombuffer(content, ">i4", num_dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * num_dimensions).reshape(shape).copy()


def stand_in_digits():
    """Return scikit-learn's 1,797 real 8x8 digits, enlarged to 20x20 inside 28x28, in a fixed stratified split."""
    digits = load_digits()
    X = zoom(digits.images / 16.0, (1, 2.5, 2.5), order=1).clip(0, 1)
    X = np.pad(np.round(255 * X).astype(np.uint8), ((0, 0), (4, 4), (4, 4)))
    y = digits.target.astype(np.int64)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=297, stratify=y, random_state=0)
    return Mnist(X_train, y_train, X_test, y_test, "stand-in digits")


def load_mnist(folder, mirrors=None, timeout=10):
    """Return MNIST from `folder`, else from the `mirrors`, else the stand-in; print one line that says which.

    Every file is checked by SHA-256 before use. A damaged file is set aside, never deleted. Where `folder` cannot
    be written, downloads go to the user's cache folder. `source` is "MNIST" or "stand-in digits".
    """
    pooch.get_logger().setLevel("ERROR")
    folders = [Path(folder), Path(pooch.os_cache("deep-learning-by-experiment"))]
    mirrors = list(MNIST_MIRRORS if mirrors is None else mirrors)
    try:
        paths = [fetch_mnist_file(name, sha256, folders, mirrors, timeout) for name, sha256 in MNIST_FILES.items()]
    except OSError as error:
        print(f"Data: MNIST is not here and cannot be fetched ({error}), so 1,797 smaller digits stand in for it.")
        return stand_in_digits()
    X_train, y_train, X_test, y_test = (read_idx(path) for path in paths)
    print(f"Data: MNIST, {len(X_train):,} training and {len(X_test):,} test images, checksums verified.")
    return Mnist(X_train, y_train.astype(np.int64), X_test, y_test.astype(np.int64), "MNIST")
