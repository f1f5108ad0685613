"""The README's table of results, made from logs/reference/*.json.

python scripts/results_table.py            print the table
python scripts/results_table.py --write    take over the newest measurements from logs/*/claims.json where they
                                           hold on real data, and write the table into the README
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def table(reference):
    """Return the Markdown table of the headline claims in the JSON files of the folder `reference`."""
    lines = ["| Notebook | Result | Measured | Bound | Budget |", "|---|---|---|---|---|"]
    for path in sorted(reference.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        number = record["notebook"].split("_")[0]
        for row in record["claims"]:
            if row["headline"]:
                digits = row["digits"]
                value = f"{row['value']:,.{digits}f}"
                if row["std"] is not None:
                    value += f" ± {row['std']:.{digits}f} (n = {row['n']})"
                bound = f"{row['relation']} {row['bound']:,.{digits}f}"
                lines.append(f"| {number} | {row['claim']} | {value} | {bound} | {record['budget']} |")
    return "\n".join(lines)


def with_table(readme, reference):
    """Return the text `readme` with the table between its two marks; ValueError where the marks are missing."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"the README needs one line {BEGIN} and one line {END}")
    head, rest = readme.split(BEGIN)
    return f"{head}{BEGIN}\n{table(reference)}\n{END}{rest.split(END)[1]}"


def take_over(logs, reference):
    """Copy each logs/NOTEBOOK/claims.json of real data without a failed claim to the folder `reference`."""
    for path in sorted(logs.glob("*/claims.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["data"] == "stand-in digits" or any(row["verdict"] == "FAILS" for row in record["claims"]):
            print(f"{record['notebook']}: not taken over (stand-in data, or a claim fails)")
            continue
        budget = "" if record["budget"] == "laptop" else f".{record['budget']}"
        target = reference / f"{record['notebook']}{budget}.json"
        target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if "--write" in sys.argv:
        take_over(ROOT / "logs", ROOT / "logs" / "reference")
        text = with_table((ROOT / "README.md").read_text(encoding="utf-8"), ROOT / "logs" / "reference")
        (ROOT / "README.md").write_text(text, encoding="utf-8")
    print(table(ROOT / "logs" / "reference"))
