"""The tables of README.md and results/README.md, from the notebooks' opening cards and the records in results/."""

import json
import re

import nbformat

from tools import benchmarks
from tools.course import ROOT


def row_of_notebook(path, number, root):
    """Return a line of a Markdown table from the opening card: number, title, question, minutes to run, Colab badge."""
    card = nbformat.read(path, as_version=4).cells[0].source
    title = re.sub(r"^# (Lecture \d+: )?", "", card.splitlines()[0])
    question = re.search(r"\*\*Question\*\* (.+)", card)[1]
    minutes = re.search(r"\*\*Minutes\*\*\D*([\d.]+)", card)[1]
    badge = re.search(r"\[!\[.*?\]\(.*?\)\]\(.*?\)", card)[0]
    return f"| {number} | [{title}]({path.relative_to(root).as_posix()}) | {question} | {minutes} | {badge} |"


def map_of_notebooks(root):
    """Return the Markdown table of the experiment notebooks of the repository at `root`."""
    lines = ["| | Notebook | Question | Minutes | |", "|---|---|---|---|---|"]
    paths = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    return "\n".join(lines + [row_of_notebook(path, path.name[:2], root) for path in paths])


def map_of_guidebook(root):
    """Return the Markdown table of the guidebook of the repository at `root`: lectures first, then the other pages."""
    lines = ["| | Lecture | Question | Minutes to run | |", "|---|---|---|---|---|"]
    folder = root / "notebooks" / "guidebook"
    lectures = sorted(folder.glob("lecture_*.ipynb"))
    others = sorted(set(folder.glob("*.ipynb")) - set(lectures))
    lines += [row_of_notebook(path, path.name.split("_")[1], root) for path in lectures]
    return "\n".join(lines + [row_of_notebook(path, "", root) for path in others])


def records(folder):
    """Return the records in `folder`, laptop budget first, in the order of the notebooks."""
    paths = sorted(folder.glob("*.json"), key=lambda path: (".full" in path.name, path.name))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def short_name(name):
    """Return "06" for 06_mnist_... and "lecture 3" for lecture_3_...; another name stays."""
    return " ".join(name.split("_")[:2]) if name.startswith("lecture") else name.split("_")[0]


def table_of_results(folder):
    """Return the Markdown table of the first headline claim of each record in `folder`, laptop budget."""
    lines = ["| Notebook | Result | Measured | Claimed |", "|---|---|---|---|"]
    for record in records(folder):
        rows = [row for row in record["claims"] if row["headline"] and record["budget"] == "laptop"]
        for row in rows[:1]:
            name = short_name(record["notebook"])
            lines.append(f"| {name} | {row['claim']} | {row['measured']} | {row['bound']} |")
    return "\n".join(lines)


BENCHMARKS = {  # file: (fast way, slow way)
    "mnist_time_to_99": ("fast recipe of notebook 06, to 99 % on MNIST", "images one by one through a DataLoader"),
    "xor_sweep": ("10,000 XOR networks in batches, notebook 03", "a plain loop over networks"),
    "xor_compiled": ("100,000 XOR networks in a compiled kernel", "a plain loop over networks"),
    "lstm_tokens_per_second": ("LSTM training of notebook 09", "padded sentences, mask, full softmax"),
    "keras_cnn_training": ("Keras `fit` on the first network of notebook 08", "a plain PyTorch loop"),
}


ACCURACY = "mnist_test_995"  # the one benchmark that measures an accuracy, not a ratio


def table_of_speed(folder):
    """Return the Markdown table of the speed ratios in the JSON files of `folder`."""
    lines = ["| Fast way | Compared with | Times as fast |", "|---|---|---|"]
    for name, (fast, slow) in BENCHMARKS.items():
        if (folder / f"{name}.json").exists():
            record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            ratio = f"{record['ratio']:,.0f}" if record["ratio"] >= 20 else f"{record['ratio']:.1f}"
            note = "" if benchmarks.is_current(record) else " (measured on older code)"
            lines.append(f"| {fast} | {slow} | {ratio}{note} |")
    return "\n".join(lines)


def sentence_on_accuracy(folder):
    """Return a sentence on the seconds to 99.5 % on the test set from its JSON file in `folder`; "" without it."""
    path = folder / f"{ACCURACY}.json"
    if not path.exists():
        return ""
    record = json.loads(path.read_text(encoding="utf-8"))
    test = record["test"]
    note = "" if benchmarks.is_current(record) else " (measured on older code)"
    return (
        f"MNIST, length chosen on validation images: {100 * test['accuracy_mean']:.2f} ± "
        f"{100 * test['accuracy_std']:.2f} % of the test set (n = {test['seeds']}) after {test['seconds_mean']:.1f} "
        f"seconds of training on {record['processor']}{note}."
    )


def results_page(folder):
    """Return the text of results/README.md: every claim of every record in `folder`, and the speed ratios."""
    lines = [
        "# Results",
        "",
        "Every claim that a notebook makes and checks, as it was measured in the stored run. Where a value has a",
        "spread, it is the mean and standard deviation over n random runs; a share has its 95 % interval (Wilson).",
        "The JSON files beside this page hold the same with the versions of the packages and a hash of the code:",
        "a test fails when a notebook has changed since. `python -m tools sync` writes this page.",
    ]
    for record in records(folder):
        lines += ["", f"## {record['notebook']}, budget {record['budget']}", ""]
        versions = ", ".join(f"{package} {version}" for package, version in record["versions"].items())
        lines += [f"{record['seconds']:.0f} seconds on {record['processor']}; Python {record['python']}, {versions}."]
        lines += ["", "| Claim | Measured | Claimed |", "|---|---|---|"]
        lines += [f"| {row['claim']} | {row['measured']} | {row['bound']} |" for row in record["claims"]]
    lines += ["", "## Speed, as ratios within one run", "", table_of_speed(folder / "benchmarks")]
    lines += ["", sentence_on_accuracy(folder / "benchmarks")]
    return "\n".join(lines).rstrip() + "\n"


def fill(readme, name, table):
    """Return the text `readme` with `table` between the marks `name: begin` and `name: end`; ValueError without."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if readme.count(begin) != 1 or readme.count(end) != 1:
        raise ValueError(f"the README needs one line {begin} and one line {end}")
    return f"{readme.split(begin)[0]}{begin}\n{table}\n{end}{readme.split(end)[1]}"


def with_tables(readme, root=ROOT):
    """Return the text `readme` with all tables as the repository at `root` has them now."""
    readme = fill(readme, "notebooks", map_of_notebooks(root))
    readme = fill(readme, "guidebook", map_of_guidebook(root))
    return fill(readme, "results", table_of_results(root / "results"))
