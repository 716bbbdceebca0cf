"""Timing what the search finds, in turn with the dense model: the dense model cut to it, and the finished model."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict

from exporters.onnx.export import exported_graph
from exporters.runners.base import Runner
from exporters.spec import ModelSpec, Shape
from exporters.timing.latency import TimingSettings, timed_in_turn
from exporters.timing.latency_table.table import Widths
from exporters.timing.noise import Disturbance, total
from kprune_export.latency_target.search import confirmed
from kprune_export.latency_target.target_record import LatencyTarget
from kprune_export.latency_target.timed_models import OnnxModels
from kprune_export.model_export import model_spec
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.plan import PruningPlan
from pruning.serving import ServingModule


class TimedShare(BaseModel):
    """The share of the dense model's time that a model takes.

    Attributes:
        share: as it was measured.
        disturbance: what kept the threads from the processors meanwhile.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float
    disturbance: Disturbance | None


@dataclass(frozen=True)
class TrialTimings:
    """Trial timings against the dense model, which is open in the runtime that is timed.

    Attributes:
        models: opens the dense model cut to any widths, and finished models.
        whole: the dense model.
        target: the shapes, and what each weighs.
        spec: the inputs to make.
        timing: how long each shape is timed.

    """

    models: OnnxModels
    whole: Runner
    target: LatencyTarget
    spec: ModelSpec
    timing: TimingSettings

    def of_widths(self, widths: Widths) -> TimedShare:
        """Return the share of the dense model's time that the dense model cut to some widths takes."""
        with self.models.open(widths) as candidate:
            return self._timed(candidate)

    def of_finished(self, pruned: EncoderCheckpoint, plan: PruningPlan, asked_share: float | None) -> TimedShare:
        """Return the share of the dense model's time that a model takes that is pruned, and still in memory.

        Args:
            pruned: the model.
            plan: what was kept of it.
            asked_share: the share that it should take, from which a miss has to be confirmed; None to time it once.

        """
        pruned.model.requires_grad_(False)
        spec = replace(model_spec(pruned, {}), attention_layers=plan.attention_layers)
        with self.models.open_graph(exported_graph(ServingModule(pruned), spec), spec) as candidate:
            if asked_share is None:
                return self._timed(candidate)
            attempts: list[TimedShare] = []

            def time_once() -> float:
                attempts.append(self._timed(candidate))
                return attempts[-1].share

            share = confirmed(time_once, asked_share)
            return TimedShare(share=share, disturbance=total(x.disturbance for x in attempts))

    def _timed(self, candidate: Runner) -> TimedShare:
        shares: dict[str, float] = {}
        disturbance: Disturbance | None = None
        for x in self.target.shapes:
            shape = Shape.parse(x.shape)
            timed = timed_in_turn(
                (candidate, self.whole), self.spec, shape, self.timing, self.models.timer, self.models.threads
            )
            shares[x.shape] = float(np.median(timed.ratios))
            disturbance = total((disturbance, timed.disturbance))
        return TimedShare(share=self.target.mean(shares), disturbance=disturbance)


@contextlib.contextmanager
def trial_timings(
    models: OnnxModels, target: LatencyTarget, dense: EncoderCheckpoint, timing: TimingSettings
) -> Iterator[TrialTimings]:
    """Open the dense model in the runtime that is timed.

    Args:
        models: opens it, cut to any widths.
        target: the shapes, and what each weighs.
        dense: the checkpoint.
        timing: how long each shape is timed.

    """
    shape = dense.family.encoder_shape(dense.model.config)
    with models.open([(shape.heads, shape.neurons)] * shape.layers) as whole:
        yield TrialTimings(models, whole, target, model_spec(dense, {}), timing)
