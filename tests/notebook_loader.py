"""Take definitions out of a notebook, so that pytest can test them without running its experiments."""

import ast
import os
import sys
import types
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))


def find_notebook(prefix):
    """Return the path of the one notebook whose file name starts with `prefix`; LookupError otherwise."""
    found = [path for path in NOTEBOOKS if path.name.startswith(prefix)]
    if len(found) != 1:
        raise LookupError(f"'{prefix}' fits {len(found)} notebooks; there are {[path.stem for path in NOTEBOOKS]}")
    return found[0]


def is_definition(node):
    """Return whether a top-level statement is an import, a function, a class, or an upper-case constant."""
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id.isupper() for target in node.targets)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def definitions_of_source(sources, filename):
    """Return the syntax tree of the definitions in `sources`, a list of cell texts, in their order."""
    body = []
    for source in sources:
        body += [node for node in ast.parse(source, filename).body if is_definition(node)]
    return ast.Module(body, type_ignores=[])


def load_definitions(prefix, root=None):
    """Return a module with the imports, functions, classes and upper-case constants of a notebook.

    The rest of the notebook is not executed. `root` takes the place of the repository root, so that functions that
    write files write them there.
    """
    path = find_notebook(prefix)
    cells = nbformat.read(path, as_version=4).cells
    tree = definitions_of_source([c.source for c in cells if c.cell_type == "code"], path.name)
    module = types.ModuleType(f"notebook_{path.stem}")
    sys.modules[module.__name__] = module
    before = Path.cwd()
    os.chdir(root or before)
    try:
        exec(compile(tree, str(path), "exec"), module.__dict__)
    finally:
        os.chdir(before)
    return module
