"""The set-up cell: claims with their verdicts, files that appear whole or not at all, figures, and its size."""

import os
import re
import subprocess
import sys

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest

from tools.course import NOTEBOOKS
from tools.definitions import load_definitions
from tools.results import claims_of
from tools.sync import SETUP


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """Return the definitions of a set-up cell; what it displays is kept in the list `shown` of (data, metadata)."""
    module = load_definitions("resources", root=tmp_path)
    module.ROOT, module.shown = tmp_path, []
    monkeypatch.setattr(
        module, "display", lambda data, raw=False, metadata=None: module.shown.append((data, metadata)), raising=True
    )
    return module


def test_true_claims_show_their_verdict_and_pass(cell, capsys):
    """The plain text has verdict and statement alone, the page has the number, too."""
    cell.claim("accuracy", [0.9, 1.0], at_least=0.95)
    cell.claim("loss", 0.1, at_most=0.1)
    cell.claim("parameters", 328_160, equal=328_160)
    plain = [data["text/plain"] for data, _ in cell.shown]
    assert plain == ["holds: accuracy", "holds: loss", "holds: parameters"]
    pages = [data["text/html"] for data, _ in cell.shown]
    assert "<b>0.95 ± 0.07071 (n = 2)</b> (at least 0.95)" in pages[0]
    assert "<b>0.1</b> (at most 0.1)" in pages[1]
    assert "<b>328,160</b> (equal 328,160)" in pages[2]
    cell.check_claims()
    assert capsys.readouterr().out == "No claim failed.\n"


@pytest.mark.parametrize("value", [0.5, np.nan, -np.inf, [0.5, 1.0], [], np.array([], dtype=bool)])
def test_false_claims_fail_by_name_and_only_at_the_end(cell, value):
    """A value out of its bound, not-a-number or nothing at all included, is named; nothing stops before the end."""
    with np.errstate(invalid="ignore"), pytest.warns() if np.size(value) == 0 else np.errstate():
        cell.claim("good claim", 1.0, at_least=0.95)
        cell.claim("bad claim", value, at_least=0.95)
    assert cell.shown[1][0]["text/plain"] == "FAILS: bad claim"
    with pytest.raises(AssertionError, match="bad claim") as error:
        cell.check_claims()
    assert "good claim" not in str(error.value)


def test_shares_have_a_wilson_interval(cell):
    """k of n with the interval of Wilson (1927), never 1.000 ± 0.000; values from the formula, worked by hand."""
    cell.claim("solved", np.ones(200, dtype=bool), at_least=0.95)
    z2 = 1.959964**2
    low = 1 / (1 + z2 / 200)
    assert f"200 of 200 (95 % interval {low:.3f} to 1.000)" in cell.shown[0][0]["text/html"]
    cell.claim("half", [True, False] * 8, at_least=0.2)
    half_width = 1.959964 * (0.25 / 16 + z2 / (4 * 16**2)) ** 0.5 / (1 + z2 / 16)
    assert f"8 of 16 (95 % interval {0.5 - half_width:.3f} to {0.5 + half_width:.3f})" in cell.shown[1][0]["text/html"]


def test_a_claim_can_be_untested(cell):
    """With tested=False the verdict says so, and a bad value does not fail."""
    cell.claim("needs all digits", 0.5, at_least=0.95, tested=False)
    assert cell.shown[0][0]["text/plain"] == "not tested here: needs all digits"
    cell.check_claims()


def test_a_cell_run_again_counts_once(cell):
    """The last verdict of a statement is the one that counts."""
    cell.claim("accuracy", 0.5, at_least=0.95)
    cell.claim("accuracy", 0.97, at_least=0.95)
    cell.check_claims()


@pytest.mark.parametrize("bounds", [{}, {"at_least": 1, "at_most": 2}, {"at_last": 1}])
def test_a_claim_without_exactly_one_bound_is_refused(cell, bounds):
    """No bound, two bounds, or a misspelled one is an error, not a claim."""
    with pytest.raises((ValueError, KeyError)):
        cell.claim("accuracy", 0.5, **bounds)


def test_the_tools_read_what_a_claim_displays(cell):
    """The record is taken from the metadata of the output, the last one of each statement."""
    cell.claim("accuracy", [0.5, 0.7], at_least=0.95)
    cell.claim("accuracy", [0.96, 0.98], at_least=0.95, headline=True)
    outputs = [nbformat.v4.new_output("display_data", data=d, metadata=m) for d, m in cell.shown]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=outputs)])
    (row,) = claims_of(nb)
    assert row["mean"] == pytest.approx(0.97) and row["std"] == pytest.approx(0.0141, abs=1e-4)
    assert (row["n"], row["verdict"], row["headline"], row["bound"]) == (2, "holds", True, "at least 0.95")


