"""What a run came to, in few enough figures to print, and the same for machines."""

from pydantic import BaseModel, ConfigDict

from exporters.fidelity import FidelityMeasure
from exporters.metrics import TaskMetric
from kprune_export.gates import GateResult, Verdict
from kprune_export.pipeline import Outcome


class ShapeSummary(BaseModel):
    """Latency at one shape."""

    model_config = ConfigDict(frozen=True)

    shape: str
    dense_p50_ms: float
    pruned_p50_ms: float
    speedup: float
    speedup_low: float
    speedup_high: float


class LayerSummary(BaseModel):
    """How much one layer keeps."""

    model_config = ConfigDict(frozen=True)

    heads: int
    neurons: int


class Summary(BaseModel):
    """The outcome of a run; what was not part of it is None or empty."""

    model_config = ConfigDict(frozen=True)

    output: str | None
    command: str
    verdict: Verdict | None
    verdict_in_words: str | None
    gates: tuple[GateResult, ...]
    task: str
    flops_reduction: float | None
    layers: tuple[LayerSummary, ...]
    dense_bytes: int | None
    pruned_bytes: int | None
    parity_passed: bool | None
    worst_parity_error: float | None
    fidelity: tuple[FidelityMeasure, ...]
    metric: TaskMetric | None
    further_metrics: tuple[TaskMetric, ...]
    latency: tuple[ShapeSummary, ...]


def summarise(outcome: Outcome) -> Summary:
    """Return the summary of a finished run."""
    plan, parity, fidelity, latency = outcome.plan, outcome.parity, outcome.fidelity, outcome.latency
    return Summary(
        output=str(outcome.output),
        command=outcome.manifest.command,
        verdict=outcome.manifest.verdict,
        verdict_in_words=outcome.manifest.verdict_in_words,
        gates=outcome.manifest.gates,
        task=outcome.manifest.task,
        flops_reduction=plan.flops_reduction if plan else None,
        layers=tuple(LayerSummary(heads=len(x.heads), neurons=len(x.neurons)) for x in plan.layers) if plan else (),
        dense_bytes=latency.subject.dense_bytes if latency else None,
        pruned_bytes=latency.subject.pruned_bytes if latency else None,
        parity_passed=parity.passed if parity else None,
        worst_parity_error=parity.worst.max_abs_error if parity else None,
        fidelity=fidelity.measures if fidelity else (),
        metric=fidelity.metric if fidelity else None,
        further_metrics=fidelity.further_metrics if fidelity else (),
        latency=tuple(
            ShapeSummary(
                shape=shape.shape,
                dense_p50_ms=shape.dense.p50_ms,
                pruned_p50_ms=shape.pruned.p50_ms,
                speedup=shape.speedup,
                speedup_low=shape.speedup_low,
                speedup_high=shape.speedup_high,
            )
            for shape in (latency.shapes if latency else ())
        ),
    )
