"""Each notebook alone in an empty folder, without data and without a network: run by `make test-alone`.

This is how a notebook starts on a new machine that is offline. Its stored outputs are compared as in `make test`.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
from notebook_loader import NOTEBOOKS, ROOT

NOWHERE = "http://127.0.0.1:9"  # the discard port: a proxy that refuses at once


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_alone(path, tmp_path):
    """The notebook passes nbval in a folder of its own and leaves its artifacts there."""
    shutil.copy(path, tmp_path)
    environment = dict(os.environ, PYTHONPATH=str(ROOT), XDG_CACHE_HOME=str(tmp_path / "cache"))
    environment |= {"http_proxy": NOWHERE, "https_proxy": NOWHERE, "no_proxy": "127.0.0.1,localhost"}
    environment |= {key.upper(): environment[key] for key in ("http_proxy", "https_proxy", "no_proxy")}
    options = "--nbval --nbval-current-env --nbval-cell-timeout=900 -p conftest -p no:cacheprovider -q".split()
    command = [sys.executable, "-m", "pytest", *options, path.name]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-6000:]
    assert {"data", "plots", "models", "logs"} <= {entry.name for entry in tmp_path.iterdir()}
    record = json.loads((tmp_path / "logs" / path.stem / "claims.json").read_text())
    assert not [row["claim"] for row in record["claims"] if row["verdict"] == "FAILS"]
    if "# shared cell: mnist" in path.read_text(encoding="utf-8"):
        assert record["data"] == "stand-in digits"
