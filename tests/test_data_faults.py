"""What load_mnist does when the network, a mirror, a file or the disk misbehaves; the server is on this machine."""

import functools
import gzip
import hashlib
import inspect
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from notebook_loader import ROOT, load_definitions


def idx_file(array):
    """Return the bytes of a gzip-compressed IDX file that holds the uint8 `array`."""
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}i", *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


def small_mnist():
    """Return {name: bytes} of four files in MNIST's format, with 60 and 20 random images (not compressible)."""
    rng = np.random.default_rng(0)
    files = {}
    for part, n in (("train", 60), ("t10k", 20)):
        files[f"{part}-images-idx3-ubyte.gz"] = idx_file(rng.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        files[f"{part}-labels-idx1-ubyte.gz"] = idx_file(rng.integers(0, 10, n, dtype=np.uint8))
    return files


FILES = small_mnist()
HASHES = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


class Mirror(ThreadingHTTPServer):
    """A server on the loopback address that answers as its `behavior` says, and counts the requests."""

    daemon_threads = True

    def __init__(self, behavior):
        self.behavior, self.num_requests, self.closing = behavior, 0, threading.Event()
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Answer(BaseHTTPRequestHandler):
    """One answer of a Mirror."""

    def log_message(self, *args):
        """Stay silent."""

    def do_GET(self):
        """Send the file, or misbehave."""
        self.server.num_requests += 1
        content, behavior = FILES[self.path.strip("/")], self.server.behavior
        if behavior == "404":
            return self.send_error(404)
        if behavior == "hang":
            return self.server.closing.wait(60)
        if behavior == "flip":
            content = content[:100] + bytes([content[100] ^ 1]) + content[101:]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if behavior in ("truncate", "stall"):
            content = content[: len(content) // 2]
        self.wfile.write(content)
        self.wfile.flush()
        if behavior == "stall":
            self.server.closing.wait(60)


@pytest.fixture
def mirror():
    """Return a function that starts a Mirror with a behavior; all are closed at the end."""
    servers = []

    def start(behavior):
        servers.append(Mirror(behavior))
        return servers[-1]

    yield start
    for server in servers:
        server.closing.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """Return the definitions of a notebook with the `mnist` cell, for the small files and an empty user cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    module = load_definitions("06", root=tmp_path)
    module.MNIST_FILES = HASHES
    return module


@pytest.fixture
def folder(tmp_path):
    """Return the folder that load_mnist is given; it does not exist yet."""
    return tmp_path / "raw"


def is_right(data):
    """Return whether `data` holds exactly the small MNIST."""
    arrays = (data.X_train, data.y_train, data.X_test, data.y_test)
    contents = [gzip.decompress(content) for content in FILES.values()]
    equal = [content.endswith(array.astype(np.uint8).tobytes()) for array, content in zip(arrays, contents)]
    return data.source == "MNIST" and data.X_train.shape == (60, 28, 28) and all(equal)


def put(folder, **changed):
    """Write the good files to `folder`, except those whose name starts with a key of `changed`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        key = next((key for key in changed if name.startswith(key.replace("_", "-"))), None)
        (folder / name).write_bytes(changed[key] if key else content)


REFUSED = "http://127.0.0.1:9/"  # the discard port: nothing listens there


def test_download_from_a_good_mirror(cell, folder, mirror, capsys):
    """Files are fetched, verified, stored, and not fetched again."""
    server = mirror("good")
    data = cell.load_mnist(folder, [server.url])
    assert data.X_train.shape == (60, 28, 28) and data.y_test.shape == (20,)
    assert is_right(data)
    assert capsys.readouterr().out == "Data: MNIST, 60 training and 20 test images, checksums verified.\n"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    cell.load_mnist(folder, [server.url])
    assert server.num_requests == 4


@pytest.mark.parametrize("behavior", ["refused", "404", "hang", "stall", "truncate", "flip"])
def test_a_bad_mirror_is_passed_over(cell, folder, mirror, behavior):
    """With one bad and one good mirror the data are right, and the bad one costs its time-out once."""
    first = REFUSED if behavior == "refused" else mirror(behavior).url
    start = time.monotonic()
    assert is_right(cell.load_mnist(folder, [first, mirror("good").url], timeout=1))
    assert time.monotonic() - start < 3
    assert {path.name for path in folder.iterdir()} == set(FILES)


@pytest.mark.parametrize("behavior", ["refused", "404", "hang", "stall", "truncate", "flip"])
def test_only_bad_mirrors_lead_to_the_stand_in(cell, folder, mirror, capsys, behavior):
    """Without any good mirror one plain sentence says that the stand-in is used; nothing wrong is stored."""
    urls = [REFUSED] * 2 if behavior == "refused" else [mirror(behavior).url, mirror(behavior).url]
    start = time.monotonic()
    data = cell.load_mnist(folder, urls, timeout=1)
    assert time.monotonic() - start < 4
    assert data.source == "stand-in digits"
    output = capsys.readouterr().out
    assert output.count("\n") == 1 and "1,797 smaller digits stand in" in output
    assert [path.name for path in folder.iterdir()] == []


def test_a_hanging_name_server_costs_one_time_out(cell, folder, monkeypatch, capsys):
    """A look-up of the host name that never ends is given up like a connection, and the stand-in takes over."""
    monkeypatch.setattr(cell.socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(60))
    start = time.monotonic()
    data = cell.load_mnist(folder, ["http://nowhere.example/"], timeout=0.5)
    assert time.monotonic() - start < 5
    assert data.source == "stand-in digits"
    assert "cannot be fetched" in capsys.readouterr().out


def test_the_time_out_is_ten_seconds(cell):
    """The default is 10 seconds to connect and between packets."""
    assert inspect.signature(cell.load_mnist).parameters["timeout"].default == 10


@pytest.mark.parametrize("damage", ["flipped", "half"])
def test_a_damaged_file_is_set_aside_and_replaced(cell, folder, mirror, capsys, damage):
    """A file with a flipped byte, or half of one, is kept under another name and fetched again."""
    name = "train-images-idx3-ubyte.gz"
    good = FILES[name]
    bad = good[: len(good) // 2] if damage == "half" else good[:-1] + bytes([good[-1] ^ 1])
    put(folder, train_images=bad)
    server = mirror("good")
    assert is_right(cell.load_mnist(folder, [server.url]))
    assert server.num_requests == 1
    assert (folder / f"{name}.damaged-1").read_bytes() == bad
    assert (folder / name).read_bytes() == good
    assert "is damaged (wrong checksum). It is kept as" in capsys.readouterr().out


def test_a_damaged_file_without_network_loses_nothing(cell, folder):
    """The three good files stay, the bad one is kept aside, and the stand-in is used; twice gives two names."""
    for number in (1, 2):
        put(folder, t10k_labels=b"broken")
        assert cell.load_mnist(folder, [REFUSED], timeout=1).source == "stand-in digits"
        assert (folder / f"t10k-labels-idx1-ubyte.gz.damaged-{number}").read_bytes() == b"broken"
    assert sum(path.suffix == ".gz" for path in folder.iterdir()) == 3


def test_good_files_need_no_network(cell, folder, mirror):
    """With good files on the disk no mirror is asked."""
    put(folder)
    server = mirror("404")
    assert is_right(cell.load_mnist(folder, [server.url]))
    assert server.num_requests == 0


CHILD = """
import os, sys
from notebook_loader import load_definitions
from test_data_faults import HASHES, is_right
cell = load_definitions("06", root=sys.argv[1])
cell.MNIST_FILES = HASHES
from pathlib import Path
"""


def start_child(code, *arguments):
    """Start a Python process that has the `mnist` cell and runs `code`."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "tests"))
    command = [sys.executable, "-c", CHILD + code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_killed_run_leaves_nothing_that_hurts(cell, folder, tmp_path, mirror):
    """A process killed in the middle of a download leaves at most a temporary file; the next run succeeds."""
    server = mirror("stall")
    child = start_child("cell.load_mnist(Path(sys.argv[2]), [sys.argv[3]], 60)", tmp_path, folder, server.url)
    deadline = time.monotonic() + 60
    while not server.num_requests and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert server.num_requests == 1, "the child was killed before it asked for a file"
    assert not (folder / "train-images-idx3-ubyte.gz").exists()
    assert is_right(cell.load_mnist(folder, [mirror("good").url]))


def load_in_process(folder, url, root):
    """Load the small MNIST in a process of its own; used by the test of two at once."""
    module = load_definitions("06", root=root)
    module.MNIST_FILES = HASHES
    return is_right(module.load_mnist(folder, [url]))


def test_two_notebooks_fetch_at_the_same_time(folder, tmp_path, mirror, monkeypatch):
    """Two processes that fetch into one folder, one file of which is damaged, both get the right data."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    put(folder, train_images=b"broken")
    for name in list(FILES)[1:]:
        (folder / name).unlink()
    work = functools.partial(load_in_process, url=mirror("good").url, root=tmp_path)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(work, [folder, folder], chunksize=1) == [True, True]
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES


READ_ONLY = """
folder, url = Path(sys.argv[2]), sys.argv[3]
cell.load_mnist(Path(sys.argv[1]) / "warm-up", [url])
cell.stand_in_digits()
if os.geteuid() == 0:
    os.seteuid(65534)
data = cell.load_mnist(folder, [url])
print(is_right(data) or data.source)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no read-only folders in this sense")
@pytest.mark.parametrize("cache_is_writable", [True, False])
def test_a_read_only_folder(tmp_path, mirror, monkeypatch, cache_is_writable):
    """Where the data folder cannot be written, the user's cache is used; where neither can, the stand-in."""
    for parent in [tmp_path, *tmp_path.parents]:  # pytest's folders are closed to other users
        if parent == Path(tempfile.gettempdir()):
            break
        parent.chmod(0o755)
    folder, cache = tmp_path / "raw", tmp_path / "cache"
    folder.mkdir(mode=0o555)
    cache.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    if cache_is_writable:
        cache.chmod(0o777)
    server = mirror("good")
    code = (
        READ_ONLY if cache_is_writable else READ_ONLY.replace("data = ", "os.environ['XDG_CACHE_HOME'] = '/'\ndata = ")
    )
    output, _ = start_child(code, tmp_path, folder, server.url).communicate(timeout=120)
    assert output.splitlines()[-1] == ("True" if cache_is_writable else "stand-in digits")
    assert list(folder.iterdir()) == []


def test_stand_in_is_real_and_split_once(cell, capsys):
    """The stand-in has 1,500 and 297 digits of 28x28 pixels, every class in both parts, equal in every run."""
    data, again = cell.stand_in_digits(), cell.stand_in_digits()
    assert data.X_train.shape == (1500, 28, 28) and data.X_test.shape == (297, 28, 28)
    assert data.X_train.dtype == np.uint8 and data.X_train.max() == 255
    assert np.bincount(data.y_test).min() >= 25
    assert np.array_equal(data.X_train, again.X_train) and np.array_equal(data.y_test, again.y_test)
    assert data.X_train[:, :4].max() == 0, "the margin is empty, as in MNIST"
