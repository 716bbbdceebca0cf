"""Smoothing: outliers among the activations become part of the weights, where 8 bits are too coarse for them.

One step of 8 bits has to serve a whole activation tensor, so that a few channels with very large numbers leave little
of all the others. Divided channel by channel by scales that the rows of the weights are multiplied by, the product is
the same and both of its factors are easier to round (Xiao et al., SmoothQuant, ICML 2023, equations 3 and 4,
https://arxiv.org/abs/2211.10438). The attention's output is divided by dividing the columns of the values' weights,
which is free. Elsewhere the division is a node of its own, a pass over the activations, because a norm's output also
feeds the residual sum.

It is done wherever it helps, also where the error of a product is small: with fixed ranges, MPNet-base in int8 has a
mean cosine of 0.994 to itself in fp32 so, and of 0.925 where only products with errors above 2 % are smoothed, though
that takes the same time (docs/RESULTS.md).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from exporters.onnx.passes.editing import (
    add_constant,
    constant_of,
    input_of,
    insert_before,
    linear_of,
    only_user,
    producer_of,
    remove_unused,
)
from exporters.onnx.passes.int8 import LARGEST_ERROR, ChannelRanges, Float, IntegerForm, MatmulError, relative_errors
from exporters.runners.base import Feeds

STRENGTH = 0.75
"""How much of the outliers is moved, the paper's alpha: 0 none, 1 all. It recommends 0.5, and 0.75 for models with
outliers that are hard to round; 0.75 is best on all three models tried here (docs/RESULTS.md)."""

QUIETEST = 100
"""No channel's scale is less than this part of the median."""


def smoothing_scales(largest: Float, weights: Sequence[Float], strength: float = STRENGTH) -> Float:
    """Return what each channel of the activations is divided by: max|x|^alpha / max|w|^(1 - alpha), float32.

    Args:
        largest: the largest absolute value of each channel on calibration texts, (inputs,).
        weights: the weights that the activations are multiplied by, (inputs, outputs) each.
        strength: alpha.

    Other texts may wake a channel that was quiet on these, so that no channel's scale is below the median's
    `QUIETEST`th part; one that was always 0, or that no weight reads, has the median.

    """
    rows = np.max([np.abs(weight).max(1) for weight in weights], axis=0).astype(np.float64)
    used = (largest > 0) & (rows > 0)
    if not used.any():
        return np.ones(len(rows), np.float32)
    x, w = (np.where(used, numbers, 1.0) for numbers in (largest, rows))
    scales = x**strength / w ** (1 - strength)
    middle = np.median(scales[used])
    bounded: Float = np.where(used, np.maximum(scales, middle / QUIETEST), middle).astype(np.float32)
    return bounded


def smooth_activations(
    model: ir.Model,
    errors: Sequence[MatmulError],
    channels: Mapping[str, ChannelRanges],
    feeds: Sequence[Feeds],
    threads: int,
    form: IntegerForm,
    *,
    strength: float = STRENGTH,
) -> tuple[MatmulError, ...]:
    """Smooth the activations where that makes the rounding error smaller, and small enough to quantize, in place.

    Args:
        model: a float32 graph.
        errors: of its multiplications (`matmul_errors`).
        channels: the ranges of what they multiply, by the nodes' names.
        feeds: calibration batches.
        threads: how many ONNX Runtime uses.
        form: the integers.
        strength: how much of the outliers is moved.

    Returns:
        The errors, those of smoothed activations measured again.

    """
    found = {x.node: x for x in errors}
    groups: dict[ir.Value, list[ir.Node]] = {}
    for node in model.graph:
        if node.name in found:
            groups.setdefault(input_of(node, 0), []).append(node)
    if not groups:
        return tuple(errors)
    scales = _scales(list(groups.values()), channels, strength)
    candidates = [node for nodes in groups.values() for node in nodes]
    smoothed = relative_errors(model, candidates, feeds, threads, form, channels, scales)
    for nodes in groups.values():
        names = [node.name or "" for node in nodes]
        after = [smoothed[x] for x in names]
        if min(after) <= LARGEST_ERROR and max(after) < max(found[x].relative_error for x in names):
            _smooth(model.graph, nodes, scales[names[0]])
            low, high = channels[names[0]].divided(scales[names[0]]).whole
            for name in names:
                changed = {"relative_error": smoothed[name], "quantized": smoothed[name] <= LARGEST_ERROR}
                found[name] = found[name].model_copy(
                    update={**changed, "input_low": low, "input_high": high, "smoothed": True}
                )
    remove_unused(model)
    return tuple(found.values())


def _scales(
    groups: Sequence[Sequence[ir.Node]], channels: Mapping[str, ChannelRanges], strength: float
) -> Mapping[str, Float]:
    """Return the scales by the nodes' names; all nodes of a group multiply the same activations."""
    scales: dict[str, Float] = {}
    for nodes in groups:
        weights = [constant_of(node.inputs[1]) for node in nodes]
        shared = smoothing_scales(channels[nodes[0].name or ""].largest, weights, strength)
        scales |= {node.name or "": shared for node in nodes}
    return scales


def _smooth(graph: ir.Graph, nodes: Sequence[ir.Node], scales: Float) -> None:
    """Divide the activations that some nodes share, and multiply the rows of these nodes' weights."""
    value = input_of(nodes[0], 0)
    smooth = value
    if not _divide_values(graph, nodes, scales):
        factors = add_constant(graph, f"{value.name}.smoothing", (1 / scales).astype(np.float32))
        smooth = insert_before(nodes[0], "Mul", [value, factors], like=value)
    for node in nodes:
        weight = input_of(node, 1)
        rows = (constant_of(weight) * scales[:, None]).astype(np.float32)
        node.replace_input_with(0, smooth)
        node.replace_input_with(1, add_constant(graph, f"{weight.name}.smoothed", rows))


def _divide_values(graph: ir.Graph, nodes: Sequence[ir.Node], scales: Float) -> bool:
    """Divide the attention's output by dividing the columns of the values' weights; False where that is not possible.

    Attention adds up values, channel by channel, with weights that do not depend on the channel. It works where its
    values come straight from a linear layer without a bias that nothing else reads, and one node reads its output.
    """
    value = input_of(nodes[0], 0)
    attention = producer_of(value, "Attention")
    if attention is None or len(nodes) > 1 or only_user(value) is None:
        return False
    values = input_of(attention, 2)
    linear = linear_of(values)
    if linear is None or linear.add is not None or only_user(values) is None:
        return False
    columns = constant_of(linear.weight)
    if columns.shape[1] != len(scales):
        return False
    divided = add_constant(graph, f"{linear.weight.name}.smoothed", (columns / scales).astype(np.float32))
    linear.matmul.replace_input_with(1, divided)
    return True
