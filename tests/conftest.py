"""Tests of notebooks that use PyTorch and of those that use TensorFlow share one process."""

import os

import pytest

# PyTorch's optimizers import Triton at their first use. If TensorFlow was imported before, that aborts the process
# (both carry LLVM); in this order they get along.
import torch._dynamo  # noqa: F401

from tools.definitions import load_definitions

os.environ |= {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.fixture(scope="session")
def definitions(tmp_path_factory):
    """Return a function that loads the definitions of a notebook by its prefix, with an empty folder as root."""
    return lambda prefix: load_definitions(prefix, root=tmp_path_factory.mktemp("root"))
