# @title Set-up: figures, files, and claims that are checked
import io
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.display import Image, display
from scipy.stats import binomtest

NOTEBOOK = "{notebook}"
assert BUDGET in ("laptop", "full"), f"BUDGET is {BUDGET!r}; use 'laptop' or 'full'"
ROOT = next((p for p in Path.cwd().parents if (p / "tools/cells").is_dir()), Path.cwd())
VERDICTS = {}  # statement: "holds", "FAILS" or "not tested here"
plt.rcdefaults()
sns.set_theme(style="whitegrid", palette="colorblind", rc={"image.cmap": "gray"})
plt.rcParams["figure.constrained_layout.use"] = True
WIDE = (9.0, 3.6)  # inches
TALL = (9.0, 5.4)


def save_file(path, write):
    """Let `write(temporary)` make the file `path`, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary := path.with_name(f".{os.getpid()}-{path.name}"))
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        print(f"{path.name} is not saved ({type(error).__name__}); all else goes on.")


def save_figure(fig, name, alt):
    """Show `fig` with the alternative text `alt` and save it below plots/."""
    fig.savefig(png := io.BytesIO(), dpi=96)
    plt.close(fig)
    path = ROOT / "plots" / NOTEBOOK / f"{name}.png"
    save_file(path, lambda temporary: temporary.write_bytes(png.getvalue()))
    display(Image(png.getvalue()), metadata={"image/png": {"alt": alt}})


def claim(statement, value, headline=False, tested=True, **bound):
    """Show whether the mean of `value` is at_least=, at_most= or equal= a number."""
    [(kind, limit)], x = bound.items(), np.atleast_1d(value)
    mean, std, n = float(x.mean()), float(x.std(ddof=len(x) > 1)), len(x)
    keeps = {"at_least": np.greater_equal, "at_most": np.less_equal, "equal": np.equal}
    verdict = "holds" if keeps[kind](mean, limit) else "FAILS"
    verdict = VERDICTS[statement] = verdict if tested else "not tested here"
    a, b, c = (f"{v:.4g}" if abs(v) < 1e4 else f"{v:,.0f}" for v in (mean, std, limit))
    measured, rule = f"{a} ± {b} (n = {n})", f"{kind.replace('_', ' ')} {c}"
    if x.dtype == bool and n:  # a share, with its 95 % interval
        low, high = binomtest(int(x.sum()), n).proportion_ci(method="wilson")
        measured = f"{x.sum()} of {n} (95 % interval {low:.3f} to {high:.3f})"
    facts = {"mean": mean, "std": std, "n": n, "limit": float(limit), "bound": rule}
    facts |= {"measured": measured if n > 1 else a, "headline": headline}
    texts = {"text/plain": f"{verdict}: {statement}"}
    texts["text/html"] = f"{verdict}: {statement}: <b>{facts['measured']}</b> ({rule})"
    display(texts, raw=True, metadata={"claim": facts})


def check_claims():
    """Stop with an error that names each claim that failed, if there is one."""
    failed = [statement for statement in VERDICTS if VERDICTS[statement] == "FAILS"]
    assert not failed, "these claims failed: " + "; ".join(failed)
    print("No claim failed.")