def test_a_broken_write_keeps_the_old_file_and_goes_on(cell, tmp_path, capsys):
    """A write that breaks off leaves the older file whole and says so in one sentence."""
    path = tmp_path / "history.json"
    path.write_text("old")

    def full_disk(temporary):
        temporary.write_text("ne")
        raise OSError(28, "No space left on device")

    cell.save_file(path, full_disk)
    assert path.read_text() == "old"
    assert capsys.readouterr().out == "history.json is not saved (OSError); all else goes on.\n"
    cell.save_file(tmp_path / "new" / "a.txt", lambda temporary: temporary.write_text("new"))
    assert (tmp_path / "new" / "a.txt").read_text() == "new"


def test_a_figure_is_shown_even_where_it_cannot_be_saved(cell, tmp_path, capsys):
    """The picture comes from memory; a file in the place of the folder plots/ does no harm."""
    (tmp_path / "plots").write_text("in the way")
    cell.save_figure(plt.figure(), "empty", "a figure with nothing in it, for a test")
    ((image, metadata),) = cell.shown
    assert image.data.startswith(b"\x89PNG") and metadata["image/png"]["alt"].startswith("a figure")
    assert "empty.png is not saved" in capsys.readouterr().out
    os.remove(tmp_path / "plots")
    cell.save_figure(plt.figure(), "empty", "a figure with nothing in it, for a test")
    assert (tmp_path / "plots" / "resources" / "empty.png").read_bytes() == cell.shown[1][0].data


# ---- in the notebooks ----

LIMIT, LIMIT_MNIST = 60, 90


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_set_up_is_small(path):
    """Its code has at most 60 lines, 90 with MNIST; each cell has a title of one line."""
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.source.startswith(SETUP)]
    lines = [line for source in cells for line in source.splitlines()[1:] if line.strip()]
    text = "\n".join(cells)
    limit = LIMIT_MNIST if "def load_mnist" in text else LIMIT
    assert 1 <= len(cells) <= 2
    assert len(lines) <= limit, len(lines)
    assert all(len(source.splitlines()[0]) <= 88 for source in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_folded_is_folded_everywhere(path):
    """A first line `# @title`, JupyterLab's, Colab's and the pages' way of folding go together."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            ways = {
                "title": cell.source.startswith("# @title "),
                "lab": cell.metadata.get("jupyter", {}).get("source_hidden", False),
                "colab": cell.metadata.get("cellView") == "form",
                "page": "hide-input" in cell.metadata.get("tags", []),
            }
            assert len(set(ways.values())) == 1, f"{ways}: {cell.source[:80]}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_are_only_what_a_reader_may_change(path):
    """The cell tagged `parameters` sets names to literal values: papermill can replace each, nothing is derived."""
    (cell,) = [c for c in nbformat.read(path, 4).cells if "parameters" in c.metadata.get("tags", [])]
    for line in cell.source.splitlines():
        assert re.fullmatch(r"[A-Z_]+ = (\"\w*\"|-?[\d_.]+|None|True|False)(  # .+)?|# .*", line), line
    assert 'BUDGET = "laptop"' in cell.source and re.search(r"^SEED = \d+", cell.source, re.MULTILINE)


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_a_backend_set_by_the_user_does_no_harm(backend, tmp_path):
    """The Keras notebooks compute with TensorFlow on the CPU, whatever KERAS_BACKEND says; its start prints nothing."""
    path = next(path for path in NOTEBOOKS if path.name.startswith("05"))
    setup = next(c.source for c in nbformat.read(path, as_version=4).cells if c.source.startswith(SETUP))
    code = f'BUDGET = "laptop"\n{setup}\nimport keras\nprint(keras.backend.backend(), '
    code = code.replace("get_ipython()", "None") + 'tf.config.list_logical_devices("GPU"))'
    environment = dict(os.environ, KERAS_BACKEND=backend, CUDA_VISIBLE_DEVICES="0")
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.stdout == "tensorflow []\n", result.stderr
    assert result.stderr == ""


def test_a_readers_own_matplotlib_settings_do_no_harm(tmp_path):
    """A matplotlibrc with a dark style, another size and TeX text leaves the figures of the course as they are."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfigure.figsize: 1, 1\naxes.facecolor: black\n")
    path = next(path for path in NOTEBOOKS if path.name.startswith("01"))
    setup = next(c.source for c in nbformat.read(path, as_version=4).cells if c.source.startswith(SETUP))
    keys = ("text.usetex", "figure.figsize", "axes.facecolor")
    code = f'BUDGET = "laptop"\n{setup}\nprint([plt.rcParams[key] for key in {keys}])'
    outputs = [
        subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300).stdout
        for folder in (tmp_path, tmp_path.parent)
    ]
    assert outputs[0] == outputs[1] and "False" in outputs[0]
