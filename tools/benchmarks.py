"""Records of the speed benchmarks: the numbers of one run with what they depend on.

A record says which code was measured, by a hash over the benchmark, the benchmarks that it imports from, and those
definitions of its notebook that they need, directly or through others. So a change of a figure or of a sentence leaves
it valid.
"""

import ast
import hashlib
import json
import os
import platform
import re

from tools.course import ROOT, write_atomically
from tools.definitions import definitions_of_notebook
from tools.results import processor, versions

FOLDER = ROOT / "benchmarks"


def names_in_use(source):
    """Return the names x of all nb.x in `source`, the text of a benchmark, which calls its notebook `nb`."""
    return set(re.findall(r"\bnb\.([A-Za-z_]\w*)", source))


def bound_by(node):
    """Return the names that a definition binds: of a function, a class, a constant, or of imports."""
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return {node.name}


def needed(tree, names):
    """Return the definitions in `tree` that `names` need, directly or through others, in their order."""
    found, todo = set(), set(names)
    while todo:
        name = todo.pop()
        found.add(name)
        for node in tree.body:
            if name in bound_by(node):
                todo |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} - found
    return [node for node in tree.body if bound_by(node) & found]


def notebook_of(source):
    """Return the prefix in `load_definitions("06"...)` in the text of a benchmark."""
    return re.search(r'load_definitions\("(\w+)"', source)[1]


def source_of(name):
    """Return the text of the benchmark `name`, followed by those of the other benchmarks that it imports from."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    others = re.findall(r"^ *from (\w+) import", text, re.MULTILINE)
    return "\n\n".join([text, *(source_of(other) for other in others if (FOLDER / f"{other}.py").exists())])


def hash_of(name):
    """Return the SHA-256 of the benchmark `name` and of what it measures."""
    source = source_of(name)
    _, tree = definitions_of_notebook(notebook_of(source))
    parts = [ast.unparse(node) for node in needed(tree, names_in_use(source))]
    return hashlib.sha256("\n\n".join([source, *parts]).encode()).hexdigest()


def is_current(record):
    """Return whether `record` was measured with the code as it is now."""
    return "code_sha256" in record and record["code_sha256"] == hash_of(record["benchmark"])


def keep(name, numbers):
    """Write logs/benchmarks/`name`.json: `numbers` with hash, processor and versions; return its path."""
    record = {"benchmark": name, **numbers, "code_sha256": hash_of(name)}
    record["processor"] = f"{processor()}, {os.cpu_count()} cores"
    record |= {"python": platform.python_version(), "versions": versions()}
    path = ROOT / "logs" / "benchmarks" / f"{name}.json"
    write_atomically(path, json.dumps(record, indent=1) + "\n")
    return path.relative_to(ROOT)
