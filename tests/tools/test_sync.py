"""Everything that is generated is in step, and a name means one function in all notebooks."""

import ast
import shutil
import subprocess
import sys
from collections import defaultdict

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import sync
from tools.course import NOTEBOOKS, ROOT, repository, write_notebook


def test_everything_generated_is_in_step():
    """`python -m tools sync --check` finds nothing to write."""
    command = [sys.executable, "-m", "tools", "sync", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert result.returncode == 0, result.stdout + result.stderr


def definitions_of(path):
    """Return the statements of a notebook's code; an exercise and its solution define one name in two ways."""
    nb = nbformat.read(path, as_version=4)
    nb.cells = [cell for cell in nb.cells if not {"exercise", "solution"} & set(cell.metadata.get("tags", []))]
    return ast.parse(sync.code_of(nb)).body


def test_one_name_one_body():
    """A function or class that stands in two notebooks has the same text in both, and comes from tools/cells."""
    bodies = defaultdict(lambda: defaultdict(list))
    for path in NOTEBOOKS:
        for node in definitions_of(path):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                bodies[node.name][ast.unparse(node)].append(path.stem)
    several = {name: texts for name, texts in bodies.items() if sum(map(len, texts.values())) > 1}
    assert not {name: list(texts.values()) for name, texts in several.items() if len(texts) > 1}
    assert set(several) <= set(sync.shared_functions()), "add it to tools/cells/functions.py"


def test_every_shared_function_is_used_in_several_notebooks():
    """A function that only one notebook has left stands there alone."""
    count = defaultdict(int)
    for path in NOTEBOOKS:
        for node in definitions_of(path):
            count[getattr(node, "name", "")] += 1
    assert not [name for name in sync.shared_functions() if count[name] < 2]


def small(code="x = 1"):
    """Return a notebook with a card, a parameters cell and `code`."""
    badge = "[![Open In Colab](https://a.b/c.svg)](https://colab.research.google.com/github/o/n/blob/main/x.ipynb)"
    parameters = new_code_cell('BUDGET = "laptop"\nSEED = 0', metadata={"tags": ["parameters"]})
    return new_notebook(cells=[new_markdown_cell(f"# Title\n\n{badge}"), parameters, new_code_cell(code)])


PATH = ROOT / "notebooks" / "99_small.ipynb"


def test_a_notebook_gets_the_set_up_that_it_needs():
    """Plain, with MNIST, with Keras, and packages that Colab lacks; twice changes nothing."""
    titles = {"x = 1": ["figures"], 'load_mnist(ROOT / "data")': ["figures", "MNIST"]}
    for code, wanted in titles.items():
        nb = sync.renewed(small(f"{code}\nsave_figure(1, 2, 3)"), PATH)
        cells = [cell.source for cell in nb.cells if cell.source.startswith(sync.SETUP)]
        titles_of_cells = [cell.removeprefix(sync.SETUP) for cell in cells]
        assert all(title.startswith(word) for title, word in zip(titles_of_cells, wanted, strict=True))
        assert nbformat.writes(sync.renewed(nb, PATH)) == nbformat.writes(nb)
        assert 'NOTEBOOK = "99_small"' in cells[0] and "tensorflow" not in cells[0]
    nb = sync.renewed(small("import keras\nimport visualkeras\nimport tensorboardX\nclaim('one', 1, equal=1)"), PATH)
    (cell,) = [cell.source for cell in nb.cells if cell.source.startswith(sync.SETUP)]
    assert '"KERAS_BACKEND": "tensorflow"' in cell and "pip install -q tensorboardX visualkeras==0.1.4" in cell
    assert cell.index("KERAS_BACKEND") < cell.index("import tensorflow")


def test_set_up_holds_nothing_that_the_page_leaves_unused():
    """A function, an import and an upper-case constant go where neither the page nor the set-up uses them."""
    text = "import os\nimport sys\n\nOLD = 1\nNEW = 2\nfirst = 3\n\n\ndef low():\n    return NEW\n"
    text += "\n\ndef high():\n    return low() + len(sys.argv)\n\n\ndef alone():\n    return os.sep * OLD"
    assert sync.needed(text, "first = high() + alone()") == text
    less = sync.needed(text, "first = high()")
    assert "sys" in less and "low" in less and "NEW" in less and "first = 3" in less
    assert not {"os", "OLD", "alone"} & sync.words(less)
    assert sync.needed(text, "x = 1") == "first = 3", "what only an unused function used goes with it"


def test_a_changed_set_up_or_shared_function_is_repaired():
    """A changed character in a generated cell is put right, and nothing else changes."""
    nb = sync.renewed(small(sync.shared_functions()["split"] + "\n\n\nx = 1"), PATH)
    text = nbformat.writes(nb)
    nb.cells[2].source = nb.cells[2].source.replace("AssertionError", "Error").replace("No claim", "A claim")
    nb.cells[3].source = nb.cells[3].source.replace("permutation", "choice")
    assert nbformat.writes(nb) != text
    assert nbformat.writes(sync.renewed(nb, PATH)) == text


def test_set_up_that_is_no_longer_needed_goes():
    """Without load_mnist the second set-up cell is removed."""
    nb = sync.renewed(small("load_mnist(0)"), PATH)
    nb.cells[-1].source = "x = 1"
    assert sum(cell.source.startswith(sync.SETUP) for cell in sync.renewed(nb, PATH).cells) == 1


def test_folding_follows_the_title():
    """A cell with `# @title` gets all three kinds of folding and keeps its tags; without, it loses them."""
    nb = small("# @title Figure: a line\nx = 1")
    nb.cells[2].metadata = {"tags": ["solution"]}
    cell = sync.renewed(nb, PATH).cells[-1]
    assert cell.metadata == {"tags": ["solution", "hide-input"], "cellView": "form", "jupyter": {"source_hidden": True}}
    cell.source = "x = 1"
    nb = new_notebook(cells=[cell])
    sync.fold(nb)
    assert nb.cells[0].metadata == {"tags": ["solution"]}


def test_a_missing_quiz_cell_is_named():
    """Where a generated cell must stand is for the author to choose."""
    with pytest.raises(ValueError, match=r"99_small.ipynb needs exactly one cell .*Quiz"):
        sync.renewed(small(), PATH, [("code", "# @title Quiz", "# @title Quiz: check yourself")])


def test_a_fork_changes_one_line_and_runs_one_command(tmp_path):
    """With another name in pyproject.toml, `sync` puts it into badges, README and citation; the check then passes."""
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in ("notebooks", "tools", "results", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "CITATION.cff", "requirements.txt", "requirements-test.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    settings = tmp_path / "pyproject.toml"
    settings.write_text(settings.read_text().replace(f'"{repository()}"', '"somebody/lessons"'))

    def run(*options):
        command = [sys.executable, "-m", "tools", "sync", *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")

    assert run("--check").returncode == 1
    assert run().returncode == 0
    assert not run("--check").stdout
    owner = repository().split("/")[0]
    for path in [*(tmp_path / "notebooks").rglob("*.ipynb"), tmp_path / "README.md", tmp_path / "CITATION.cff"]:
        text = path.read_text(encoding="utf-8")
        assert f"{owner}/" not in text and "somebody/lessons" in text, path.name


def test_writing_a_broken_notebook_is_refused(tmp_path):
    """A notebook that is not valid never replaces a file."""
    path = tmp_path / "a.ipynb"
    write_notebook(path, small())
    before, broken = path.read_bytes(), small()
    broken.cells[0].pop("source")
    with pytest.raises(nbformat.ValidationError):
        write_notebook(path, broken)
    assert path.read_bytes() == before
