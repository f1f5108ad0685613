"""Each notebook alone in an empty folder, without data and without a network: run by `make test-alone`.

This is how a notebook starts on a new machine that is offline. Its stored outputs are compared as in `make test`,
but for claims that need all of MNIST or a real text: they may say that they are not tested here.
"""

import os
import shutil
import subprocess
import sys

import pytest

from tools.course import NOTEBOOKS, ROOT

NOWHERE = "http://127.0.0.1:9"  # the discard port: a proxy that refuses at once
SANITIZE = "[untested claims]\nregex: ^not tested here: \nreplace: holds: \n"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_alone(path, tmp_path):
    """The notebook passes nbval in a folder of its own and leaves its figures there."""
    shutil.copy(path, tmp_path)
    (tmp_path / "sanitize.cfg").write_text(SANITIZE)
    environment = dict(os.environ, PYTHONPATH=str(ROOT), XDG_CACHE_HOME=str(tmp_path / "cache"))
    environment |= {"http_proxy": NOWHERE, "https_proxy": NOWHERE, "no_proxy": "127.0.0.1,localhost"}
    environment |= {key.upper(): environment[key] for key in ("http_proxy", "https_proxy", "no_proxy")}
    options = "--nbval --nbval-current-env --nbval-cell-timeout=900 --nbval-sanitize-with=sanitize.cfg"
    command = [sys.executable, "-m", "pytest", *options.split(), "-p", "conftest", "-p", "no:cacheprovider", "-q"]
    result = subprocess.run([*command, path.name], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-6000:]
    text = path.read_text(encoding="utf-8")
    assert ("save_figure(" not in text) or list((tmp_path / "plots" / path.stem).glob("*.png"))
    assert not list(tmp_path.rglob("*-ubyte.gz")), "it found MNIST somewhere"
