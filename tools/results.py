"""Take over the measurements of the last runs: logs/NOTEBOOK/record.json to results/, if all claims hold there.

A record holds the claims of one run with the hash of the notebook's code cells, versions, processor and seconds.
`make save` writes the record of a notebook at the same time as its outputs; this command is for runs with another
budget, made elsewhere, and for the benchmarks in logs/benchmarks/.
"""

import argparse
import importlib.metadata
import json
import os
import platform
from pathlib import Path

import nbformat

from tools.course import NOTEBOOKS, ROOT, code_hash, write_atomically

PACKAGES = ("numpy", "torch", "tensorflow", "keras", "scikit-learn", "matplotlib")
STAND_IN = ("Data: 5,000 MNIST digits", "Text: Python's documentation")


def claims_of(nb):
    """Return the claims in the outputs of the notebook `nb`, one dictionary each, the last of each statement."""
    claims = {}
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if "claim" in output.get("metadata", {}):
                verdict, _, statement = output["data"]["text/plain"].partition(": ")
                claims[statement] = {"claim": statement, "verdict": verdict, **output["metadata"]["claim"]}
    return list(claims.values())


def processor():
    """Return the name of the processor, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(": ")[2] for line in info.read_text().splitlines() if line.startswith("model name")]
        return names[0] if names else platform.machine()
    return platform.processor() or platform.machine()


def versions():
    """Return {package: version} of those of PACKAGES that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def record_of(nb, name, seconds, parameters):
    """Return the record of a run of the notebook `nb`, called `name`: claims, code hash, versions, seconds."""
    text = "".join(
        output.text for cell in nb.cells for output in cell.get("outputs", []) if output.output_type == "stream"
    )
    return {
        "notebook": name,
        "budget": parameters.get("BUDGET", "laptop"),
        "parameters": {key: value for key, value in parameters.items() if key != "BUDGET"},
        "data": "stand-in" if any(line in text for line in STAND_IN) else "real",
        "code_sha256": code_hash(nb),
        "seconds": round(seconds, 1),
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": versions(),
        "claims": claims_of(nb),
    }


def obstacle(record):
    """Return why `record` may not be published, or "": stand-in data, another seed, a claim that does not hold."""
    if record["data"] != "real":
        return "it ran on stand-in data; put the data sets into data/ first"
    if record["parameters"]:
        return f"it ran with other parameters: {', '.join(record['parameters'])}"
    wrong = [row["claim"] for row in record["claims"] if row["verdict"] != "holds"]
    return f"not all claims hold: {'; '.join(wrong)}" if wrong else ""


def store(record, path):
    """Write `record` as JSON to `path`."""
    write_atomically(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def is_current(record):
    """Return whether `record` was measured with the code that its notebook has now."""
    (path,) = [path for path in NOTEBOOKS if path.stem == record["notebook"]]
    return record["code_sha256"] == code_hash(nbformat.read(path, as_version=4))


def take_over(logs, results):
    """Copy each record in `logs` that may be published and is current to `results`, and the benchmarks; name them."""
    for path in sorted(logs.glob("*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        problem = obstacle(record) or ("" if is_current(record) else "it was measured on older code")
        if problem or not record["claims"]:
            print(f"{record['notebook']}: not taken over, for {problem or 'it has no claims'}")
            continue
        suffix = "" if record["budget"] == "laptop" else f".{record['budget']}"
        store(record, results / f"{record['notebook']}{suffix}.json")
        print(f"{record['notebook']}{suffix}: taken over")
    for path in sorted((logs / "benchmarks").glob("*.json")):
        write_atomically(results / "benchmarks" / path.name, path.read_text(encoding="utf-8"))
        print(f"benchmark {path.stem}: taken over")


def main():
    """Take over what logs/ holds; return the exit status."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    take_over(ROOT / "logs", ROOT / "results")
    print("Now renew the tables: python -m tools sync")
    return 0
