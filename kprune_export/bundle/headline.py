"""Headline of a run: the figures of one variant that decide whether to deploy it."""

import math

from pydantic import BaseModel, ConfigDict

from kprune_export.bundle.variant_report import VariantReport

_SHARES = ("agreement", "accuracy", "exact_match", "f1")
"""Names, or ends of names, of figures that are shown as percentages."""


class Headline(BaseModel):
    """Speed, fidelity and size of a variant beside the dense model in fp32; None where something was not measured.

    Attributes:
        variant: the runtime and precision.
        shape: the largest shape that was timed.
        speedup: over the dense model in fp32, in the same runtime, at that shape.
        p50_ms: the median time of a call there.
        fidelity: the name of the task's headline of fidelity.
        fidelity_value: its value.
        metric: the name of the task's own metric.
        metric_pruned: the pruned model's.
        metric_dense: the dense model's.
        size_bytes: the size of what is deployed: the engine, or the ONNX file.
        size_share: that over the dense model's ONNX file in fp32.

    """

    model_config = ConfigDict(frozen=True)

    variant: str
    shape: str | None
    speedup: float | None
    p50_ms: float | None
    fidelity: str | None
    fidelity_value: float | None
    metric: str | None
    metric_pruned: float | None
    metric_dense: float | None
    size_bytes: int
    size_share: float | None

    @property
    def fidelity_shown(self) -> str:
        """Return the headline of fidelity as people read it."""
        return "" if self.fidelity is None or self.fidelity_value is None else shown(self.fidelity, self.fidelity_value)

    @property
    def metric_shown(self) -> str:
        """Return the pruned model's metric as people read it."""
        return "" if self.metric is None or self.metric_pruned is None else shown(self.metric, self.metric_pruned)

    @property
    def metric_dense_shown(self) -> str:
        """Return the dense model's metric as people read it."""
        return "" if self.metric is None or self.metric_dense is None else shown(self.metric, self.metric_dense)

    @property
    def figures(self) -> tuple[str, ...]:
        """Speed, fidelity, the task's metric and size, each in a few words."""
        parts = []
        if self.speedup is not None:
            parts.append(f"{self.speedup:.2f} times as fast as dense fp32 at {self.shape} ({self.p50_ms:.2f} ms)")
        if self.fidelity is not None:
            parts.append(f"{_named(self.fidelity)} {self.fidelity_shown}")
        if self.metric is not None:
            parts.append(f"{_named(self.metric)} {self.metric_shown} (dense {self.metric_dense_shown})")
        size = f"{self.size_bytes / 2**20:.1f} MiB"
        parts.append(f"{size}, {self.size_share:.0%} of dense fp32" if self.size_share is not None else size)
        return tuple(parts)

    def __str__(self) -> str:
        """Return one sentence without its full stop."""
        return f"{self.variant}: {'; '.join(self.figures)}"


def headline_of(report: VariantReport) -> Headline:
    """Return the headline of a variant."""
    fidelity, latency = report.fidelity, report.latency
    shape = latency.shapes[-1] if latency else None
    size = report.engine.plan_bytes if report.engine else report.graph.file.size_bytes
    metric = fidelity.metric if fidelity else None
    return Headline(
        variant=str(report.variant),
        shape=shape.shape if shape else None,
        speedup=shape.speedup if shape else None,
        p50_ms=shape.pruned.p50_ms if shape else None,
        fidelity=fidelity.headline.name if fidelity else None,
        fidelity_value=fidelity.headline.value if fidelity else None,
        metric=metric.name if metric else None,
        metric_pruned=metric.pruned if metric else None,
        metric_dense=metric.dense if metric else None,
        size_bytes=size,
        size_share=size / latency.subject.dense_bytes if latency else None,
    )


def mean_speedup(report: VariantReport) -> float:
    """Return the geometric mean of a variant's speedups over its shapes; 0 where it was not timed."""
    if report.latency is None:
        return 0.0
    return math.exp(sum(math.log(x.speedup) for x in report.latency.shapes) / len(report.latency.shapes))


def shown(name: str, value: float) -> str:
    """Return a figure as people read it: shares in percent, others with four digits."""
    return f"{100 * value:.1f} %" if name.endswith(_SHARES) else f"{value:.4f}"


def _named(name: str) -> str:
    return name.replace("_", " ")
