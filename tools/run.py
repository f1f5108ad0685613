"""Execute notebooks with visible progress, keep an HTML copy of each, and end with a table of verdicts.

python -m tools run                      every notebook, two at once
python -m tools run 06 02                the notebooks whose names start so
python -m tools run -p BUDGET full 06    with another value for a name in the cell tagged `parameters`
python -m tools run --save 06            for authors: store the outputs in the notebook, the measurements in results/
"""

import argparse
import ast
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from tqdm import tqdm

from tools.course import NOTEBOOKS, ROOT, find_notebooks, write_atomically, write_notebook
from tools.page import as_html
from tools.results import claims_of, obstacle, record_of, store
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


class Progress:
    """One bar over the cells of all notebooks; behind it stands what each notebook that runs is doing."""

    def __init__(self, num_cells, num_notebooks):
        layout = "cell {n_fmt}/{total_fmt} [{bar:20}] {elapsed}  {desc}"
        self.terminal = sys.stdout.isatty()
        every = 0.1 if self.terminal else 30.0  # a log file needs no picture of each moment
        self.bar = tqdm(total=num_cells, bar_format=layout, file=sys.stdout, mininterval=every)
        self.num_notebooks, self.num_done, self.doing, self.lock = num_notebooks, 0, {}, threading.Lock()
        self.finished = threading.Event()

    def __enter__(self):
        if self.terminal:
            threading.Thread(target=self.tick, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.finished.set()
        self.bar.close()

    def tick(self):
        """Let the clock of the bar run."""
        while not self.finished.wait(1.0):
            with self.lock:
                self.bar.refresh()

    def show(self, name, section=None, num_cells=0):
        """Say that the notebook `name` is in `section`, None if it has ended; `num_cells` more cells are done."""
        with self.lock:
            self.doing[name] = section
            if section is None:
                del self.doing[name]
                self.num_done += 1
            doing = [
                f"{self.num_done} of {self.num_notebooks} done",
                *(f"{n}: {s[:30]}" for n, s in self.doing.items()),
            ]
            self.bar.set_description_str("; ".join(doing), refresh=self.terminal)
            self.bar.update(num_cells)


def execute(nb, folder, name, progress):
    """Execute the notebook `nb`, called `name`, in `folder`, in place; return the error's text or None."""
    sections = section_of_cells(nb)
    num_left = sum(cell.cell_type == "code" for cell in nb.cells)
    client = NotebookClient(nb, timeout=None, kernel_name="python3", record_timing=False)
    client.resources = {"metadata": {"path": str(folder)}}
    client.extra_arguments = ["--IPKernelApp.log_level=40"]  # no warnings of the kernel between the progress lines
    client.on_cell_start = lambda cell, cell_index: progress.show(name, sections[cell_index])

    def count(cell, cell_index, execute_reply):
        nonlocal num_left
        num_left -= 1
        progress.show(name, sections[cell_index], 1)

    client.on_cell_executed = count
    error = None
    try:
        client.execute()
    except CellExecutionError as problem:
        error = f"{problem.ename}: {problem.evalue}"
    except DeadKernelError:
        error = "the kernel died (out of memory?)"
    finally:
        progress.show(name, None, num_left if error else 0)
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
    if problem := obstacle(record):
        print(f"{path.stem}: not saved, for {problem}.")
        return
    if record["budget"] == "laptop":
        save_outputs(path, nb)
    if record["claims"]:
        suffix = "" if record["budget"] == "laptop" else f".{record['budget']}"
        store(record, ROOT / "results" / f"{path.stem}{suffix}.json")


def run_one(path, nb, parameters, save, progress):
    """Run the notebook `nb` of the file `path`, and keep what it leaves.

    Return ((name, verdict, seconds), whether it failed, a problem with writing or None).
    """
    started, problem = time.time(), None
    try:
        inject(nb, parameters)
        error = execute(nb, path.parent, path.stem, progress)
        row = (path.stem, verdict(nb, error), time.time() - started)
    except ValueError as wrong:
        return (path.stem, f"FAILED  {wrong}", time.time() - started), True, None
    try:
        keep(path, nb, error, row[2], parameters, save)
    except OSError as wrong:
        problem = f"{path.stem}: page and record could not be written ({wrong.strerror})."
    return row, error is not None, problem


def seconds_of(path):
    """Return the seconds that the notebook `path` took when its measurements were stored; infinity without."""
    record = ROOT / "results" / f"{path.stem}.json"
    return json.loads(record.read_text(encoding="utf-8"))["seconds"] if record.exists() else float("inf")


def run_all(notebooks, parameters, save, jobs):
    """Run `notebooks`, {path: notebook}, `jobs` at once and long ones first; return what `run_one` returns for each.

    Ctrl-C ends those that run, since their kernels get it too; the others count as interrupted.
    """
    num_cells = sum(cell.cell_type == "code" for nb in notebooks.values() for cell in nb.cells)
    found = {}
    with Progress(num_cells, len(notebooks)) as progress:

        def job(path):
            found[path] = run_one(path, notebooks[path], parameters, save, progress)

        try:
            if jobs == 1:
                for path in notebooks:
                    job(path)
            else:
                with ThreadPoolExecutor(jobs) as pool:
                    tasks = [pool.submit(job, path) for path in sorted(notebooks, key=seconds_of, reverse=True)]
                    try:
                        wait(tasks)
                    except KeyboardInterrupt:
                        pool.shutdown(cancel_futures=True)
                        raise
                for task in tasks:
                    task.result()
        except KeyboardInterrupt:
            pass
    interrupted = ("interrupted", 0.0)
    return [found.get(path, ((path.stem, *interrupted), True, None)) for path in notebooks]


def main():
    """Run the notebooks named on the command line; the exit status is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", nargs="*", help="start of a notebook's name, such as 06")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    parser.add_argument("-j", "--jobs", type=int, help="notebooks at once; default 2, with --save 1")
    parser.add_argument("--save", action="store_true", help="store outputs and measurements (for authors)")
    options = parser.parse_args()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a sign that the terminal lacks ends no run
    parameters = {name: literal(value) for name, value in options.p}
    try:
        paths = find_notebooks(options.prefix, NOTEBOOKS)
    except LookupError as error:
        sys.exit(str(error))
    jobs = max(1, options.jobs or (1 if options.save else min(2, len(paths), os.cpu_count() or 1)))
    if jobs > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # else the threads of two notebooks wait for each other
    try:
        notebooks = {path: nbformat.read(path, as_version=4) for path in paths}
    except ValueError as error:
        sys.exit(f"A notebook cannot be read: {error}"[:500])
    rows, failed, problems = zip(*run_all(notebooks, parameters, options.save, jobs))
    width = max(len(name) for name, _, _ in rows)
    print(f"\n{'notebook':{width}}  seconds  verdict")
    for name, phrase, seconds in rows:
        print(f"{name:{width}}  {seconds:7.0f}  {phrase}")
    print(*filter(None, problems), sep="\n", end="\n" if any(problems) else "")
    print("\nReadable copies: logs/html/   figures: plots/   models: models/   measurements: logs/")
    return 1 if any(failed) else 0
