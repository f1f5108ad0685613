"""The tables of the README: notebooks and lectures, from their opening cards, results and speed, from logs/reference.

python scripts/readme_tables.py            print them
python scripts/readme_tables.py --write    write them into the README, after taking over the newest measurements:
                                           each logs/NOTEBOOK/claims.json of a run on real data without a failure
"""

import json
import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]


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


def table_of_results(reference):
    """Return the Markdown table of the headline claims in the JSON files of the folder `reference`, a column a budget.

    The bound is that of the laptop budget; one that differs in the full budget stands beside its value.
    """
    lines = ["| Notebook | Result | Laptop budget | Bound | Full budget |", "|---|---|---|---|---|"]
    claims = {}  # (number, claim): {budget: row}
    for path in sorted(reference.glob("*.json"), key=lambda path: (".full" in path.name, path.name)):
        record = json.loads(path.read_text(encoding="utf-8"))
        number = record["notebook"].split("_")[0]
        for row in record["claims"]:
            if row["headline"]:
                claims.setdefault((number, row["claim"]), {})[record["budget"]] = row
    for number, claim in sorted(claims, key=lambda key: key[0]):
        rows = claims[number, claim]
        nothing = {"measured": "", "limit": ""}
        laptop, full = rows.get("laptop", nothing), rows.get("full", nothing)
        other = f", {full['limit']}" if full["limit"] != laptop["limit"] and full["limit"] else ""
        lines.append(f"| {number} | {claim} | {laptop['measured']} | {laptop['limit']} | {full['measured']}{other} |")
    return "\n".join(lines)


SPEED = {  # benchmark: (fast way, slow way)
    "mnist_time_to_99": ("fast recipe of notebook 06, to 99 % on MNIST", "images one by one through a DataLoader"),
    "xor_sweep": ("10,000 XOR networks in batches, notebook 03", "a plain loop over networks"),
}


def table_of_speed(reference):
    """Return the Markdown table of the speed ratios in the JSON files of the folder `reference`."""
    lines = ["| Fast way | Compared with | Times as fast |", "|---|---|---|"]
    for name, (fast, slow) in SPEED.items():
        if (reference / f"{name}.json").exists():
            ratio = json.loads((reference / f"{name}.json").read_text(encoding="utf-8"))["ratio"]
            lines.append(f"| {fast} | {slow} | {ratio:,.0f} |")
    return "\n".join(lines)


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
    readme = fill(readme, "results", table_of_results(root / "logs" / "reference"))
    return fill(readme, "speed", table_of_speed(root / "logs" / "reference" / "benchmarks"))


def take_over(logs, reference):
    """Copy the claims of each experiment notebook, if on real data and without a failure, to the folder `reference`."""
    for path in sorted(logs.glob("[0-9]*/claims.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["data"].startswith("stand-in") or any(row["verdict"] == "FAILS" for row in record["claims"]):
            print(f"{record['notebook']}: not taken over (stand-in data, or a claim fails)")
            continue
        budget = "" if record["budget"] == "laptop" else f".{record['budget']}"
        target = reference / f"{record['notebook']}{budget}.json"
        target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for path in sorted((logs / "benchmarks").glob("*.json")):
        (reference / "benchmarks").mkdir(exist_ok=True)
        (reference / "benchmarks" / path.name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    file = ROOT / "README.md"
    if "--write" in sys.argv:
        take_over(ROOT / "logs", ROOT / "logs" / "reference")
        file.write_text(with_tables(file.read_text(encoding="utf-8")), encoding="utf-8")
    print(map_of_notebooks(ROOT), map_of_guidebook(ROOT), sep="\n")
    print(table_of_results(ROOT / "logs" / "reference"))
