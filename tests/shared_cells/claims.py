# shared cell: claims
import json
import platform
import time

import numpy as np
import pandas as pd


class Claims:
    """The statements of this notebook, each with its measured value, its bound, and a verdict.

    A claim is made with `at_least`, `at_most` or `equal`. `value` is a number, or a list of numbers, one per random
    run: then the mean is compared, and standard deviation and n are kept. `needs_mnist=True` marks a claim that
    says nothing about the stand-in digits. A `headline` claim appears in the README's table of results.
    """

    def __init__(self, notebook, budget, data="MNIST"):
        self.notebook, self.budget, self.data = notebook, budget, data
        self.rows, self.start = [], time.time()

    def at_least(self, claim, value, bound, **options):
        """Claim that `value` is `bound` or more."""
        self._add(claim, value, "≥", bound, lambda v: v >= bound, **options)

    def at_most(self, claim, value, bound, **options):
        """Claim that `value` is `bound` or less."""
        self._add(claim, value, "≤", bound, lambda v: v <= bound, **options)

    def equal(self, claim, value, bound, **options):
        """Claim that `value` is exactly `bound`."""
        self._add(claim, value, "=", bound, lambda v: v == bound, **options)

    @staticmethod
    def number(value, digits):
        """Return `value` as text with that many decimals, or as 1.2e-09 where they would not show it."""
        return f"{value:.1e}" if 0 < abs(value) < 10**-digits else f"{value:,.{digits}f}"

    def _add(self, claim, value, relation, bound, holds, needs_mnist=False, headline=False, digits=4):
        values = np.atleast_1d(np.asarray(value, dtype=float))
        mean = float(values.mean())
        skipped = needs_mnist and self.data != "MNIST"
        verdict = "not tested" if skipped else "holds" if holds(mean) else "FAILS"
        self.rows = [row for row in self.rows if row["claim"] != claim]  # a cell that is run again counts once
        std = float(values.std(ddof=1)) if len(values) > 1 else None
        measured = self.number(mean, digits) + (
            f" ± {self.number(std, digits)} (n = {len(values)})" if std is not None else ""
        )
        self.rows.append({
            "claim": claim, "value": mean, "std": std, "n": len(values), "relation": relation, "bound": float(bound),
            "verdict": verdict, "headline": headline, "measured": measured,
            "limit": f"{relation} {self.number(bound, digits)}",
        })  # fmt: skip

    def table(self):
        """Write logs/NOTEBOOK/claims.json and return the claims as a table of text, one row each."""
        record = {
            "notebook": self.notebook, "budget": self.budget, "data": self.data, "claims": self.rows,
            "seconds": round(time.time() - self.start, 1), "cores": os.cpu_count(),
            "machine": platform.machine(), "python": platform.python_version(),
        }  # fmt: skip
        path = ROOT / "logs" / self.notebook / "claims.json"
        write_atomically(path, lambda temporary: Path(temporary).write_text(json.dumps(record, indent=1) + "\n"))
        columns = {"claim": "claim", "measured": "measured", "limit": "bound", "verdict": "verdict"}
        table = pd.DataFrame(self.rows)[list(columns)].rename(columns=columns)
        return table.style.hide(axis="index").set_properties(**{"text-align": "left"})

    def verify(self):
        """Raise an AssertionError that names each claim out of its bound; print one line if there is none."""
        failed = [row for row in self.rows if row["verdict"] == "FAILS"]
        for row in failed:
            print(f"FAILS: {row['claim']}: {row['value']:.6g}, claimed {row['relation']} {row['bound']:.6g}")
        if failed:
            raise AssertionError("claims out of bounds: " + "; ".join(row["claim"] for row in failed))
        print("No claim is out of its bound.")


claims = Claims(NOTEBOOK, BUDGET)
