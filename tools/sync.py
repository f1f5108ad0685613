"""Write everything that is generated, or with --check only say what is out of date.

Set-up cells, functions that stand in several notebooks, folding, badges, quiz and glossary cells, glossary.md,
requirements files, the tables of README.md and results/README.md, and the repository's name in links.
"""

import argparse
import ast
import re
import sys
import tomllib

import nbformat

from tools import questions, requirements, tables
from tools.course import NOTEBOOKS, ROOT, SETUP, repository, write_atomically, write_notebook

CELLS = ROOT / "tools" / "cells"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
ON_COLAB = {  # third-party modules that Google Colab has
    "IPython", "PIL", "cloudpickle", "google", "h5py", "ipywidgets", "joblib", "keras", "matplotlib", "mlxtend",
    "numpy", "pandas", "pooch", "psutil", "requests", "scipy", "seaborn", "sklearn", "tensorboard", "tensorflow",
    "threadpoolctl", "torch", "torchvision", "tqdm", "traitlets",
}  # fmt: skip


# ---- one notebook ----


def code_of(nb):
    """Return the code of `nb` outside its set-up cells as one text."""
    cells = [cell.source for cell in nb.cells if cell.cell_type == "code" and not cell.source.startswith(SETUP)]
    return "\n".join(cells)


def imported_modules(source):
    """Return the names of the top-level modules that the Python text `source` imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names


def colab_packages(source):
    """Return pip's names, with an exact version where pyproject.toml has one, of what `source` needs beyond Colab."""
    missing = imported_modules(source) - ON_COLAB - set(sys.stdlib_module_names)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    exact = {line.split("==")[0]: line for line in settings["dependency-groups"]["course"] if "==" in line}
    return sorted(exact.get(name, name) for name in missing)


def words(source):
    """Return the names that the Python text `source` uses or defines."""
    return set(re.findall(r"[A-Za-z_]\w*", source))


def needed(text, code):
    """Return the set-up text `text` without the functions, constants and imports that nothing in it or `code` uses."""
    while True:
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.Assign):
                names = {target.id for target in node.targets if isinstance(target, ast.Name) and target.id.isupper()}
            else:
                names = {node.name} if isinstance(node, ast.FunctionDef) else set()
            rest = lines[: node.lineno - 1] + lines[node.end_lineno :]
            if names and not names & words("\n".join([*rest, code])):
                text = re.sub(r"\n{4,}", "\n\n\n", "\n".join(rest)).strip()
                break
        else:
            return text


def setup_cells(nb, name):
    """Return the texts of the set-up cells of the notebook `nb`, called `name`: what it uses of tools/cells."""
    texts = {path.stem: path.read_text(encoding="utf-8").rstrip() for path in CELLS.glob("*.py")}
    code, start = code_of(nb), ""
    if packages := colab_packages(code):
        start += f'if "google.colab" in str(get_ipython()):\n    os.system("pip install -q {" ".join(packages)}")\n'
    if imported_modules(code) & {"keras", "tensorflow"}:
        start += texts["keras"] + "\n"
        code += "\ntf"  # its import stays where only Keras is used: the set-up keeps its start quiet
    cells = [texts["setup"].replace('NOTEBOOK = "{notebook}"', f'{start}NOTEBOOK = "{name}"')]
    if "load_mnist(" in code:
        cells.append(texts["mnist"])
    return [needed(text, "\n".join([code, *cells[i + 1 :]])) for i, text in enumerate(cells)]


def renew_setup(nb, name):
    """Make the set-up cells of `nb` what it needs; they come right after the cell tagged `parameters`."""
    wanted = setup_cells(nb, name)
    old = [cell for cell in nb.cells if cell.cell_type == "code" and cell.source.startswith(SETUP)]
    if [cell.source for cell in old] == wanted:
        return
    place = next(i for i, cell in enumerate(nb.cells) if "parameters" in cell.metadata.get("tags", [])) + 1
    nb.cells = [cell for cell in nb.cells if not any(cell is other for other in old)]
    new = old[: len(wanted)] + [nbformat.v4.new_code_cell() for _ in wanted[len(old) :]]
    for cell, text in zip(new, wanted):
        cell.source = text
    nb.cells[place:place] = new


def shared_functions():
    """Return {name: text} of the functions that stand in several notebooks."""
    source = (CELLS / "functions.py").read_text(encoding="utf-8")
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.get_source_segment(source, node) for node in nodes}


