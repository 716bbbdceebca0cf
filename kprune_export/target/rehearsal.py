"""Rehearsals: the dense model cut to widths that were found, timed in turn with the dense model."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from exporters.inputs import synthetic_inputs
from exporters.latency import TimingSettings, alternate
from exporters.latency_table.record import Widths
from exporters.runners.base import Runner
from exporters.spec import ModelSpec, Shape
from exporters.timers import Timer
from kprune_export.stages.base import ShareDone, part_of
from kprune_export.stages.export import model_spec
from kprune_export.target.models import OnnxModels
from kprune_export.target.record import LatencyTarget
from kprune_export.target.search import CORRECTIONS, Rehearse
from pruning.checkpoint.load import EncoderCheckpoint


@contextlib.contextmanager
def rehearsals(
    models: OnnxModels,
    target: LatencyTarget,
    dense: EncoderCheckpoint,
    timing: TimingSettings,
    progress: ShareDone = lambda _: None,
) -> Iterator[Rehearse]:
    """Open the dense model in the runtime that is timed, and yield what times others against it.

    Args:
        models: opens the dense model cut to any widths.
        target: the shapes, and what each weighs.
        dense: the checkpoint.
        timing: how long each shape is timed.
        progress: told how far the rounds are that there may be.

    """
    shape = dense.family.encoder_shape(dense.model.config)
    spec, rounds = model_spec(dense, {}), CORRECTIONS + 1
    done = 0

    def rehearse(widths: Widths) -> float:
        nonlocal done
        part: Callable[[float], None] = part_of(progress, min(done, rounds - 1), rounds)
        with models.open(widths) as candidate:
            shares = relative_times(candidate, whole, target, spec, models.timer, timing, part)
        done += 1
        return target.mean(shares)

    with models.open([(shape.heads, shape.neurons)] * shape.layers) as whole:
        yield rehearse


def relative_times(
    candidate: Runner,
    dense: Runner,
    target: LatencyTarget,
    spec: ModelSpec,
    timer: Timer,
    timing: TimingSettings,
    progress: ShareDone = lambda _: None,
) -> dict[str, float]:
    """Return the share of the dense model's time that another takes, at each of a target's shapes."""
    shares = {}
    for number, x in enumerate(target.shapes):
        feeds = synthetic_inputs(spec, Shape.parse(x.shape))
        for runner in (candidate, dense):
            timer.prepare(runner, feeds)
        timed = alternate((candidate, dense), feeds, timing, part_of(progress, number, len(target.shapes)), timer)
        shares[x.shape] = float(np.median(timed.ratios))
    return shares
