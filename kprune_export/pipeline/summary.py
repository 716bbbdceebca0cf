"""Run outcome in few enough figures to print, and the same as JSON."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from exporters.spec import Shape
from exporters.timing.latency import ShapeLatency, TimingSettings
from kprune_export.bundle.dense_summary import DenseSummary, dense_summaries
from kprune_export.bundle.headline import Headline, headline_of, mean_speedup
from kprune_export.bundle.variant_report import VariantReport
from kprune_export.bundle.verdict import FidelityWarning, GateResult, Verdict
from kprune_export.evaluation.fidelity import FidelityMeasure
from kprune_export.evaluation.metrics import TaskMetric
from kprune_export.pipeline.run import Outcome


class ShapeSummary(BaseModel):
    """Latency at one shape."""

    model_config = ConfigDict(frozen=True)

    shape: str
    dense_p50_ms: float
    pruned_p50_ms: float
    speedup: float
    speedup_low: float
    speedup_high: float
    noise_reason: str | None
    """Why these figures cannot be relied on, in words; None where nothing speaks against them."""


class LayerSummary(BaseModel):
    """How much one layer keeps."""

    model_config = ConfigDict(frozen=True)

    heads: int
    neurons: int


class VariantSummary(BaseModel):
    """One variant; what was not measured is None or empty.

    Attributes:
        variant: its name.
        onnx: the ONNX file's name.
        onnx_bytes: its size.
        dense_bytes: the size of the dense model's fp32 file.
        engine_bytes: the size of the TensorRT engine.
        parity_passed: whether it agrees with torch.
        worst_parity_error: the largest difference.
        fidelity: against the dense model in fp32.
        baseline_fidelity: against the dense model in the variant's precision.
        metric: the task's own metric.
        further_metrics: more of them.
        latency: against the dense model in fp32.
        baseline_latency: against the dense model in the variant's precision.
        trtexec: for an engine, the commands that measure it with NVIDIA's own tool, to be run in the bundle.

    """

    model_config = ConfigDict(frozen=True)

    variant: str
    onnx: str
    onnx_bytes: int
    dense_bytes: int | None
    engine_bytes: int | None
    parity_passed: bool | None
    worst_parity_error: float | None
    fidelity: tuple[FidelityMeasure, ...]
    baseline_fidelity: tuple[FidelityMeasure, ...]
    metric: TaskMetric | None
    further_metrics: tuple[TaskMetric, ...]
    latency: tuple[ShapeSummary, ...]
    baseline_latency: tuple[ShapeSummary, ...]
    trtexec: tuple[str, ...]


class Summary(BaseModel):
    """The outcome of a run; what was not part of it is None or empty."""

    model_config = ConfigDict(frozen=True)

    output: str | None
    command: str
    verdict: Verdict | None
    verdict_in_words: str | None
    gates: tuple[GateResult, ...]
    warnings: tuple[FidelityWarning, ...] = ()
    task: str
    flops_reduction: float | None
    layers: tuple[LayerSummary, ...]
    variants: tuple[VariantSummary, ...]
    headline: Headline | None = None
    """The figures of the fastest variant that passes every gate; where none does, of the fastest that was timed."""
    advice: tuple[str, ...] = ()
    """Where a gate failed, which setting to change and in which direction, in sentences."""
    recovery: str | None = None
    """What training on the dense model's outputs did, in a sentence."""
    noise: tuple[str, ...] = ()
    """Which times cannot be relied on and why, in sentences."""
    dense: tuple[DenseSummary, ...] = ()
    processor_changes: tuple[str, ...] = ()
    """What changed with the processor's instruction sets where a bundle was validated, a sentence for each variant."""


def summarise(outcome: Outcome) -> Summary:
    """Return the summary of a finished run."""
    plan = outcome.plan
    return Summary(
        output=str(outcome.output),
        command=outcome.manifest.command,
        verdict=outcome.manifest.verdict,
        verdict_in_words=outcome.manifest.verdict_in_words,
        gates=outcome.manifest.gates,
        warnings=outcome.manifest.warnings,
        task=outcome.manifest.task,
        flops_reduction=plan.flops_reduction if plan else None,
        layers=tuple(LayerSummary(heads=len(x.heads), neurons=len(x.neurons)) for x in plan.layers) if plan else (),
        variants=tuple(_of_variant(report, outcome.shapes, outcome.timing) for report in outcome.reports),
        headline=_headline(outcome),
        advice=outcome.advice,
        recovery=str(outcome.recovery) if outcome.recovery else None,
        noise=outcome.noise,
        processor_changes=outcome.processor_changes,
        dense=dense_summaries(outcome.reports, outcome.dense_reports),
    )


def _headline(outcome: Outcome) -> Headline | None:
    timed = [report for report in outcome.reports if report.latency]
    shown = outcome.best or max(timed, key=mean_speedup, default=None)
    return headline_of(shown) if shown else None


def _of_variant(report: VariantReport, shapes: Sequence[Shape], timing: TimingSettings) -> VariantSummary:
    parity, fidelity, latency = report.parity, report.fidelity, report.latency
    return VariantSummary(
        variant=str(report.variant),
        onnx=report.graph.file.name,
        onnx_bytes=report.graph.file.size_bytes,
        dense_bytes=latency.subject.dense_bytes if latency else None,
        engine_bytes=report.engine.plan_bytes if report.engine else None,
        parity_passed=parity.passed if parity else None,
        worst_parity_error=parity.worst.max_abs_error if parity else None,
        fidelity=fidelity.measures if fidelity else (),
        baseline_fidelity=fidelity.baseline_measures if fidelity else (),
        metric=fidelity.metric if fidelity else None,
        further_metrics=fidelity.further_metrics if fidelity else (),
        latency=tuple(_of_shape(shape) for shape in (latency.shapes if latency else ())),
        baseline_latency=tuple(_of_shape(shape) for shape in (latency.baseline_shapes if latency else ())),
        trtexec=report.trtexec(shapes, timing),
    )


def _of_shape(shape: ShapeLatency) -> ShapeSummary:
    return ShapeSummary(
        shape=shape.shape,
        dense_p50_ms=shape.dense.p50_ms,
        pruned_p50_ms=shape.pruned.p50_ms,
        speedup=shape.speedup,
        speedup_low=shape.speedup_low,
        speedup_high=shape.speedup_high,
        noise_reason=shape.noise_reason,
    )
