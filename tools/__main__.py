"""python -m tools COMMAND: the tools of the course, one job each. `python -m tools COMMAND --help` says more."""

import importlib
import sys

COMMANDS = {
    "run": "execute notebooks, with progress, pages to read, and a table of verdicts",
    "sync": "write everything that is generated (--check: only say what is out of date)",
    "results": "take over the measurements of the last runs into results/",
    "seeds": "run a notebook with other seeds and count the claims that fail",
    "handouts": "write copies of the lessons without solutions into handouts/",
    "book": "bind the guidebook into one HTML file",
    "site": "build the course as a site in site/_build/html",
    "pin": "write constraints.txt, the exact versions that CI installs",
}


def main():
    """Hand over to the tool that the command line names; return its exit status."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        print(__doc__, *(f"  {name:8} {text}" for name, text in COMMANDS.items()), sep="\n")
        return 0 if sys.argv[1:] in ([], ["-h"], ["--help"]) else 2
    name = sys.argv.pop(1)
    sys.argv[0] = f"python -m tools {name}"
    return importlib.import_module(f"tools.{name}").main()


if __name__ == "__main__":
    sys.exit(main())
