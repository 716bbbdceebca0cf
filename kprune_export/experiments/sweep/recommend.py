"""Recommendation of a trial to deploy: the fastest that meets the fidelity constraints."""

from exporters.documents import Record
from exporters.errors import ShapeError
from exporters.rounding import beside, limit_text
from kprune_export.errors import NoTrialError
from kprune_export.experiments.sweep.sweep_record import SweepRecord, Trial, TrialFigures


class Wish(Record):
    """What is asked of a trial.

    Attributes:
        min_fidelity: the least that the task's headline of fidelity may be.
        shape: where latency counts; None for the sweep's first shape.
        max_size_mib: the most that the deployed file may take; None for any.

    """

    min_fidelity: float
    shape: str | None = None
    max_size_mib: float | None = None


class Recommendation(Record):
    """The trial that is the fastest of those that are as was asked, and the one after it.

    Attributes:
        wish: what was asked, with its shape.
        best: the fastest.
        second: the next; None where only one is as was asked.

    """

    wish: Wish
    best: Trial
    second: Trial | None


def recommend(record: SweepRecord, wish: Wish) -> Recommendation:
    """Return the trial with the smallest median latency among those that keep to a wish, and to the sweep's gates.

    Of equally fast ones the more faithful is taken.

    Raises:
        ShapeError: the sweep has not measured the shape.
        NoTrialError: no trial is as was asked.

    """
    shape = wish.shape or record.shapes[0]
    if shape not in record.shapes:
        raise ShapeError(f"The sweep has no shape {shape}, only {', '.join(record.shapes)}.")
    kept = [(trial, x) for trial, x in record.made if not x.broken and not x.inconclusive and _fits(x, wish)]
    faithful = [(trial, x) for trial, x in kept if x.fidelity.value >= wish.min_fidelity]
    if not faithful:
        raise NoTrialError(_nothing(record, kept, wish))
    ordered = sorted(faithful, key=lambda pair: (pair[1].at(shape).p50_ms, -pair[1].fidelity.value))
    return Recommendation(
        wish=wish.model_copy(update={"shape": shape}),
        best=ordered[0][0],
        second=ordered[1][0] if len(ordered) > 1 else None,
    )


def in_words(trial: Trial, found: Recommendation) -> str:
    """Return a trial's figures in a sentence."""
    assert trial.figures is not None and found.wish.shape is not None  # noqa: S101, PT018 - recommended trials are made
    x, at = trial.figures, trial.figures.at(found.wish.shape)
    noisy = f", noisy: {at.noise_reason or 'the dense model was not as fast as itself'}" if at.noise else ""
    metric = f", {x.metric.name.replace('_', ' ')} {x.metric.pruned:.4f}" if x.metric else ""
    return (
        f"{trial.name}: {at.p50_ms:.4g} ms at {at.shape} ({at.speedup:.2f} times as fast as dense fp32{noisy}), "
        f"{x.fidelity.name.replace('_', ' ')} {x.fidelity.value:.4f}{metric}, {x.size_bytes / 2**20:.3g} MiB."
    )


def _fits(figures: TrialFigures, wish: Wish) -> bool:
    return wish.max_size_mib is None or figures.size_bytes <= wish.max_size_mib * 2**20


def _nothing(record: SweepRecord, kept: list[tuple[Trial, TrialFigures]], wish: Wish) -> str:
    """Say why there is none, by the best that there is."""
    if not record.made:
        return "Every trial of the sweep failed, so that none can be recommended: sweep.md says why."
    if not kept:
        smallest = min(x.size_bytes for _, x in record.made) / 2**20
        size = f" and is within {wish.max_size_mib:g} MiB" if wish.max_size_mib is not None else ""
        return f"No trial keeps the sweep's gates{size}: the smallest file has {smallest:.3g} MiB."
    best, figures = max(kept, key=lambda pair: pair[1].fidelity.value)
    size = f" within {wish.max_size_mib:g} MiB" if wish.max_size_mib is not None else ""
    limit, value = limit_text(wish.min_fidelity), beside(figures.fidelity.value, wish.min_fidelity)
    return (
        f"No trial{size} has a fidelity ({figures.fidelity.name}) of {limit}: the best is {best.name} with {value}. "
        "Ask for less, or sweep smaller speedups."
    )
