"""Tests of notebooks that use PyTorch and of those that use TensorFlow share one process."""

# PyTorch's optimizers import Triton at their first use. If TensorFlow was imported before, that aborts the process
# (both carry LLVM); in this order they get along.
import torch._dynamo  # noqa: F401
