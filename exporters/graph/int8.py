"""8-bit weights and activations: which multiplications bear it, and the two forms that runtimes are fast with.

A multiplication by a weight is quantized if its own error on calibration texts is small enough; the others stay as
they are, and both are reported. Weights are symmetric with one scale for each output channel.

- CPU: activations are measured anew for each input (DynamicQuantizeLinear and MatMulInteger, which ONNX Runtime
  fuses), https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#dynamic-quantization.
- TensorRT: explicit QuantizeLinear and DequantizeLinear nodes with symmetric scales from the calibration texts,
  the only form that TensorRT 11 takes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from exporters.errors import ExportError
from exporters.graph.editing import (
    add_constant,
    constant_of,
    input_of,
    insert_before,
    is_constant,
    remove_unused,
    replace,
)
from exporters.runners.base import Feeds
from exporters.runners.onnxruntime_runner import CPU_PROVIDER, session_options
from exporters.scratch import scratch_folder

LARGEST_ERROR = 0.05
"""A multiplication is quantized if the root mean square of its error is at most this share of its output's."""

Float = NDArray[np.floating[Any]]


class MatmulError(BaseModel):
    """What quantizing one multiplication costs, measured by itself on calibration texts.

    Attributes:
        node: the node in the graph, whose name tells the layer.
        weight: the weight that it multiplies by.
        input_range: the largest absolute value that it multiplies, where activations have a fixed range.
        relative_error: root mean square of (quantized - exact) over that of the exact output.
        quantized: whether the exported graph quantizes it.
        smoothed: whether what it multiplies is smoothed before (`exporters.graph.smoothing`).

    """

    model_config = ConfigDict(frozen=True)

    node: str
    weight: str
    input_range: float | None
    relative_error: float
    quantized: bool
    smoothed: bool = False


def quantized_weight(weight: Float) -> Float:
    """Round a weight, (inputs, outputs), to int8 with a symmetric scale for each output; return what it stands for."""
    scales = symmetric_scales(weight, axis=0)
    rounded: Float = int8_steps(weight, scales) * scales
    return rounded


def symmetric_scales(numbers: Float, axis: int) -> Float:
    """Return the scales with which the largest number along an axis becomes 127; the axis stays, with length 1."""
    largest = np.abs(numbers).max(axis, keepdims=True)
    scales: Float = np.where(largest == 0, 1, largest / 127)
    return scales


def int8_steps(numbers: Float, scales: Float | float) -> Float:
    """Return numbers in steps of a scale, whole and from -127 to 127."""
    steps: Float = np.clip(np.rint(numbers / scales), -127, 127)
    return steps


