"""Runtimes that this machine can run."""

import torch

from exporters.openvino.bindings import is_installed
from exporters.variant import Runtime


def runs_here(runtime: Runtime) -> bool:
    """Whether this machine can run a runtime; `reason_it_does_not` says why not."""
    return reason_it_does_not(runtime) is None


def reason_it_does_not(runtime: Runtime) -> str | None:
    """Return why this machine cannot run a runtime, as the end of a sentence; None where it can.

    ONNX Runtime's CPU provider runs anywhere, OpenVINO where it is installed, the others with a GPU.
    """
    if runtime is Runtime.OPENVINO:
        return None if is_installed() else "OpenVINO is not installed here"
    return None if runtime.on_cpu or torch.cuda.is_available() else "torch finds no GPU here"
