"""The loader takes definitions, and nothing else, out of a notebook."""

import ast

import pytest
from notebook_loader import definitions_of_source, find_notebook


def names_of(source):
    """Return what `source` defines when only its definitions are executed."""
    namespace = {}
    exec(compile(definitions_of_source([source], "test"), "test", "exec"), namespace)
    return {name for name in namespace if not name.startswith("__")}


def test_takes_imports_functions_classes_and_constants():
    """Those four survive; variables, loops and calls do not."""
    source = (
        "import math\nSIZE = 3\nx = 1/0\nfor i in range(3):\n    1/0\ndef f():\n    return 1\nclass A:\n    pass\n1/0"
    )
    assert names_of(source) == {"math", "SIZE", "f", "A"}


def test_keeps_order_across_cells():
    """A later cell may use the definitions of an earlier one."""
    tree = definitions_of_source(["A = 2", "B = A + 1"], "test")
    assert [ast.unparse(node) for node in tree.body] == ["A = 2", "B = A + 1"]


def test_unknown_notebook_is_named():
    """A prefix that fits nothing is an error that lists the notebooks."""
    with pytest.raises(LookupError, match="06_mnist"):
        find_notebook("xx")
