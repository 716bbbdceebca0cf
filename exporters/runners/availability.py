"""Runtimes that this machine can run."""

import torch

from exporters.variant import Runtime


def runs_here(runtime: Runtime) -> bool:
    """Whether this machine can run a runtime: ONNX Runtime's CPU provider anywhere, the others with a GPU."""
    return runtime is Runtime.ONNXRUNTIME or torch.cuda.is_available()
