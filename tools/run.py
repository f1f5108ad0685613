"""Execute notebooks with visible progress, keep an HTML copy of each, and end with a table of verdicts.

python -m tools run                      every notebook
python -m tools run 06 02                the notebooks whose names start so
python -m tools run -p BUDGET full 06    with another value for a name in the cell tagged `parameters`
python -m tools run --save 06            for authors: store the outputs in the notebook, the measurements in results/
"""

import argparse
import ast
import sys
import threading
import time

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from tqdm import tqdm

from tools.course import NOTEBOOKS, ROOT, find_notebooks, write_atomically, write_notebook
from tools.page import as_html
from tools.results import claims_of, is_real, record_of, store
from tools.stills import add_stills


def parameters_cell(nb):
    """Return the index of the cell of `nb` that is tagged `parameters`; ValueError if there is none."""
    for index, cell in enumerate(nb.cells):
        if "parameters" in cell.metadata.get("tags", []):
            return index
    raise ValueError("this notebook has no cell tagged `parameters`")


def inject(nb, parameters):
    """Put a cell with `parameters`, {name: value}, after the cell tagged `parameters`, as papermill does.

    ValueError if that cell does not set such a name.
    """
    if not parameters:
        return
    index = parameters_cell(nb)
    known = [node.targets[0].id for node in ast.parse(nb.cells[index].source).body if isinstance(node, ast.Assign)]
    if unknown := sorted(set(parameters) - set(known)):
        raise ValueError(f"no parameter {', '.join(unknown)}; there are {', '.join(known)}")
    text = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    cell = nbformat.v4.new_code_cell(text, metadata={"tags": ["injected-parameters"]})
    nb.cells.insert(index + 1, cell)


def literal(text):
    """Return the Python value that `text` spells, or `text` itself: 3 is a number, full is a word."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def section_of_cells(nb):
    """Return, for each cell index, the last Markdown heading at or above it."""
    sections, heading = {}, ""
    for index, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            heading = next((line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")), heading)
        sections[index] = heading
    return sections


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


def execute(nb, folder, name):
    """Execute the notebook `nb` in `folder`, in place; return the error's text or None. `name` heads its progress."""
    sections = section_of_cells(nb)
    num_cells = sum(cell.cell_type == "code" for cell in nb.cells)
    client = NotebookClient(nb, timeout=None, kernel_name="python3", record_timing=False)
    client.resources = {"metadata": {"path": str(folder)}}
    client.extra_arguments = ["--IPKernelApp.log_level=40"]  # no warnings of the kernel between the progress lines
    layout = "{desc}: cell {n_fmt}/{total_fmt} [{bar:20}] {elapsed} {postfix}"
    with tqdm(total=num_cells, desc=name, bar_format=layout, file=sys.stdout) as bar:
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
    return error


def verdict(nb, error):
    """Return one phrase on a run: the error, or how many of the claims in the outputs of `nb` hold."""
    if error:
        return "FAILED  " + error.splitlines()[0][:90]
    verdicts = [row["verdict"] for row in claims_of(nb)]
    if not verdicts:
        return "ran, makes no claims"
    untested = verdicts.count("not tested here")
    return f"{verdicts.count('holds')} claims hold" + (f", {untested} not tested here" if untested else "")


def save_outputs(path, nb):
    """Store the executed notebook `nb` in its file: widgets as stills, without what differs between two equal runs."""
    nb = nbformat.from_dict(nb)
    add_stills(nb)
    nb.metadata.pop("widgets", None)
    nb.metadata["language_info"] = {"name": "python"}
    nb.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    write_notebook(path, nb)


def keep(path, nb, error, seconds, parameters, save):
    """Write what a run leaves: page, record, and with `save` the notebook's outputs and its measurements."""
    record = record_of(nb, path.stem, seconds, parameters)
    store(record, ROOT / "logs" / path.stem / "record.json")
    write_atomically(ROOT / "logs" / "html" / f"{path.stem}.html", as_html(nb, path.stem))
    if not save or error:
        return
    if not is_real(record):
        print(f"{path.stem}: not saved, for it ran on stand-in data. Put the data sets into data/ first.")
        return
    if record["budget"] == "laptop":
        save_outputs(path, nb)
    if record["claims"]:
        suffix = "" if record["budget"] == "laptop" else f".{record['budget']}"
        store(record, ROOT / "results" / f"{path.stem}{suffix}.json")


def main():
    """Run the notebooks named on the command line; the exit status is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", nargs="*", help="start of a notebook's name, such as 06")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    parser.add_argument("--save", action="store_true", help="store outputs and measurements (for authors)")
    options = parser.parse_args()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a sign that the terminal lacks ends no run
    parameters = {name: literal(value) for name, value in options.p}
    try:
        notebooks = find_notebooks(options.prefix, NOTEBOOKS)
    except LookupError as error:
        sys.exit(str(error))
    rows, failed, problems = [], 0, []
    for number, path in enumerate(notebooks, 1):
        started = time.time()
        try:
            nb = nbformat.read(path, as_version=4)
            inject(nb, parameters)
            error = execute(nb, path.parent, f"[{number}/{len(notebooks)}] {path.stem}")
            rows.append((path.stem, verdict(nb, error), time.time() - started))
            failed += error is not None
            keep(path, nb, error, time.time() - started, parameters, options.save)
        except ValueError as error:
            rows.append((path.stem, f"FAILED  {error}", time.time() - started))
            failed += 1
        except OSError as error:
            problems.append(f"{path.stem}: page and record could not be written ({error.strerror}).")
        except KeyboardInterrupt:
            rows.append((path.stem, "interrupted", time.time() - started))
            failed += 1
            break
    width = max(len(name) for name, _, _ in rows)
    print(f"\n{'notebook':{width}}  seconds  verdict")
    for name, phrase, seconds in rows:
        print(f"{name:{width}}  {seconds:7.0f}  {phrase}")
    print(*problems, sep="\n", end="\n" if problems else "")
    print("\nReadable copies: logs/html/   figures: plots/   models: models/   measurements: logs/")
    return 1 if failed else 0