def renew_functions(nb, functions):
    """Give each function of `nb` whose name is in `functions` the text it has there."""
    for cell in nb.cells:
        if cell.cell_type == "code" and not cell.source.startswith(SETUP):
            for node in reversed(ast.parse(cell.source).body):
                if isinstance(node, ast.FunctionDef) and node.name in functions:
                    lines = cell.source.splitlines()
                    lines[node.lineno - 1 : node.end_lineno] = functions[node.name].splitlines()
                    cell.source = "\n".join(lines)


def fold(nb):
    """Fold each code cell that begins with `# @title`, and no other: in JupyterLab, in Colab and on pages."""
    for cell in nb.cells:
        if cell.cell_type != "code":
            continue
        tags = [tag for tag in cell.metadata.get("tags", []) if tag != "hide-input"]
        cell.metadata.pop("cellView", None)
        cell.metadata.pop("jupyter", None)
        if cell.source.startswith("# @title "):
            tags.append("hide-input")
            cell.metadata.update({"cellView": "form", "jupyter": {"source_hidden": True}})
        cell.metadata.pop("tags", None)
        if tags:
            cell.metadata["tags"] = tags


def renew_badge(nb, path, name):
    """Let the badge in the first cell lead to the notebook `path` in the repository `name`."""
    place = path.relative_to(ROOT).as_posix()
    address = f"https://colab.research.google.com/github/{name}/blob/main/{place}"
    badge = f"[![Open In Colab]({BADGE})]({address})"
    nb.cells[0].source = re.sub(r"\[!\[[^\]]*\]\([^)]*\)\]\([^)]*\)", lambda _: badge, nb.cells[0].source, count=1)


def renew_questions(nb, wanted):
    """Give the cells of `nb` that come from the question bank their texts; return the first lines that are missing.

    `wanted` is a list of (cell type, start of the first line, text).
    """
    missing = []
    for kind, start, text in wanted:
        found = [cell for cell in nb.cells if cell.cell_type == kind and cell.source.startswith(start)]
        if len(found) == 1:
            if not questions.agrees(found[0].source, text):
                found[0].source = text
        else:
            missing.append(start)
    return missing


def renewed(nb, path, wanted=(), functions=None):
    """Return a copy of the notebook `nb` of the file `path` with everything that is generated as it must be.

    ValueError if a cell for questions or terms is missing: its place is for the author to choose.
    """
    nb = nbformat.from_dict(nb)
    renew_functions(nb, shared_functions() if functions is None else functions)
    if missing := renew_questions(nb, wanted):
        raise ValueError(f"{path.name} needs exactly one cell that starts with each of {missing}")
    renew_setup(nb, path.stem)
    fold(nb)
    renew_badge(nb, path, repository())
    return nb


# ---- everything ----


def renamed(text, name):
    """Return the README `text` with the address of the repository `name` ("owner/name") in its clone command."""
    text = re.sub(r"https://github\.com/[\w.-]+/[\w.-]+\.git", f"https://github.com/{name}.git", text)
    return re.sub(r"(\.git\n *cd )[\w.-]+", rf"\g<1>{name.split('/')[1]}", text)


def generated():
    """Yield (path, text) of each file that is generated, in whole or in part, as it must be."""
    banks = questions.read_banks()
    wanted, functions = questions.wanted_cells(banks), shared_functions()
    for path in NOTEBOOKS:
        nb = nbformat.read(path, as_version=4)
        yield path, nbformat.writes(renewed(nb, path, wanted.get(path.stem, ()), functions)) + "\n"
    yield ROOT / "notebooks" / "guidebook" / "glossary.md", questions.glossary_page(banks)
    yield from requirements.generated().items()
    readme = renamed((ROOT / "README.md").read_text(encoding="utf-8"), repository())
    yield ROOT / "README.md", tables.with_tables(readme)
    yield ROOT / "results" / "README.md", tables.results_page(ROOT / "results")
    citation = ROOT / "CITATION.cff"
    text = citation.read_text(encoding="utf-8")
    yield citation, re.sub(r"https://github\.com/[\w./-]+", f"https://github.com/{repository()}", text)


def main():
    """Write what is out of date and name it, or with --check only name it; the exit status is then 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if anything is out of date")
    options = parser.parse_args()
    stale = 0
    try:
        for path, text in generated():  # one after the other: the README's tables come from the notebooks as written
            if path.exists() and path.read_text(encoding="utf-8") == text:
                continue
            stale += 1
            print(f"{path.relative_to(ROOT)}: " + ("out of date" if options.check else "written"))
            if not options.check and path.suffix == ".ipynb":
                write_notebook(path, nbformat.reads(text, 4))
            elif not options.check:
                write_atomically(path, text)
    except ValueError as error:
        print(error)
        return 1
    if options.check and stale:
        print("Repair with: python -m tools sync   (then run the notebooks again: make save NOTEBOOK=...)")
    return 1 if options.check and stale else 0
