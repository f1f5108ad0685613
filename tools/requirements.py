"""The requirements files, from the dependency groups of pyproject.toml."""

import tomllib

from tools.course import ROOT

FILES = {  # group: (file, what it is for, the files that it builds on)
    "course": ("requirements.txt", "What a reader needs", []),
    "site": ("requirements-site.txt", "What building the pages needs", []),
    "test": ("requirements-test.txt", "What the tests need", ["requirements.txt", "requirements-site.txt"]),
}


def requirements_of(group, root=ROOT):
    """Return the lines, such as "numpy>=1.26,<3", of a group in pyproject.toml."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return settings["dependency-groups"][group]


def requirements_text(group, root=ROOT):
    """Return the text of the requirements file of a group in pyproject.toml."""
    _, purpose, bases = FILES[group]
    lines = [f"-r {base}" for base in bases]
    lines += [f"# {purpose}. Made from pyproject.toml by: python -m tools sync"]
    return "\n".join(lines + requirements_of(group, root)) + "\n"


def generated(root=ROOT):
    """Return {path: text} of the requirements files as they must be."""
    return {root / FILES[group][0]: requirements_text(group, root) for group in FILES}
