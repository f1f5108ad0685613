"""The compiled kernel of the XOR benchmark does what the plain loop of notebook 03 does."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from tools.benchmarks import FOLDER
from tools.course import ROOT
from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def kernel():
    """Return the module of the benchmark, which imports its neighbor xor_sweep."""
    sys.path.insert(0, str(FOLDER))
    try:
        import xor_compiled

        return xor_compiled
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of notebook 03."""
    return load_definitions("03", tmp_path_factory.mktemp("nb"))


def test_the_sigmoid_is_one_of_single_precision(kernel):
    """Its largest error against double precision is below 3e-7, far out as well."""
    z = np.linspace(-40, 40, 100_001, dtype=np.float32)
    y = z.copy()
    kernel.apply_sigmoid(y)
    assert np.abs(y - 1 / (1 + np.exp(-z.astype(float)))).max() < 3e-7


@pytest.mark.parametrize(("k", "bypass"), [(1, True), (2, False), (2, True), (4, False)])
@pytest.mark.parametrize("threads", [1, 2])
def test_kernel_and_loop_stop_at_the_same_epoch(kernel, nb, k, bypass, threads):
    """Each network alone, in double precision: same verdict and epoch, nearly the same loss."""
    rules = nb.Rules(max_epochs=350, goal=0.4, min_delta=1e-3)
    networks = nb.grid([5.0, 0.05], [k], [bypass], range(5))
    one = pd.DataFrame([nb.train_row(row, rules, torch.float64) for row in networks.itertuples()])
    many = kernel.train_compiled(nb.X.numpy(), nb.T.numpy(), networks, rules, threads)
    assert 0 < one.solved.mean() < 1
    assert (one.solved == many.solved).all() and (one.epochs == many.epochs).all()
    assert (one.loss - many.loss).abs().max() < 3e-3


@pytest.mark.parametrize(("k", "bypass"), [(1, True), (2, False), (2, True), (4, False), (4, True)])
def test_the_weights_are_those_of_the_notebook(kernel, nb, k, bypass):
    """The same seeds give the same networks, though the kernel draws without torch; one seed may come twice."""
    networks = nb.grid([1.0, 2.0], [k], [bypass], range(7))
    ours = kernel.draw_weights(k, bypass, networks.seed.tolist())
    assert np.allclose(ours, nb.starting_weights(networks).numpy(), rtol=1e-6, atol=1e-7)


def test_more_networks_than_lanes_agree_with_the_batch(kernel, nb):
    """150 networks on 64 lanes, under the published rules: both engines solve the same ones, but for rounding."""
    networks = nb.grid([1.0], [2], [False], range(150))
    rules = nb.Rules(max_epochs=4000)
    ours, theirs = kernel.train_compiled(nb.X.numpy(), nb.T.numpy(), networks, rules), nb.train_batched(networks, rules)
    assert (ours.solved == theirs.solved).mean() >= 0.98 and 0.2 < ours.solved.mean() < 0.98
    assert ours.epochs.mean() == pytest.approx(theirs.epochs.mean(), rel=0.01)


def test_the_sweep_does_without_torch():
    """Importing the benchmark, as the process of a sweep does, leaves torch out: it would take half a gigabyte."""
    code = "import sys, xor_compiled; sys.exit('torch' in sys.modules)"
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(FOLDER)]))
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_what_the_kernel_cannot_do_is_refused(kernel, nb):
    """Two shapes at once, or another optimizer or start, end in an error that names what it takes."""
    good = nb.grid([1.0], [2], [True], [0])
    for networks in (nb.grid([1.0], [1, 2], [True], [0]), good.assign(optimizer="adam"), good.assign(init="default")):
        with pytest.raises(ValueError, match="one k and bypass, the optimizer sgd and the init xavier"):
            kernel.train_compiled(nb.X.numpy(), nb.T.numpy(), networks, nb.Rules())
