"""8-bit weights and activations: the choice of multiplications that tolerate them, and Q/DQ graphs.

A multiplication by a constant weight is quantized if its own error on calibration texts is small enough; the others
stay as they are, and both are reported. Weights are symmetric with one scale for each output channel; activations have
one scale, from the range that calibration texts give. The scale is fixed, so that the answer to a text depends neither
on the texts that share its batch nor on padding. Graphs have explicit QuantizeLinear and DequantizeLinear nodes, which
ONNX Runtime fuses to integer kernels and TensorRT 11 requires:
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#onnx-quantization-representation-format,
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from exporters.errors import ExportError
from exporters.onnx.passes.editing import (
    add_constant,
    constant_of,
    input_of,
    insert_before,
    is_constant,
    remove_unused,
)
from exporters.processes.scratch import scratch_folder
from exporters.runners.base import Feeds
from exporters.runners.onnxruntime_runner import CPU_PROVIDER, session_options

LARGEST_ERROR = 0.05
"""A multiplication is quantized if the root mean square of its error is at most this share of its output's."""
MARGIN = 1.1
"""Activations may exceed the range seen on calibration texts by this factor before they are clipped: it costs a tenth
of a step on texts like these, and texts unlike them are clipped less (docs/RESULTS.md)."""

Float = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class IntegerForm:
    """The integers that a runtime multiplies.

    Attributes:
        signed_activations: whether activations are int8 with a zero point of 0, or uint8 with one of their own.
        saturates: whether a kernel of the runtime adds two products in 16 bits with saturation, so that neighbouring
            weights have to be bounded together (`saturation_free_scales`).

    """

    signed_activations: bool
    saturates: bool

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest integer of an activation."""
        return (-127, 127) if self.signed_activations else (0, 255)

    def activation_scale(self, low: float, high: float) -> tuple[float, int]:
        """Return the scale and the zero point for activations of a range, which is widened to hold 0."""
        if self.signed_activations:
            return max(-low, high) / 127 or 1.0, 0
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / 255 or 1.0
        return scale, int(np.clip(np.rint(-low / scale), 0, 255))

    def weight_scales(self, weight: Float) -> Float:
        """Return a scale for each output, (1, outputs), of a weight, (inputs, outputs)."""
        return saturation_free_scales(weight) if self.saturates else symmetric_scales(weight, axis=0)


CPU = IntegerForm(signed_activations=False, saturates=True)
"""ONNX Runtime's CPU provider: its fastest kernels take uint8 activations and int8 weights."""
TENSORRT = IntegerForm(signed_activations=True, saturates=False)
"""TensorRT takes signed integers without zero points, and adds up in 32 bits."""


class MatmulError(BaseModel):
    """The error of quantizing one multiplication, measured by itself on calibration texts.

    Attributes:
        node: the node in the graph, whose name contains the layer's.
        weight: the weight that it multiplies by.
        input_low: the lower end of the range of the activations that it multiplies.
        input_high: the upper end.
        relative_error: root mean square of (quantized - exact) over that of the exact output.
        quantized: whether the exported graph quantizes it.
        smoothed: whether its activations are smoothed before (`exporters.onnx.passes.smoothing`).

    """

    model_config = ConfigDict(frozen=True)

    node: str
    weight: str
    input_low: float
    input_high: float
    relative_error: float
    quantized: bool
    smoothed: bool = False


