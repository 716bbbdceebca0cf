"""First difference between an ONNX graph and its torch module: the first norm whose output is off."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from exporters.parity.check import FLOAT32_TOLERANCE, Tolerance
from exporters.runners.base import Array, Feeds
from exporters.runners.onnxruntime_runner import CPU_PROVIDER, session_options


def first_difference(
    module: nn.Module, path: Path, feeds: Feeds, threads: int, tolerance: Tolerance = FLOAT32_TOLERANCE
) -> str | None:
    """Return the name of the first LayerNorm whose outputs differ, or None if all agree or none match up.

    Norms stand at the borders of an encoder's sublayers, are called in the same order in torch and in
    the graph, and survive the export one to one. ``threads`` is how many ONNX Runtime uses.
    """
    expected = _norms_of_module(module, feeds)
    actual = _norms_of_graph(path, feeds, threads)
    if len(expected) != len(actual):
        return None
    for (name, right), given in zip(expected, actual, strict=True):
        if right.shape != given.shape or not np.abs(given - right).max(initial=0.0) <= tolerance.bound(right):
            return name
    return None


def _norms_of_module(module: nn.Module, feeds: Feeds) -> list[tuple[str, Array]]:
    outputs: list[tuple[str, Array]] = []

    def record(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            outputs.append((name, output.detach().numpy()))

        return hook

    handles = [
        norm.register_forward_hook(record(name))
        for name, norm in module.named_modules()
        if isinstance(norm, nn.LayerNorm)
    ]
    try:
        with torch.no_grad():
            module(**{name: torch.from_numpy(array) for name, array in feeds.items()})
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _norms_of_graph(path: Path, feeds: Feeds, threads: int) -> list[Array]:
    import onnxruntime

    model = onnx.load(path)
    names = [node.output[0] for node in model.graph.node if node.op_type == "LayerNormalization"]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(threads), providers=[CPU_PROVIDER]
    )
    values: list[Array] = session.run(names, dict(feeds))
    return values
