"""Write copies of the lessons without solutions into handouts/, for teachers: python -m tools handouts [PREFIX ...]

Cells tagged `solution` go, outputs and counts are cleared. A hand-out runs from top to bottom: nothing depends on
a solution.
"""

import argparse

import nbformat
from nbconvert.preprocessors import ClearOutputPreprocessor, TagRemovePreprocessor

from tools.course import NOTEBOOKS, ROOT, find_notebooks, write_notebook


def hand_out(nb):
    """Return a copy of the notebook `nb` without the cells tagged `solution` and without outputs."""
    nb = nbformat.from_dict(nb)
    nb, _ = TagRemovePreprocessor(remove_cell_tags={"solution"}).preprocess(nb, {})
    nb, _ = ClearOutputPreprocessor().preprocess(nb, {})
    return nb


def main():
    """Write a hand-out of each notebook that has solutions; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", nargs="*", help="start of a notebook's name, such as 01")
    for path in find_notebooks(parser.parse_args().prefix, NOTEBOOKS):
        nb = nbformat.read(path, as_version=4)
        if any("solution" in cell.metadata.get("tags", []) for cell in nb.cells):
            target = ROOT / "handouts" / path.name
            write_notebook(target, hand_out(nb))
            print(target.relative_to(ROOT))
    return 0
