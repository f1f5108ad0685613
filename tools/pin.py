"""Write constraints.txt: one exact version of each package, the same on 3.11 to 3.13.

Linux, macOS and Windows are in one file. A version that is installed here stays, since
the tests ran with it; --upgrade takes the newest ones instead.
"""

import argparse
import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.course import ROOT, write_atomically

HEADER = """\
# Exact versions of all packages for Python 3.11 to 3.13, on Linux, macOS and Windows.
# Made by: python -m tools pin
"""
UV = [sys.executable, "-m", "uv", "pip", "compile", "--quiet"]
OPTIONS = ["--universal", "--python-version", "3.11", "--fork-strategy", "fewest"]
PLAIN = ["--no-header", "--no-annotate", "--no-emit-index-url"]


def installed():
    """Return lines such as "numpy==2.4.6", one for each package that is installed."""
    versions = {d.name: d.version for d in importlib.metadata.distributions()}
    return [f"{name}=={v.partition('+')[0]}" for name, v in sorted(versions.items())]


def pins(requirements, preferred=()):
    """Return the lines of exact versions that meet the file `requirements`.

    `preferred` has lines of exact versions to use where they fit.
    CalledProcessError, with the reason in `stderr`, if nothing fits together.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "constraints.txt")
        output.write_text("\n".join(preferred), encoding="utf-8")  # uv starts from it
        command = [*UV, *OPTIONS, *PLAIN, "--output-file", output, requirements]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return output.read_text(encoding="utf-8").splitlines()


def main():
    """Write constraints.txt; the exit status is 1 if nothing fits together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", action="store_true", help="take the newest ones")
    preferred = [] if parser.parse_args().upgrade else installed()
    try:
        lines = pins(ROOT / "requirements-test.txt", preferred)
    except subprocess.CalledProcessError as error:
        print(error.stderr)
        return 1
    write_atomically(ROOT / "constraints.txt", HEADER + "\n".join(lines) + "\n")
    print(f"constraints.txt: {len(lines)} versions")
    return 0
