"""Run notebooks with other seeds: how often does each claim fail, and how far is it from its bound?

python -m tools seeds 01 02           ten other seeds each
python -m tools seeds --seeds 3 06    fewer, where a run takes minutes
"""

import argparse
import copy
import sys
from collections import defaultdict

import nbformat
import numpy as np

from tools.course import find_notebooks
from tools.results import claims_of
from tools.run import Progress, execute, inject


def margins(claims, limits, values, failures):
    """Add the claims of one run to the dictionaries `limits`, `values` and `failures`, by statement."""
    for row in claims:
        statement = row["claim"]
        limits[statement] = (row["bound"].rpartition(" ")[0], row["limit"])
        values[statement].append(row["mean"])
        failures[statement] += row["verdict"] == "FAILS"


def main():
    """Print a line for each claim whose value depends on the seed; the exit status is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", nargs="+", help="start of a notebook's name, such as 01")
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds, from 101 on")
    options = parser.parse_args()
    failed, paths = 0, find_notebooks(options.prefix)
    seeds = range(101, 101 + options.seeds)
    for path in paths:
        limits, values, failures = {}, defaultdict(list), defaultdict(int)
        nb = nbformat.read(path, as_version=4)
        num_cells = sum(cell.cell_type == "code" for cell in nb.cells)
        with Progress(num_cells * len(seeds), len(seeds)) as progress:
            for seed in seeds:
                run = copy.deepcopy(nb)
                inject(run, {"SEED": seed})
                error = execute(run, path.parent, f"{path.stem}, seed {seed}", progress)
                margins(claims_of(run), limits, values, failures)
                if error and "these claims failed" not in error:
                    print(f"\n  seed {seed}: {error.splitlines()[0]}")
                    failed += 1
        print(f"\n{path.stem}: failures, mean ± standard deviation over seeds, bound, standard deviations from it")
        for statement, found in values.items():
            spread = np.std(found, ddof=1) if len(found) > 1 else 0.0
            if spread > 0 or failures[statement]:
                relation, limit = limits[statement]
                distance = abs(np.mean(found) - limit) / spread if spread > 0 else np.inf
                print(
                    f"  {failures[statement]:2d}  {np.mean(found):10.5g} ± {spread:<9.3g} {relation} {limit:<10.5g}"
                    f" {distance:5.1f}  {statement}"
                )
        failed += sum(failures.values())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