@dataclass(frozen=True)
class ChannelRanges:
    """The ranges of activations on calibration texts, channel by channel.

    Attributes:
        low: the smallest value of each channel, (inputs,).
        high: the largest value of each channel, (inputs,).

    """

    low: Float
    high: Float

    @property
    def largest(self) -> Float:
        """The largest absolute value of each channel, (inputs,)."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def divided(self, scales: Float | float) -> "ChannelRanges":
        """Return the ranges of activations that are divided by positive scales, (inputs,)."""
        return ChannelRanges(self.low / scales, self.high / scales)

    @property
    def whole(self) -> tuple[float, float]:
        """The range of all channels together, with the margin for texts that calibration has not seen."""
        return MARGIN * float(self.low.min()), MARGIN * float(self.high.max())


def quantized_weight(weight: Float, scales: Float) -> Float:
    """Return a weight, (inputs, outputs), rounded to int8 with a scale for each output, (1, outputs), as floats."""
    rounded: Float = int8_steps(weight, scales) * scales
    return rounded


def saturation_free_scales(weight: Float) -> Float:
    """Return a scale for each output, (1, outputs), with which no kernel of ONNX Runtime saturates.

    On x86-64 processors with AVX2 and without VNNI, ONNX Runtime multiplies uint8 activations by int8 weights with
    ``vpmaddubsw``, which adds the products of two neighbouring inputs in 16 bits with saturation
    (https://www.felixcloutier.com/x86/pmaddubsw). 255 times the sum of both weights' absolute values has to stay
    within 32,767, so the sum within 128. The scales make the largest such sum of a column 127, which rounding raises
    to at most 128: 255 · 128 = 32,640.

    Args:
        weight: float, (inputs, outputs); inputs 2k and 2k + 1 are neighbours.

    """
    sizes = np.abs(weight)
    if len(sizes) % 2:
        sizes = np.concatenate([sizes, np.zeros_like(sizes[:1])])
    return symmetric_scales(sizes[0::2] + sizes[1::2], axis=0)


def symmetric_scales(numbers: Float, axis: int) -> Float:
    """Return the scales with which the largest number along an axis becomes 127; the axis stays, with length 1."""
    largest = np.abs(numbers).max(axis, keepdims=True)
    scales: Float = np.where(largest == 0, 1, largest / 127)
    return scales


def int8_steps(numbers: Float, scales: Float | float) -> Float:
    """Return numbers in steps of a scale, whole and from -127 to 127."""
    steps: Float = np.clip(np.rint(numbers / scales), -127, 127)
    return steps


def quantized_activations(x: Float, low: float, high: float, form: IntegerForm) -> Float:
    """Return activations rounded to the integers of a form by a fixed range, as floats."""
    scale, zero = form.activation_scale(low, high)
    rounded: Float = (np.clip(np.rint(x / scale) + zero, *form.limits) - zero) * scale
    return rounded


def matmul_errors(
    model: ir.Model, feeds: Sequence[Feeds], threads: int, form: IntegerForm
) -> tuple[tuple[MatmulError, ...], dict[str, ChannelRanges]]:
    """Measure the error of quantizing each multiplication by a constant weight by itself.

    Args:
        model: a float32 graph.
        feeds: calibration batches.
        threads: how many ONNX Runtime uses.
        form: the integers.

    Returns:
        The errors, and the ranges of the activations by the nodes' names.

    Raises:
        ExportError: there are no calibration batches.

    """
    if not feeds:
        raise ExportError("int8 needs calibration texts, and there are none.")
    nodes = [node for node in model.graph if node.op_type == "MatMul" and is_constant(node.inputs[1])]
    if not nodes:  # all sublayers are emptied; asked for no outputs, ONNX Runtime would give all
        return (), {}
    channels = channel_ranges(model, nodes, feeds, threads)
    errors = relative_errors(model, nodes, feeds, threads, form, channels)
    found = []
    for node, name in zip(nodes, errors, strict=True):
        low, high = channels[name].whole
        found.append(
            MatmulError(
                node=name,
                weight=input_of(node, 1).name or "",
                input_low=low,
                input_high=high,
                relative_error=errors[name],
                quantized=errors[name] <= LARGEST_ERROR,
            )
        )
    return tuple(found), channels


def channel_ranges(
    model: ir.Model, nodes: Sequence[ir.Node], feeds: Sequence[Feeds], threads: int
) -> dict[str, ChannelRanges]:
    """Return, by the nodes' names, the ranges of the activations that each multiplies."""
    found: dict[str, ChannelRanges] = {}
    for batch in activations(model, nodes, feeds, threads):
        for name, x in batch.items():
            low, high = x.min(0), x.max(0)
            if name in found:
                low, high = np.minimum(low, found[name].low), np.maximum(high, found[name].high)
            found[name] = ChannelRanges(low, high)
    return found


def relative_errors(
    model: ir.Model,
    nodes: Sequence[ir.Node],
    feeds: Sequence[Feeds],
    threads: int,
    form: IntegerForm,
    channels: Mapping[str, ChannelRanges],
    scales: Mapping[str, Float] | None = None,
) -> dict[str, float]:
    """Return, by the nodes' names, the root mean square of each one's own error over that of its exact output.

    Args:
        model: a float32 graph.
        nodes: its multiplications by constant weights.
        feeds: calibration batches.
        threads: how many ONNX Runtime uses.
        form: the integers.
        channels: by the nodes' names, the ranges of the activations.
        scales: by the nodes' names, what activations are divided and the weights' rows multiplied by, (inputs,).

    """
    exact = {node.name or "": constant_of(node.inputs[1]).astype(np.float32) for node in nodes}
    factors: Mapping[str, Float | float] = scales or dict.fromkeys(exact, 1.0)
    coarse = {}
    for name, weight in exact.items():
        scaled = weight * np.reshape(factors[name], (-1, 1)).astype(np.float32)
        coarse[name] = quantized_weight(scaled, form.weight_scales(scaled))
    ranges = {name: channels[name].divided(factors[name]).whole for name in exact}
    lost, whole = dict.fromkeys(exact, 0.0), dict.fromkeys(exact, 0.0)
    for batch in activations(model, nodes, feeds, threads):
        for name, x in batch.items():
            right = x @ exact[name]
            rounded = quantized_activations(x / factors[name], *ranges[name], form)
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


def quantize_matmuls(model: ir.Model, errors: Sequence[MatmulError], form: IntegerForm) -> None:
    """Put QuantizeLinear and DequantizeLinear around the multiplications whose error allows it, in place.

    Multiplications of the same activations share their quantization.

    Raises:
        ExportError: no multiplication can be quantized, so that the graph would be int8 by name only.

    """
    graph = model.graph
    ranges = {x.node: (x.input_low, x.input_high) for x in errors}
    shared: dict[ir.Value, ir.Value] = {}
    for node in _chosen(graph, errors):
        value, weight = input_of(node, 0), input_of(node, 1)
        if value not in shared:
            scale, zero = form.activation_scale(*ranges[node.name or ""])
            kind = np.int8 if form.signed_activations else np.uint8
            scaled_by = add_constant(graph, f"{value.name}.scale", np.asarray(scale, np.float32))
            offset = add_constant(graph, f"{value.name}.zero", np.asarray(zero, kind))
            narrow = insert_before(node, "QuantizeLinear", [value, scaled_by, offset])
            shared[value] = insert_before(node, "DequantizeLinear", [narrow, scaled_by, offset], like=value)
        stored = _stored_weight(graph, weight, form)
        node.replace_input_with(0, shared[value])
        node.replace_input_with(1, insert_before(node, "DequantizeLinear", stored, {"axis": 1}, like=weight))
    remove_unused(model)


def _chosen(graph: ir.Graph, errors: Sequence[MatmulError]) -> list[ir.Node]:
    """Return the nodes to quantize.

    Raises:
        ExportError: there are none.

    """
    if not errors:
        raise ExportError("int8 was asked for, but no multiplication by a weight is left: use fp32 for this model.")
    names = {x.node for x in errors if x.quantized}
    if not names:
        smallest = min(x.relative_error for x in errors)
        raise ExportError(
            f"int8 was asked for, but no multiplication tolerates it: the smallest error of one by itself is "
            f"{smallest:.1%} of its output, and {LARGEST_ERROR:.0%} is accepted. Use fp16 or fp32 for this model."
        )
    return [node for node in graph if node.name in names]


def _stored_weight(graph: ir.Graph, weight: ir.Value, form: IntegerForm) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Store a weight, (inputs, outputs), as int8; returns it, its scales and its zero points, (outputs,)."""
    numbers = constant_of(weight)
    scales = form.weight_scales(numbers)
    return (
        add_constant(graph, f"{weight.name}.int8", int8_steps(numbers, scales).astype(np.int8)),
        add_constant(graph, f"{weight.name}.scale", scales[0].astype(np.float32)),
        add_constant(graph, f"{weight.name}.zero", np.zeros(numbers.shape[1], np.int8)),
    )
