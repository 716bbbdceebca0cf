"""Measuring a latency table: models whose layers all have the same widths, each timed beside one that stays the same.

The cost of a sublayer is what a whole stack of them takes more than a stack of emptied ones, divided by their
number: in context, caches included. The other kind of sublayer has half its units meanwhile, as pruned models about
have. Every model takes turns with the same reference, so that what the machine does in between cancels out.
"""

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.optimize import isotonic_regression

from exporters.parts import FinishedParts
from exporters.runners.base import Runner
from exporters.spec import ModelSpec, Shape
from exporters.timing.latency import TimingSettings, speedup_interval, timed_in_turn
from exporters.timing.latency_table.table import CheckedWidths, CostCurve, EncoderDimensions, ShapeTable, Widths
from exporters.timing.noise import Disturbance, NoiseCheck, total
from exporters.timing.timers import Timer

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
        threads: how many threads the models run with.

    """

    dimensions: EncoderDimensions
    spec: ModelSpec
    shapes: Sequence[Shape]
    align: int
    timer: Timer
    threads: int = 1


def head_counts(heads: int) -> list[int]:
    """Return the head counts that are measured, ascending: all, or some of them where there are very many."""
    if heads <= _MOST_HEAD_COUNTS:
        return list(range(heads + 1))
    return sorted({0, 1, 2, 3, *(round(x) for x in np.linspace(4, heads, _MOST_HEAD_COUNTS - 3))})


def ffn_widths(neurons: int, align: int) -> list[int]:
    """Return the FFN widths that are measured, ascending, all but the full one multiples of ``align``."""
    aligned = {max(align, round(neurons * share / align) * align) for share in _FFN_SHARES}
    return [0, *sorted(x for x in aligned if x < neurons), neurons]


class _ModelTimes(BaseModel):
    """One model's times at one shape, beside the reference.

    Attributes:
        ratios: its time over the reference's, of each pair of blocks.
        reference_s: what calls of the reference took meanwhile, in seconds.
        disturbance: what kept the threads from the processors meanwhile.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ratios: tuple[float, ...]
    reference_s: tuple[float, ...]
    disturbance: Disturbance | None


class _ModelAtShapes(BaseModel):
    """One model's times at every shape, in their order: a finished part of the work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shapes: tuple[_ModelTimes, ...]


def measure_table(
    request: TableRequest,
    open_at: OpenAt,
    progress: Callable[[float], None] = lambda _: None,
    parts: FinishedParts | None = None,
) -> tuple[ShapeTable, ...]:
    """Measure the costs at every shape.

    Args:
        request: what.
        open_at: opens the model at some widths; two are open at a time.
        progress: called with the share that is done.
        parts: where finished models' times are kept and taken from.

    """
    parts = parts or FinishedParts()
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
    found: list[tuple[Widths, _ModelAtShapes]] = []
    with contextlib.ExitStack() as stack:
        opened: list[Runner] = []

        def middle_runner() -> Runner:  # only where there is something left to time beside it
            if not opened:
                opened.append(stack.enter_context(open_at(reference)))
            return opened[0]

        for number, widths in enumerate(models):
            measure = partial(_model_times, request, open_at, widths, middle_runner)
            found.append((widths, parts.once(f"model-{number:03d}", _ModelAtShapes, measure)))
            progress((number + 1) / len(models))
    return tuple(
        _shape_table(request, str(shape), [(widths, x.shapes[index]) for widths, x in found], middle, uneven)
        for index, shape in enumerate(request.shapes)
    )


def _model_times(
    request: TableRequest, open_at: OpenAt, widths: Widths, open_reference: Callable[[], Runner]
) -> _ModelAtShapes:
    """Time one model beside the reference at every shape."""
    reference = open_reference()
    with open_at(widths) as runner:
        timed = [
            timed_in_turn((runner, reference), request.spec, shape, TIMING, request.timer, request.threads)
            for shape in request.shapes
        ]
    return _ModelAtShapes(
        shapes=tuple(
            _ModelTimes(ratios=tuple(x.ratios.tolist()), reference_s=tuple(x.seconds[1]), disturbance=x.disturbance)
            for x in timed
        )
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
    found: Sequence[tuple[Widths, _ModelTimes]],
    middle: tuple[int, int],
    uneven: Sequence[tuple[tuple[int, int], ...]],
) -> ShapeTable:
    """Turn times relative to the reference into costs relative to the dense model."""
    sizes = request.dimensions
    ratios: dict[tuple[tuple[int, int], ...], list[float]] = {}
    for widths, timed in found:
        ratios.setdefault(tuple(widths), []).extend(timed.ratios)
    times = {widths: float(np.median(x)) for widths, x in ratios.items()}
    middle_ms = 1000 * float(np.median([x for _, timed in found for x in timed.reference_s]))
    itself = np.asarray(ratios[(middle,) * sizes.layers])  # the same model twice
    low, high = speedup_interval(itself)
    noise = NoiseCheck(ratio=float(np.median(itself)), low=low, high=high)
    disturbance = total(x.disturbance for _, x in found)
    dense = times[((sizes.heads, sizes.neurons),) * sizes.layers]

    def share(heads: int, neurons: int) -> float:
        return times[((heads, neurons),) * sizes.layers] / dense

    heads, neurons = head_counts(sizes.heads), ffn_widths(sizes.neurons, request.align)
    attention = cost_curve(heads, [share(h, middle[1]) for h in heads], sizes.layers)
    ffn = cost_curve(neurons, [share(middle[0], n) for n in neurons], sizes.layers)
    rest = share(*middle) - sizes.layers * float(attention.at(middle[0]) + ffn.at(middle[1]))
    fixed = max(LEAST_FIXED, rest)
    table = ShapeTable(
        shape=shape,
        dense_ms=middle_ms * dense,
        fixed=fixed,
        attention=attention,
        ffn=ffn,
        noise=noise,
        disturbance=disturbance,
    )
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
