"""Measuring a latency table: models whose layers all have the same widths, each timed beside one that stays the same.

The cost of a sublayer is what a whole stack of them takes more than a stack of emptied ones, divided by their
number: in context, caches included. The other kind of sublayer has half its units meanwhile, as pruned models about
have. Every model takes turns with the same reference, so that what the machine does in between cancels out.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from exporters.latency import NoiseCheck, TimingSettings, speedup_interval, timed_in_turn
from exporters.latency_table.record import CheckedWidths, CostCurve, EncoderDimensions, ShapeTable, Widths
from exporters.runners.base import Runner
from exporters.spec import ModelSpec, Shape
from exporters.timers import Timer

OpenAt = Callable[[Widths], AbstractContextManager[Runner]]
"""Opens the model cut to some widths in the runtime that is measured."""
TIMING = TimingSettings(warmup_s=0.1, seconds=0.5, min_blocks=9, block_s=0.05)
"""How long each model is timed at each shape, beside the reference."""
CHECKS = 3
"""How many models of unequal widths are measured to check the sum with."""
LEAST_FIXED = 1e-3
"""The share that is fixed at least, where noise leaves less: no model is a thousand times as fast as another."""
_FFN_SHARES = (0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)
_MOST_HEAD_COUNTS = 16


@dataclass(frozen=True)
class TableRequest:
    """What is measured.

    Attributes:
        dimensions: the dense encoder's.
        spec: the inputs to make.
        shapes: the shapes to time.
        align: FFN widths are multiples of this.
        timer: how calls are timed.

    """

    dimensions: EncoderDimensions
    spec: ModelSpec
    shapes: Sequence[Shape]
    align: int
    timer: Timer


def head_counts(heads: int) -> list[int]:
    """Return the head counts that are measured, ascending: all, or some of them where there are very many."""
    if heads <= _MOST_HEAD_COUNTS:
        return list(range(heads + 1))
    return sorted({0, 1, 2, 3, *(round(x) for x in np.linspace(4, heads, _MOST_HEAD_COUNTS - 3))})


def ffn_widths(neurons: int, align: int) -> list[int]:
    """Return the FFN widths that are measured, ascending, all but the full one multiples of ``align``."""
    aligned = {max(align, round(neurons * share / align) * align) for share in _FFN_SHARES}
    return [0, *sorted(x for x in aligned if x < neurons), neurons]


def measure_table(
    request: TableRequest, open_at: OpenAt, progress: Callable[[float], None] = lambda _: None
) -> tuple[ShapeTable, ...]:
    """Measure the costs at every shape.

    Args:
        request: what.
        open_at: opens the model at some widths; two are open at a time.
        progress: told the share that is done.

    """
    sizes = request.dimensions
    heads, neurons = head_counts(sizes.heads), ffn_widths(sizes.neurons, request.align)
    middle = (heads[len(heads) // 2], min(neurons, key=lambda width: abs(width - sizes.neurons / 2)))
    uniform = [middle, *((h, middle[1]) for h in heads), *((middle[0], n) for n in neurons)]
    uneven = _random_widths(sizes, heads, neurons)
    others: list[Widths] = [[pair] * sizes.layers for pair in dict.fromkeys(uniform)] + list(uneven)
    dense, half = [(sizes.heads, sizes.neurons)] * sizes.layers, len(others) // 2
    # the dense model's time divides all others, so that no single bad moment may decide it
    models: list[Widths] = [dense, *others[:half], dense, *others[half:], dense]
    reference = [middle] * sizes.layers
    ratios: dict[tuple[tuple[int, int], ...], list[list[float]]] = {}
    noise: list[NoiseCheck] = []
    reference_ms: list[list[float]] = [[] for _ in request.shapes]
    with open_at(reference) as middle_runner:
        for number, widths in enumerate(models):
            with open_at(widths) as runner:
                found = ratios.setdefault(tuple(widths), [[] for _ in request.shapes])
                for index, shape in enumerate(request.shapes):
                    timed = timed_in_turn((runner, middle_runner), request.spec, shape, TIMING, request.timer)
                    found[index].extend(timed.ratios)
                    reference_ms[index] += timed.seconds[1]
                    if list(widths) == reference:  # the same model twice
                        low, high = speedup_interval(timed.ratios)
                        noise.append(NoiseCheck(ratio=float(np.median(timed.ratios)), low=low, high=high))
            progress((number + 1) / len(models))
    return tuple(
        _shape_table(
            request,
            str(shape),
            {widths: float(np.median(found[index])) for widths, found in ratios.items()},
            middle,
            uneven,
            1000 * float(np.median(reference_ms[index])),
            noise[index],
        )
        for index, shape in enumerate(request.shapes)
    )


def _random_widths(
    sizes: EncoderDimensions, heads: Sequence[int], neurons: Sequence[int]
) -> list[tuple[tuple[int, int], ...]]:
    random = np.random.default_rng(0)
    return [
        tuple((int(random.choice(heads)), int(random.choice(neurons))) for _ in range(sizes.layers))
        for _ in range(CHECKS)
    ]


def _shape_table(
    request: TableRequest,
    shape: str,
    times: dict[tuple[tuple[int, int], ...], float],
    middle: tuple[int, int],
    uneven: Sequence[tuple[tuple[int, int], ...]],
    middle_ms: float,
    noise: NoiseCheck,
) -> ShapeTable:
    """Turn times relative to the reference into costs relative to the dense model."""
    sizes = request.dimensions
    dense = times[((sizes.heads, sizes.neurons),) * sizes.layers]

    def share(heads: int, neurons: int) -> float:
        return times[((heads, neurons),) * sizes.layers] / dense

    heads, neurons = head_counts(sizes.heads), ffn_widths(sizes.neurons, request.align)
    attention = cost_curve(heads, [share(h, middle[1]) for h in heads], sizes.layers)
    ffn = cost_curve(neurons, [share(middle[0], n) for n in neurons], sizes.layers)
    rest = share(*middle) - sizes.layers * float(attention.at(middle[0]) + ffn.at(middle[1]))
    fixed = max(LEAST_FIXED, rest)
    table = ShapeTable(shape=shape, dense_ms=middle_ms * dense, fixed=fixed, attention=attention, ffn=ffn, noise=noise)
    checks = tuple(
        CheckedWidths(widths=widths, predicted=table.share(widths), measured=times[widths] / dense) for widths in uneven
    )
    return table.model_copy(update={"checks": checks})


def cost_curve(widths: Sequence[int], shares: Sequence[float], layers: int) -> CostCurve:
    """Return what one sublayer costs at each width, from whole models' times.

    Args:
        widths: ascending, from 0.
        shares: the share of the dense model's time that a model takes with all its sublayers of this kind at each.
        layers: how many sublayers there are.

    Costs are smoothed by isotonic regression, the nearest numbers by least squares that never fall with the width
    (https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.isotonic_regression.html); an emptied
    sublayer's cost is 0 by definition.

    """
    measured = (np.asarray(shares) - shares[0]) / layers
    smoothed = np.maximum(isotonic_regression(measured).x, 0.0)
    smoothed -= smoothed[0]
    return CostCurve(widths=tuple(widths), measured=tuple(measured.tolist()), smoothed=tuple(smoothed.tolist()))
