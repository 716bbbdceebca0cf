"""Smoothing: outliers among the activations become part of the weights, where 8 bits are too coarse for them.

One step of 8 bits has to serve a whole activation tensor, so that a few channels with very large numbers leave little
of all the others. Divided channel by channel by scales that the rows of the weights are multiplied by, the product is
the same and both of its factors are easier to round (Xiao et al., SmoothQuant, ICML 2023, equations 3 and 4,
https://arxiv.org/abs/2211.10438). The activations' norm also feeds the residual sum, so that the division is a node of
its own, a pass over the activations: it is only put where rounding is known to lose much without it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from exporters.graph.editing import add_constant, constant_of, input_of, insert_before, remove_unused
from exporters.graph.int8 import LARGEST_ERROR, Float, MatmulError, activations, relative_errors
from exporters.runners.base import Feeds

SMOOTHED_FROM = 0.03
"""Activations are smoothed if a multiplication of them has a larger error than this share of its output."""
STRENGTH = 0.75
"""How much of the outliers is moved, the paper's alpha: 0 none, 1 all. It recommends 0.5, and 0.75 for models with
outliers that are hard to round, which are the only ones that are smoothed here."""

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
    feeds: Sequence[Feeds],
    threads: int,
    *,
    above: float = SMOOTHED_FROM,
    strength: float = STRENGTH,
) -> tuple[MatmulError, ...]:
    """Smooth the activations that lose much by rounding, where that makes it less, and little enough, in place.

    Args:
        model: a float32 graph.
        errors: of its multiplications, each input rounded by its own range (`matmul_errors`, dynamic).
        feeds: calibration batches.
        threads: how many ONNX Runtime uses.
        above: from which error on.
        strength: how much of the outliers is moved.

    Returns:
        The errors, those of smoothed activations measured anew.

    """
    found = {x.node: x for x in errors}
    groups: dict[ir.Value, list[ir.Node]] = {}
    for node in model.graph:
        if node.name in found:
            groups.setdefault(input_of(node, 0), []).append(node)
    coarse = [nodes for nodes in groups.values() if max(found[x.name or ""].relative_error for x in nodes) > above]
    if not coarse:
        return tuple(errors)
    scales = _scales(model, coarse, feeds, threads, strength)
    candidates = [node for nodes in coarse for node in nodes]
    smoothed = relative_errors(model, candidates, feeds, threads, scales=scales)
    for nodes in coarse:
        names = [node.name or "" for node in nodes]
        after = [smoothed[x] for x in names]
        if min(after) <= LARGEST_ERROR and max(after) < max(found[x].relative_error for x in names):
            _smooth(model.graph, nodes, scales[names[0]])
            for name in names:
                changed = {"relative_error": smoothed[name], "quantized": smoothed[name] <= LARGEST_ERROR}
                found[name] = found[name].model_copy(update={**changed, "smoothed": True})
    remove_unused(model)
    return tuple(found.values())


def _scales(
    model: ir.Model, groups: Sequence[Sequence[ir.Node]], feeds: Sequence[Feeds], threads: int, strength: float
) -> Mapping[str, Float]:
    """Return the scales by the nodes' names."""
    firsts = [nodes[0] for nodes in groups]  # all nodes of a group multiply the same
    largest: dict[str, Float] = {}
    for batch in activations(model, firsts, feeds, threads):
        for name, x in batch.items():
            channels = np.abs(x).max(0)
            largest[name] = np.maximum(largest.get(name, channels), channels)
    scales: dict[str, Float] = {}
    for first, nodes in zip(firsts, groups, strict=True):
        weights = [constant_of(node.inputs[1]) for node in nodes]
        shared = smoothing_scales(largest[first.name or ""], weights, strength)
        scales |= {node.name or "": shared for node in nodes}
    return scales


def _smooth(graph: ir.Graph, nodes: Sequence[ir.Node], scales: Float) -> None:
    """Divide the activations that some nodes share, and multiply the rows of these nodes' weights."""
    value = input_of(nodes[0], 0)
    factors = add_constant(graph, f"{value.name}.smoothing", (1 / scales).astype(np.float32))
    smooth = insert_before(nodes[0], "Mul", [value, factors], like=value)
    for node in nodes:
        weight = input_of(node, 1)
        rows = (constant_of(weight) * scales[:, None]).astype(np.float32)
        node.replace_input_with(0, smooth)
        node.replace_input_with(1, add_constant(graph, f"{weight.name}.smoothed", rows))
