"""Outcome of a latency target: asked, predicted, trial-timed and measured speedups."""

from dataclasses import dataclass

from exporters.timing.latency import LatencyReport
from kprune_export.latency_target.target_record import TargetRecord


@dataclass(frozen=True)
class TargetOutcome:
    """A target beside what was measured of the finished model.

    Attributes:
        record: the target, and how its widths were found.
        measured_share: of the dense model's time, in the same runtime and precision; None where nothing was timed.
        measured_ms: the finished model's median time at the target's shape; None with several shapes.

    """

    record: TargetRecord
    measured_share: float | None
    measured_ms: float | None

    @property
    def predicted_speedup(self) -> float:
        """What the table said of the widths that were taken."""
        return 1 / self.record.taken.predicted_share

    @property
    def trial_speedup(self) -> float | None:
        """What was measured of the dense model cut to these widths; None where it was not."""
        share = self.record.taken.measured_share
        return None if share is None else 1 / share

    @property
    def measured_speedup(self) -> float | None:
        """What was measured of the finished model; None where nothing was timed."""
        return None if self.measured_share is None else 1 / self.measured_share

    @property
    def error(self) -> float | None:
        """How much faster than asked the finished model is, relatively; below 0 it is slower."""
        return None if self.measured_speedup is None else self.measured_speedup / self.record.asked_speedup - 1


def target_outcome(record: TargetRecord, latency: LatencyReport | None) -> TargetOutcome:
    """Put a target beside the latency report of its variant.

    Args:
        record: the target.
        latency: the report; speedups are taken over the dense model in the variant's own precision.

    """
    if latency is None:
        return TargetOutcome(record, None, None)
    shapes = {shape.shape: shape for shape in latency.baseline_shapes or latency.shapes}
    wanted = record.target.shapes
    share = record.target.mean({x.shape: 1 / shapes[x.shape].speedup for x in wanted})
    return TargetOutcome(record, share, shapes[wanted[0].shape].pruned.p50_ms if len(wanted) == 1 else None)
