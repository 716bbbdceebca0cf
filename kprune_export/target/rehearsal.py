"""Timing what the search finds, in turn with the dense model: the dense model cut to it, and the finished model."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from exporters.latency import TimingSettings, timed_in_turn
from exporters.latency_table.record import Widths
from exporters.onnx_export import exported_graph
from exporters.runners.base import Runner
from exporters.spec import ModelSpec, Shape
from kprune_export.stages.export import model_spec
from kprune_export.target.models import OnnxModels
from kprune_export.target.record import LatencyTarget
from kprune_export.target.search import confirmed
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.plan import PruningPlan
from pruning.serving import ServingModule


@dataclass(frozen=True)
class Rehearsals:
    """Where rehearsals are held: the dense model, open in the runtime that is timed.

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

    def of_widths(self, widths: Widths) -> float:
        """Return the share of the dense model's time that the dense model cut to some widths takes."""
        with self.models.open(widths) as candidate:
            return self._share(candidate)

    def of_finished(self, pruned: EncoderCheckpoint, plan: PruningPlan, asked_share: float | None) -> float:
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
                return self._share(candidate)
            return confirmed(lambda: self._share(candidate), asked_share)

    def _share(self, candidate: Runner) -> float:
        shares: dict[str, float] = {}
        for x in self.target.shapes:
            shape = Shape.parse(x.shape)
            timed = timed_in_turn((candidate, self.whole), self.spec, shape, self.timing, self.models.timer)
            shares[x.shape] = float(np.median(timed.ratios))
        return self.target.mean(shares)


@contextlib.contextmanager
def rehearsals(
    models: OnnxModels, target: LatencyTarget, dense: EncoderCheckpoint, timing: TimingSettings
) -> Iterator[Rehearsals]:
    """Open the dense model in the runtime that is timed.

    Args:
        models: opens it, cut to any widths.
        target: the shapes, and what each weighs.
        dense: the checkpoint.
        timing: how long each shape is timed.

    """
    shape = dense.family.encoder_shape(dense.model.config)
    with models.open([(shape.heads, shape.neurons)] * shape.layers) as whole:
        yield Rehearsals(models, whole, target, model_spec(dense, {}), timing)
