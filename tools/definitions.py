"""Take definitions out of a notebook, so that they can be tested without running its experiments."""

import ast
import os
import sys
import types
from pathlib import Path

import nbformat

from tools.course import find_notebooks


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


def definitions_of_notebook(prefix):
    """Return (path, syntax tree of the definitions) of the notebook whose file name starts with `prefix`.

    LookupError unless it fits exactly one.
    """
    found = find_notebooks([prefix])
    if len(found) != 1:
        raise LookupError(f"'{prefix}' fits {len(found)} notebooks: {[path.stem for path in found]}")
    (path,) = found
    cells = nbformat.read(path, as_version=4).cells
    return path, definitions_of_source([c.source for c in cells if c.cell_type == "code"], path.name)


def load_definitions(prefix, root=None):
    """Return a module with the imports, functions, classes and upper-case constants of a notebook.

    `prefix` is the start of its file name; LookupError unless it fits exactly one. The rest of the notebook is not
    executed. `root` takes the place of the repository root, so that functions that write files write them there.
    """
    path, tree = definitions_of_notebook(prefix)
    module = types.ModuleType(f"notebook_{path.stem}")
    sys.modules[module.__name__] = module
    before = Path.cwd()
    os.chdir(root or before)
    try:
        exec(compile(tree, str(path), "exec"), module.__dict__)
    finally:
        os.chdir(before)
    return module
