"""Execute notebooks with visible progress, keep an HTML copy of each, and end with a table of verdicts.

python scripts/run_notebooks.py            every notebook
python scripts/run_notebooks.py 06 02      the notebooks whose names start so
python scripts/run_notebooks.py --save 06  also store the outputs in the notebook file (for authors)
"""

import argparse
import html
import json
import os
import re
import sys
import threading
import time
from pathlib import Path

import nbformat
from latex2mathml.converter import convert as mathml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]


def find_notebooks(prefixes):
    """Return the notebooks whose file names start with one of `prefixes`, all of them if there is none.

    Exits with a list of the names if a prefix fits nothing.
    """
    everything = sorted((ROOT / "notebooks").glob("*.ipynb")) + sorted((ROOT / "notebooks/guidebook").glob("*.ipynb"))
    for prefix in prefixes:
        if not any(path.name.startswith(prefix) for path in everything):
            names = "\n  ".join(path.stem for path in everything)
            sys.exit(f"No notebook starts with '{prefix}'. There are:\n  {names}")
    return [path for path in everything if not prefixes or any(path.name.startswith(p) for p in prefixes)]


def section_of_cells(nb):
    """Return, for each cell index, the last Markdown heading at or above it."""
    sections, heading = {}, ""
    for index, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            heading = next((line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")), heading)
        sections[index] = heading
    return sections


def write_atomically(path, text):
    """Write `text` to `path` by way of a temporary file, so that an interrupted run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def as_on_a_terminal(outputs):
    """Return a cell's `outputs` with its text in one piece, and each progress bar reduced to its last state."""
    result = []
    for output in outputs:
        previous = result[-1] if result else {}
        if output.output_type == "stream" and output.name == previous.get("name"):
            previous["text"] += output.text
        else:
            result.append(output)
    for output in result:
        if output.output_type == "stream":
            output.text = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in output.text.split("\n"))
    return result


def execute(path, position):
    """Execute one notebook and return (notebook, error text or None); progress goes to the terminal."""
    nb = nbformat.read(path, as_version=4)
    sections = section_of_cells(nb)
    num_cells = sum(cell.cell_type == "code" for cell in nb.cells)
    client = NotebookClient(nb, timeout=None, kernel_name="python3", record_timing=False)
    client.resources = {"metadata": {"path": str(path.parent)}}
    client.extra_arguments = ["--IPKernelApp.log_level=40"]  # no warnings of the kernel between the progress lines
    layout = "{desc}: cell {n_fmt}/{total_fmt} [{bar:20}] {elapsed} {postfix}"
    with tqdm(total=num_cells, desc=f"[{position}] {path.stem}", bar_format=layout, file=sys.stdout) as bar:
        client.on_cell_start = lambda cell, cell_index: bar.set_postfix_str(sections[cell_index][:40])
        client.on_cell_executed = lambda cell, cell_index, execute_reply: bar.update()
        finished = threading.Event()

        def tick():
            while not finished.wait(1.0):
                bar.refresh()

        if sys.stdout.isatty():
            threading.Thread(target=tick, daemon=True).start()
        error = None
        try:
            client.execute()
        except CellExecutionError as problem:
            error = f"{problem.ename}: {problem.evalue}"
        except DeadKernelError:
            error = "the kernel died (out of memory?)"
        finally:
            finished.set()
        bar.set_postfix_str("failed" if error else "done")
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs = as_on_a_terminal(cell.outputs)
    return nb, error


class OfflineRenderer(IPythonRenderer):
    """Markdown to HTML with formulas as MathML, which browsers show without any script."""

    def inline_math(self, body):
        """Return the formula `body` (TeX) as MathML within a line."""
        return mathml(body)

    def block_math(self, body):
        """Return the formula `body` (TeX) as MathML on a line of its own."""
        return mathml(body, display="block")

    def multiline_math(self, text):
        """Return a formula that extends over several lines, its dollar signs included, as MathML."""
        return mathml(text.strip().strip("$"), display="block")

    def image(self, text, url, title=None):
        """Return a picture; one that lies on another host, such as a badge, becomes its alternative text."""
        return text if url.startswith("http") else super().image(text, url, title)


MATH_FONTS = (  # the first that a machine has; without such a font, roots and braces stay small
    '<style>math { font-family: "STIX Two Math", "Latin Modern Math", "Cambria Math", "DejaVu Math TeX Gyre", math; }'
    "</style>"
)
WIDGET = "application/vnd.jupyter.widget-view+json"
STATIC = "<p><em>This part moves in a running notebook. On this page, read the figures around it instead.</em></p>"


def without_widgets(outputs):
    """Return a cell's `outputs` with each widget, which needs a kernel and a script of another host, as a sentence."""
    return [
        nbformat.v4.new_output("display_data", data={"text/html": STATIC})
        if WIDGET in output.get("data", {})
        else output
        for output in outputs
    ]


def as_html(nb, title):
    """Return the executed notebook as one HTML page that needs no network; shared cells shrink to their first line."""
    nb = nbformat.from_dict(nb)
    nb.metadata.pop("widgets", None)
    for cell in nb.cells:
        if cell.source.startswith("# shared cell: "):
            cell.source = cell.source.splitlines()[0] + "   (the same in every notebook; its code is in the notebook)"
        cell.source = re.sub(r'"[\w+/=]{300,}"', '"..."', cell.source)  # packed questions
        if cell.cell_type == "code":
            cell.outputs = without_widgets(cell.outputs)
    filters = {"markdown2html": lambda source: MarkdownWithMath(renderer=OfflineRenderer(escape=False)).render(source)}
    exporter = HTMLExporter(filters=filters)
    exporter.log.setLevel("ERROR")  # its template drops alternative texts and warns of that; they are put back below
    page, _ = exporter.from_notebook_node(nb, {"metadata": {"name": title}})
    for output in (output for cell in nb.cells for output in cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            alt = html.escape(output.metadata.get("image/png", {}).get("alt", "a figure"))
            page = page.replace('alt="No description has been provided for this image"', f'alt="{alt}"', 1)
    page = page.replace("</head>", MATH_FONTS + "</head>", 1)
    return re.sub(r'<script[^>]*src="https?://[^"]*"[^>]*>\s*</script>', "", page)


def verdict(path, error, started):
    """Return one phrase on a run: the error, or how many of the claims written since `started` hold."""
    claims_file = ROOT / "logs" / path.stem / "claims.json"
    if error:
        return "FAILED  " + error.splitlines()[0][:90]
    if not claims_file.exists() or claims_file.stat().st_mtime < started:
        return "ran, makes no claims"
    verdicts = [row["verdict"] for row in json.loads(claims_file.read_text(encoding="utf-8"))["claims"]]
    untested = verdicts.count("not tested")
    return f"{verdicts.count('holds')} claims hold" + (f", {untested} need real data" if untested else "")


def save_outputs(path, nb):
    """Store the executed notebook `nb` in its file, without the parts that differ between two equal runs."""
    nb.metadata.pop("widgets", None)
    nb.metadata["language_info"] = {"name": "python"}
    nb.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.validate(nb)
    write_atomically(path, nbformat.writes(nb) + "\n")


def main():
    """Run the notebooks named on the command line; the exit status is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", nargs="*", help="start of a notebook's name, such as 06")
    parser.add_argument("--save", action="store_true", help="store the outputs in the notebook file")
    options = parser.parse_args()
    notebooks = find_notebooks(options.prefix)
    rows, failed = [], 0
    try:
        for number, path in enumerate(notebooks, 1):
            started = time.time()
            nb, error = execute(path, f"{number}/{len(notebooks)}")
            rows.append((path.stem, verdict(path, error, started), time.time() - started))
            failed += error is not None
            write_atomically(ROOT / "logs" / "html" / f"{path.stem}.html", as_html(nb, path.stem))
            if options.save and error is None:
                save_outputs(path, nb)
    except KeyboardInterrupt:
        rows.append((path.stem, "interrupted", time.time() - started))
        failed += 1
    width = max(len(name) for name, _, _ in rows)
    print(f"\n{'notebook':{width}}  seconds  verdict")
    for name, phrase, seconds in rows:
        print(f"{name:{width}}  {seconds:7.0f}  {phrase}")
    print("\nReadable copies: logs/html/   figures: plots/   models: models/   measurements: logs/")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
