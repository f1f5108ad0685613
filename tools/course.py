"""What every tool needs: folders, notebooks, the repository's address, and writing a file whole or not at all."""

import ast
import hashlib
import os
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
SETUP = "# @title Set-up: "  # how a set-up cell begins
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))  # the experiments, then the guidebook


def repository(root=ROOT):
    """Return "owner/name" from the one line of pyproject.toml that says where the course lives."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return settings["tool"]["course"]["repository"]


def find_notebooks(prefixes, notebooks=NOTEBOOKS):
    """Return the notebooks whose file names start with one of `prefixes`, all of them if there is none.

    LookupError with a list of the names if a prefix fits nothing.
    """
    for prefix in prefixes:
        if not any(path.name.startswith(prefix) for path in notebooks):
            names = "\n  ".join(path.stem for path in notebooks)
            raise LookupError(f"No notebook starts with '{prefix}'. There are:\n  {names}")
    return [path for path in notebooks if not prefixes or path.name.startswith(tuple(prefixes))]


def write_atomically(path, text):
    """Write `text` to `path` by way of a temporary file, so that an interrupted run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    finally:
        if temporary.exists():
            temporary.unlink()


def write_notebook(path, nb):
    """Write the notebook `nb` to `path` in the one form that this repository keeps; nbformat checks it first."""
    nbformat.validate(nb)
    write_atomically(path, nbformat.writes(nb) + "\n")


def code_hash(nb):
    """Return the SHA-256 of the code cells of `nb` in their order, without injected parameters.

    Of the set-up cells, which are generated and mostly show and save, only the functions `claim` and `load_mnist`
    count: what is measured depends on them.
    """
    texts = []
    for cell in nb.cells:
        if cell.cell_type != "code" or "injected-parameters" in cell.metadata.get("tags", []):
            continue
        if cell.source.startswith(SETUP):
            functions = [node for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef)]
            measuring = [node for node in functions if node.name in ("claim", "load_mnist")]
            texts += [ast.get_source_segment(cell.source, node) for node in measuring]
        else:
            texts.append(cell.source)
    return hashlib.sha256("\n\n".join(texts).encode()).hexdigest()