def quantized_dynamically(x: Float) -> Float:
    """Round activations to uint8 by their own range, and return what that stands for.

    https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html
    """
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = (high - low) / 255 or 1.0
    zero = np.clip(np.rint(-low / scale), 0, 255)
    rounded: Float = (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale
    return rounded


def quantized_statically(x: Float, largest: float) -> Float:
    """Round activations to int8 by a fixed symmetric range, and return what that stands for."""
    scale = largest / 127 or 1.0
    rounded: Float = int8_steps(x, scale) * scale
    return rounded


def matmul_errors(model: ir.Model, feeds: Sequence[Feeds], threads: int, *, dynamic: bool) -> tuple[MatmulError, ...]:
    """Measure what quantizing each multiplication by a constant weight costs by itself.

    Args:
        model: a float32 graph.
        feeds: calibration batches.
        threads: how many ONNX Runtime uses.
        dynamic: whether activations are quantized by each batch's own range, or by that of all batches.

    Raises:
        ExportError: there are no calibration batches.

    """
    if not feeds:
        raise ExportError("int8 needs calibration texts, and there are none.")
    nodes = [node for node in model.graph if node.op_type == "MatMul" and is_constant(node.inputs[1])]
    if not nodes:  # all sublayers are emptied; asked for no outputs, ONNX Runtime would give all
        return ()
    ranges: dict[str, float] | None = None
    if not dynamic:
        ranges = dict.fromkeys((node.name or "" for node in nodes), 0.0)
        for batch in activations(model, nodes, feeds, threads):
            for name, x in batch.items():
                ranges[name] = max(ranges[name], float(np.abs(x).max()))
    errors = relative_errors(model, nodes, feeds, threads, ranges=ranges)
    return tuple(
        MatmulError(
            node=name,
            weight=input_of(node, 1).name or "",
            input_range=None if ranges is None else ranges[name],
            relative_error=errors[name],
            quantized=errors[name] <= LARGEST_ERROR,
        )
        for node, name in zip(nodes, errors, strict=True)
    )


def relative_errors(
    model: ir.Model,
    nodes: Sequence[ir.Node],
    feeds: Sequence[Feeds],
    threads: int,
    *,
    ranges: Mapping[str, float] | None = None,
    scales: Mapping[str, Float] | None = None,
) -> dict[str, float]:
    """Return, by the nodes' names, the root mean square of each one's own error over that of its exact output.

    Args:
        model: a float32 graph.
        nodes: its multiplications by constant weights.
        feeds: calibration batches.
        threads: how many ONNX Runtime uses.
        ranges: by the nodes' names, the largest activation; each batch's own range unless given.
        scales: by the nodes' names, what activations are divided and the weights' rows multiplied by, (inputs,).

    """
    exact = {node.name or "": constant_of(node.inputs[1]).astype(np.float32) for node in nodes}
    scaled = {name: weight * scales[name][:, None] for name, weight in exact.items()} if scales else exact
    coarse = {name: quantized_weight(weight) for name, weight in scaled.items()}
    lost, whole = dict.fromkeys(exact, 0.0), dict.fromkeys(exact, 0.0)
    for batch in activations(model, nodes, feeds, threads):
        for name, x in batch.items():
            right = x @ exact[name]
            even = x / scales[name] if scales else x
            rounded = quantized_dynamically(even) if ranges is None else quantized_statically(even, ranges[name])
            lost[name] += float(np.square(rounded @ coarse[name] - right, dtype=np.float64).sum())
            whole[name] += float(np.square(right, dtype=np.float64).sum())
    return {name: float(np.sqrt(lost[name] / whole[name])) if whole[name] else 0.0 for name in exact}


def activations(
    model: ir.Model, nodes: Sequence[ir.Node], feeds: Sequence[Feeds], threads: int
) -> Iterator[dict[str, Float]]:
    """Yield, batch by batch, what each node multiplies, as (rows, inputs) by the node's name."""
    import onnxruntime

    probed = model.clone()
    by_name = {node.name: node for node in probed.graph}
    inputs = {node.name: by_name[node.name].inputs[0] for node in nodes}
    values = dict.fromkeys(x for x in inputs.values() if x is not None and not x.is_graph_output())
    probed.graph.outputs.extend(values)
    with scratch_folder() as folder:
        path = folder / "probed.onnx"
        ir.save(probed, path, external_data="probed.data")
        session = onnxruntime.InferenceSession(path, session_options(threads), providers=[CPU_PROVIDER])
    names = [x.name for x in values]
    for batch in feeds:
        found = dict(zip(names, session.run(names, dict(batch)), strict=True))
        yield {str(name): _rows(found[x.name]) for name, x in inputs.items() if x is not None}


def _rows(x: Float) -> Float:
    return x.reshape(-1, x.shape[-1])


def quantize_for_cpu(model: ir.Model, errors: Sequence[MatmulError]) -> None:
    """Quantize the multiplications whose error allows it by each input's own range, in place.

    DynamicQuantizeLinear, MatMulInteger, and the product of both scales, in the order in which ONNX Runtime fuses
    them to one kernel; multiplications of the same activations share their quantization.
    """
    graph = model.graph
    shared: dict[ir.Value, Sequence[ir.Value]] = {}
    for node in _chosen(graph, errors):
        value, weight = input_of(node, 0), input_of(node, 1)
        if value not in shared:
            measured = ir.node("DynamicQuantizeLinear", [value], num_outputs=3)
            graph.insert_before(node, measured)
            shared[value] = measured.outputs
        narrow, scale, zero = shared[value]
        rows, scales, zeros = _stored_weight(graph, weight)
        product = insert_before(node, "MatMulInteger", [narrow, rows, zero, zeros])
        wide = insert_before(node, "Cast", [product], {"to": int(ir.DataType.FLOAT)})
        both = insert_before(node, "Mul", [scale, scales])
        replace(node.outputs[0], insert_before(node, "Mul", [wide, both], like=node.outputs[0]))
    remove_unused(model)


def quantize_for_tensorrt(model: ir.Model, errors: Sequence[MatmulError]) -> None:
    """Put QuantizeLinear and DequantizeLinear around the multiplications whose error allows it, in place.

    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html (explicit
    quantization). Weights are stored as int8 with one scale for each output; multiplications of the same
    activations share their quantization, with the widest of their ranges.
    """
    graph = model.graph
    measured = {x.node: x.input_range or 0.0 for x in errors}
    ranges: dict[ir.Value, float] = {}
    nodes = _chosen(graph, errors)
    for node in nodes:
        value = input_of(node, 0)
        ranges[value] = max(ranges.get(value, 0.0), measured[node.name or ""])
    shared: dict[ir.Value, ir.Value] = {}
    for node in nodes:
        value, weight = input_of(node, 0), input_of(node, 1)
        if value not in shared:
            scale = add_constant(graph, f"{value.name}.scale", np.asarray(ranges[value] / 127 or 1.0, np.float32))
            zero = add_constant(graph, f"{value.name}.zero", np.asarray(0, np.int8))
            narrow = insert_before(node, "QuantizeLinear", [value, scale, zero])
            shared[value] = insert_before(node, "DequantizeLinear", [narrow, scale, zero], like=value)
        stored = _stored_weight(graph, weight)
        node.replace_input_with(0, shared[value])
        node.replace_input_with(1, insert_before(node, "DequantizeLinear", stored, {"axis": 1}, like=weight))
    remove_unused(model)


def _chosen(graph: ir.Graph, errors: Sequence[MatmulError]) -> list[ir.Node]:
    """Return the nodes to quantize.

    Raises:
        ExportError: there are none, so that the graph would be int8 by name only.

    """
    if not errors:
        raise ExportError("int8 was asked for, but no multiplication by a weight is left: use fp32 for this model.")
    names = {x.node for x in errors if x.quantized}
    if not names:
        smallest = min(x.relative_error for x in errors)
        raise ExportError(
            f"int8 was asked for, but no multiplication bears it: the smallest error of one by itself is "
            f"{smallest:.1%} of its output, and {LARGEST_ERROR:.0%} is accepted. Use fp16 or fp32 for this model."
        )
    return [node for node in graph if node.name in names]


def _stored_weight(graph: ir.Graph, weight: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Store a weight, (inputs, outputs), as int8; returns it, its scales and its zero points, (outputs,)."""
    numbers = constant_of(weight)
    scales = symmetric_scales(numbers, axis=0)
    return (
        add_constant(graph, f"{weight.name}.int8", int8_steps(numbers, scales).astype(np.int8)),
        add_constant(graph, f"{weight.name}.scale", scales[0].astype(np.float32)),
        add_constant(graph, f"{weight.name}.zero", np.zeros(numbers.shape[1], np.int8)),
    )
