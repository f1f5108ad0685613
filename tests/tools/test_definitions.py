"""The loader takes definitions, and nothing else, out of a notebook."""

import ast

import pytest

from tools.definitions import definitions_of_source, load_definitions


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
        load_definitions("xx")


def test_a_prefix_of_several_notebooks_is_refused():
    """`lecture` fits nine: the error names them."""
    with pytest.raises(LookupError, match="lecture_9"):
        load_definitions("lecture")
