"""Compare the shared cells of every notebook with tests/shared_cells/; with --write, repair the notebooks."""

import difflib
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
MARK = "# shared cell: "


def canonical(name):
    """Return the text of shared cell `name`; raises KeyError with the known names if there is none."""
    path = ROOT / "tests" / "shared_cells" / f"{name}.py"
    if not path.exists():
        known = sorted(file.stem for file in path.parent.glob("*.py"))
        raise KeyError(f"no shared cell '{name}'; there are {known}")
    return path.read_text(encoding="utf-8").rstrip("\n")


def shared_cells(nb):
    """Yield (name, cell) for each code cell of `nb` whose first line names a shared cell."""
    for cell in nb.cells:
        if cell.cell_type == "code" and cell.source.startswith(MARK):
            yield cell.source.splitlines()[0].removeprefix(MARK).strip(), cell


def differences(path):
    """Return a unified diff of each shared cell in the notebook `path` that departs from its canonical text."""
    found = []
    for name, cell in shared_cells(nbformat.read(path, as_version=4)):
        if cell.source != canonical(name):
            lines = canonical(name).splitlines(), cell.source.splitlines()
            found.append("\n".join(difflib.unified_diff(*lines, f"{name}.py", path.name, lineterm="")))
    return found


def repair(path):
    """Write the canonical text into the shared cells of the notebook `path`."""
    nb = nbformat.read(path, as_version=4)
    for name, cell in shared_cells(nb):
        cell.source = canonical(name)
    nbformat.write(nb, path)


if __name__ == "__main__":
    exit_status = 0
    for notebook in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        for diff in differences(notebook):
            print(diff)
            exit_status = 1
            if "--write" in sys.argv:
                repair(notebook)
                print(f"{notebook.name}: repaired; now execute it again with make save")
    sys.exit(0 if "--write" in sys.argv else exit_status)
