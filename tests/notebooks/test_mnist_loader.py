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

from tools.course import ROOT
from tools.definitions import load_definitions


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
HASHES = {name: f"sha1:{hashlib.sha1(content).hexdigest()}" for name, content in FILES.items()}


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
        content, behavior = FILES[self.path.rpartition("/")[2]], self.server.behavior
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
    """Return the definitions of a notebook that loads MNIST, for the small files and an empty user cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    module = load_definitions("06", root=tmp_path)
    module.DIGESTS = HASHES
    return module


def load(cell, folder, mirror, timeout=10):
    """Return what load_mnist returns with this `mirror`, an address."""
    cell.MIRROR = mirror
    return cell.load_mnist(folder, timeout)


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


STAND_IN = "5,000 MNIST digits"


def test_download_from_a_good_mirror(cell, folder, mirror, capsys):
    """Files are fetched, verified, stored, and not fetched again."""
    server = mirror("good")
    assert is_right(load(cell, folder, server.url))
    assert capsys.readouterr().out == "Data: MNIST, 60 images for training, 20 for the test.\n"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    load(cell, folder, server.url)
    assert server.num_requests == 4


@pytest.mark.parametrize("behavior", ["refused", "404", "hang", "stall", "truncate", "flip"])
def test_a_bad_mirror_leads_to_the_stand_in(cell, folder, mirror, capsys, behavior):
    """One plain sentence says what is used; nothing that is not right is stored, and a later run gets the data."""
    url = REFUSED if behavior == "refused" else mirror(behavior).url
    data = load(cell, folder, url, timeout=0.5)
    assert data.source == STAND_IN
    sentence = "Data: 5,000 MNIST digits, 4,000 images for training, 1,000 for the test.\n"
    assert capsys.readouterr().out == sentence
    assert not folder.exists() or list(folder.iterdir()) == []
    assert is_right(load(cell, folder, mirror("good").url))
    assert {path.name for path in folder.iterdir()} == set(FILES)


def test_a_silent_mirror_is_given_up(cell, folder, mirror):
    """It is asked for one file, once for each of the two places: two attempts in all, of the default ten seconds."""
    assert inspect.signature(cell.load_mnist).parameters["timeout"].default == 10
    server = mirror("hang")
    load(cell, folder, server.url, timeout=0.2)
    assert server.num_requests == 2


def test_a_proxy_is_asked_without_any_local_name_server(cell, folder, mirror, monkeypatch):
    """Behind a proxy names of outside hosts do not resolve here: the proxy gets the request with the name in it."""
    monkeypatch.setenv("http_proxy", mirror("good").url)
    monkeypatch.setenv("no_proxy", "")
    assert is_right(load(cell, folder, "http://nowhere.invalid/mnist/"))


@pytest.mark.parametrize("behavior", ["refused", "hang"])
def test_a_dead_or_silent_proxy_leads_to_the_stand_in(cell, folder, mirror, monkeypatch, behavior):
    """A proxy that refuses, or never answers, costs its time-outs, and the notebook goes on."""
    monkeypatch.setenv("http_proxy", REFUSED if behavior == "refused" else mirror("hang").url)
    monkeypatch.setenv("no_proxy", "")
    assert load(cell, folder, "http://nowhere.invalid/mnist/", timeout=0.2).source == STAND_IN


@pytest.mark.parametrize("damage", ["flipped", "half"])
def test_a_damaged_file_is_replaced(cell, folder, mirror, damage):
    """A file with a flipped byte, or half of one, is fetched again, and it alone."""
    name = "train-images-idx3-ubyte.gz"
    good = FILES[name]
    put(folder, train_images=good[: len(good) // 2] if damage == "half" else good[:-1] + bytes([good[-1] ^ 1]))
    server = mirror("good")
    assert is_right(load(cell, folder, server.url))
    assert server.num_requests == 1
    assert (folder / name).read_bytes() == good


def test_a_damaged_file_without_network_is_never_used(cell, folder):
    """The stand-in is used, and the files stay as they are."""
    put(folder, t10k_labels=b"broken")
    assert load(cell, folder, REFUSED).source == STAND_IN
    assert sum(path.suffix == ".gz" for path in folder.iterdir()) == 4


def test_good_files_need_no_network(cell, folder, mirror):
    """With good files on the disk no mirror is asked."""
    put(folder)
    server = mirror("404")
    assert is_right(load(cell, folder, server.url))
    assert server.num_requests == 0


CHILD = """
import os, sys
from tools.definitions import load_definitions
from test_mnist_loader import HASHES, is_right, load
cell = load_definitions("06", root=sys.argv[1])
cell.DIGESTS = HASHES
from pathlib import Path
"""


def start_child(code, *arguments):
    """Start a Python process that has the `mnist` cell and runs `code`."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "tests" / "notebooks")]))
    command = [sys.executable, "-c", CHILD + code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_killed_run_leaves_nothing_that_hurts(cell, folder, tmp_path, mirror):
    """A process killed in the middle of a download leaves at most a temporary file; the next run succeeds."""
    server = mirror("stall")
    child = start_child("load(cell, Path(sys.argv[2]), sys.argv[3], 60)", tmp_path, folder, server.url)
    deadline = time.monotonic() + 60
    while not server.num_requests and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert server.num_requests == 1, "the child was killed before it asked for a file"
    assert not (folder / "train-images-idx3-ubyte.gz").exists()
    assert is_right(load(cell, folder, mirror("good").url))


def load_in_process(folder, url, root):
    """Load the small MNIST in a process of its own; used by the test of two at once."""
    module = load_definitions("06", root=root)
    module.DIGESTS = HASHES
    return is_right(load(module, folder, url))


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
load(cell, Path(sys.argv[1]) / "warm-up", url)
if os.geteuid() == 0:
    os.seteuid(65534)
os.environ["XDG_CACHE_HOME"] = sys.argv[4]
data = load(cell, folder, url)
print(is_right(data) or data.source)
"""


@pytest.fixture
def open_folder():
    """Return an empty folder that every user may enter; pytest's own are closed to others, again and again."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        for path in Path(name).iterdir():
            path.chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no read-only folders in this sense")
@pytest.mark.parametrize("cache_is_writable", [True, False])
def test_a_read_only_folder(open_folder, tmp_path, mirror, cache_is_writable):
    """Where the data folder cannot be written, the user's cache is used; where neither can, the stand-in."""
    folder, cache = open_folder / "raw", open_folder / "cache"
    folder.mkdir(mode=0o555)
    cache.mkdir()
    cache.chmod(0o777 if cache_is_writable else 0o555)
    output, _ = start_child(READ_ONLY, tmp_path, folder, mirror("good").url, cache).communicate(timeout=120)
    assert output.splitlines()[-1] == ("True" if cache_is_writable else STAND_IN)
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no read-only folders in this sense")
def test_a_folder_that_may_not_be_entered(open_folder, tmp_path, mirror):
    """Without the right even to look into the folder, the cache is used, and without that the stand-in."""
    folder, cache = open_folder / "raw", open_folder / "cache"
    put(folder)
    folder.chmod(0o000)
    cache.mkdir()
    cache.chmod(0o555)
    output, _ = start_child(READ_ONLY, tmp_path, folder, mirror("good").url, cache).communicate(timeout=120)
    assert output.splitlines()[-1] == STAND_IN


@pytest.mark.skipif(os.name == "nt", reason="Windows has no read-only folders in this sense")
def test_files_in_a_read_only_folder_are_used(open_folder, tmp_path, mirror):
    """Good files that somebody else put there are read in place."""
    folder = open_folder / "raw"
    put(folder)
    folder.chmod(0o555)
    server = mirror("good")
    output, _ = start_child(READ_ONLY, tmp_path, folder, server.url, "/").communicate(timeout=120)
    assert output.splitlines()[-1] == "True"
    assert server.num_requests == 4, "only the warm-up may ask"


# ---- the 5,000 digits ----


def test_the_stand_in_is_the_array_we_know(cell, folder):
    """Its checksum (as uint8, labels last), and 500 digits of each class, 400 for training and 100 for the test."""
    table = np.loadtxt(cell.DATA_PATH, np.uint8, delimiter=",")
    assert hashlib.sha256(table.tobytes()).hexdigest().startswith("1b845fda528288bf")
    assert np.array_equal(table[:, -1], np.repeat(np.arange(10), 500)), "the split takes the classes to be in order"
    data = load(cell, folder, REFUSED)
    assert np.bincount(data.y_train).tolist() == [400] * 10 and np.bincount(data.y_test).tolist() == [100] * 10
    both = np.concatenate([data.X_train, data.X_test]).reshape(5000, -1)
    assert np.array_equal(np.unique(both, axis=0), np.unique(table[:, :-1], axis=0)), "each digit once"
    again = load(cell, folder, REFUSED)
    assert np.array_equal(again.X_train, data.X_train), "the same split every time"
