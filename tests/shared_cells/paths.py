# shared cell: paths
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import seaborn as sns
from IPython.display import Image, display


def find_root(start):
    """Return the repository root at or above `start`; a notebook copied out alone gets `start` itself."""
    start = Path(start).resolve()
    for folder in [start, *start.parents]:
        if (folder / "requirements.txt").is_file() and (folder / "notebooks").is_dir():
            return folder
    return start


def install_on_colab(packages):
    """Install those of `packages` (pip names) that are missing, on Google Colab only."""
    missing = [name for name in packages if importlib.util.find_spec(name.split("==")[0]) is None]
    if missing and "google.colab" in sys.modules:
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", *missing], check=True)


def write_atomically(path, write):
    """Call `write(temporary_path)`, then move the result to `path`, so that no reader sees half a file.

    The temporary name keeps the suffix of `path`. If `write` raises, an older file at `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".unfinished-", suffix=path.suffix)
    os.close(handle)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def save_figure(fig, name, alt):
    """Save `fig` as plots/NOTEBOOK/name.png, show that picture with the alternative text `alt`, and close `fig`."""
    path = ROOT / "plots" / NOTEBOOK / f"{name}.png"
    write_atomically(path, lambda temporary: fig.savefig(temporary, dpi=96, metadata={"Description": alt}))
    plt.close(fig)
    display(Image(path.read_bytes()), metadata={"image/png": {"alt": alt}})


ROOT = find_root(Path.cwd())
for _name in ("data", "plots", "models", "logs"):
    (ROOT / _name).mkdir(exist_ok=True)
install_on_colab(COLAB_PACKAGES)
sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
plt.rcParams.update({"figure.constrained_layout.use": True, "image.cmap": "gray"})
