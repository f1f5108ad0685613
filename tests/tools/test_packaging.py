"""Requirements, exact versions, and the files that CI, pre-commit and citation read."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import pin, requirements
from tools.__main__ import COMMANDS
from tools.course import NOTEBOOKS, ROOT
from tools.sync import imported_modules

FOLDERS = ("tools", "tests", "benchmarks", "site")
PAGES = {ROOT / "tools" / "site.py"}  # needs Sphinx, which a reader does not
SCRIPTS = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
OWN = {"tools"} | {path.stem for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")}
NOT_IMPORTED = {  # listed, and used in another way than by an import
    "check-jsonschema": "a test below calls it",
    "ipykernel": "runs the cells of a notebook",
    "jupyterlab": "make lab",
    "myst-nb": "site/conf.py names it",
    "nbval": "pytest --nbval",
    "pytest-xdist": "pytest -n 2",
    "ruff": "make test",
    "sphinx-book-theme": "site/conf.py names it",
    "tensorboard": "the reader looks at the logs of notebook 09 with it",
    "uv": "python -m tools pin",
}
SCHEMAS = {
    ".github/workflows/ci.yml": "vendor.github-workflows",
    ".github/workflows/pages.yml": "vendor.github-workflows",
    "CITATION.cff": "vendor.citation-file-format",
}


def listed(group):
    """Return {canonical name: requirement} of a group in pyproject.toml."""
    found = [Requirement(line) for line in requirements.requirements_of(group)]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def code_of(path):
    """Return the texts of a Python file, or of the code cells of a notebook."""
    if path.suffix == ".py":
        return [path.read_text(encoding="utf-8")]
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def packages_of(paths):
    """Return {canonical name of a package: one of its modules} that `paths` import."""
    modules = set().union(*(imported_modules(text) for path in paths for text in code_of(path)))
    known, found = packages_distributions(), {}
    for module in modules - set(sys.stdlib_module_names) - OWN:
        for package in known.get(module, [f"unknown-{module}"]):
            found[canonicalize_name(package)] = module
    return found


def validate(path, schema):
    """Return the result of check-jsonschema on the file `path`."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    return subprocess.run([*command, path], capture_output=True, text=True)


@pytest.fixture(scope="module")
def workflow():
    """Return the workflow of GitHub as a dictionary."""
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


# ---- requirements ----


def test_a_reader_installs_what_notebooks_and_tools_import():
    """requirements.txt alone is enough to run, to change and to print a notebook."""
    needed = packages_of([*NOTEBOOKS, *sorted(set((ROOT / "tools").rglob("*.py")) - PAGES)])
    assert set(needed) <= set(listed("course")), "import without a requirement"


def test_everything_imported_is_listed():
    """Tests, benchmarks and pages import nothing that is not in one of the groups."""
    needed = packages_of([*NOTEBOOKS, *SCRIPTS])
    assert set(needed) <= set(listed("course") | listed("test") | listed("site"))


def test_everything_listed_is_used():
    """No requirement is left over, and no excuse for one that is imported."""
    needed = set(packages_of([*NOTEBOOKS, *SCRIPTS]))
    assert set(listed("course") | listed("test") | listed("site")) - needed == set(NOT_IMPORTED)


def test_no_package_is_in_both_groups():
    """A requirement stands in one place."""
    assert not set(listed("course")) & set(listed("test"))


def test_an_import_is_traced_to_its_package(tmp_path):
    """A module is found by the name of its package, also inside a function."""
    path = tmp_path / "some.py"
    path.write_text("import os, PIL.Image\ndef f():\n    from sklearn import svm\n")
    assert packages_of([path]) == {"pillow": "PIL", "scikit-learn": "sklearn"}
    path.write_text("import no_such_module_anywhere")
    assert list(packages_of([path])) == ["unknown-no-such-module-anywhere"]


# ---- exact versions ----


def test_constraints_fit_every_requirement():
    """Each requirement has an exact version, and that version is in its range."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    exact = [Requirement(line) for line in lines if not line.startswith("#")]
    for name, requirement in (listed("course") | listed("test") | listed("site")).items():
        found = [one for one in exact if canonicalize_name(one.name) == name]
        assert found, f"{name} has no exact version; repair with: python -m tools pin"
        for one in found:
            (version,) = [specifier.version for specifier in one.specifier]
            assert version in requirement.specifier, str(one)


def test_constraints_name_no_place():
    """Exact versions come from any index: no address, no path, no option."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    exact = re.compile(r"[\w.-]+==[\w.]+( ; .+)?")
    assert lines and not [line for line in lines if not exact.fullmatch(line)]


def test_installed_versions_are_preferred_without_their_local_part(monkeypatch):
    """What the tests ran with is what gets pinned; 2.14.1+cpu counts as 2.14.1."""

    class Package:
        name, version = "torch", "2.14.1+cpu"

    monkeypatch.setattr("importlib.metadata.distributions", lambda: [Package])
    assert pin.installed() == ["torch==2.14.1"]


# ---- files that other programs read ----


@pytest.mark.parametrize(("name", "schema"), SCHEMAS.items(), ids=SCHEMAS)
def test_file_passes_its_schema(name, schema):
    """The files for GitHub are valid."""
    result = validate(ROOT / name, schema)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("name", "schema"), SCHEMAS.items(), ids=SCHEMAS)
def test_schema_finds_a_mistake(name, schema, tmp_path):
    """The check above is able to fail."""
    path = tmp_path / os.path.basename(name)
    text = (ROOT / name).read_text(encoding="utf-8")
    path.write_text(re.sub(r"(?m)^(jobs|authors):", r"wrong-\1:", text))
    assert validate(path, schema).returncode == 1


def test_workflow_covers_every_python_that_the_project_names(workflow):
    """The versions of CI are those of requires-python, on three systems."""
    matrix = workflow["jobs"]["plain"]["strategy"]["matrix"]
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = Requirement(f"python{settings['project']['requires-python']}").specifier
    versions = [f"3.{minor}" for minor in range(30) if f"3.{minor}" in wanted]
    assert matrix["python"] == versions
    systems = {name.split("-")[0] for name in matrix["os"]}
    assert systems == {"ubuntu", "macos", "windows"}


def test_workflow_runs_the_lines_of_the_readme(workflow):
    """A person without make and CI install and test with the same commands."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [step.get("run", "") for step in workflow["jobs"]["plain"]["steps"]]
    for start in ("python -m pip install -r requirements-test.txt", "python -m pytest"):
        (command,) = [command for command in commands if command.startswith(start)]
        assert command.removesuffix(" ${{ env.CONSTRAINTS }}") in readme


def test_continuous_integration_runs_what_the_readme_says():
    """.ci/run can be executed, and makes the targets that the README names."""
    path = ROOT / ".ci" / "run"
    text = path.read_text(encoding="utf-8")
    assert os.name == "nt" or os.access(path, os.X_OK)
    assert re.findall(r"(?m)^make (.+)$", text) == ["test", "test-alone"]
    assert "\r" not in path.read_bytes().decode()


def test_make_calls_commands_that_exist():
    """Every command of `python -m tools` in the Makefile is one that it has."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    used = set(re.findall(r"\$\(TOOLS\) (\w+)", text))
    assert used and used <= set(COMMANDS)
