"""The dense model's own figures, in fp32 and int8, in few enough numbers to print beside a pruned model's."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from exporters.variant import REFERENCE, Variant
from kprune_export.bundle.variant_report import DenseVariantReport, VariantReport
from kprune_export.evaluation.fidelity import FidelityMeasure


class DenseShape(BaseModel):
    """Latency of the dense model at one shape; its speedup is over itself in fp32."""

    model_config = ConfigDict(frozen=True)

    shape: str
    p50_ms: float
    speedup: float


class DenseMetric(BaseModel):
    """A metric of the dense model against labels."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float


class DenseSummary(BaseModel):
    """The dense model in one precision, which a pruned model has to be better than; what is not known is None or empty.

    Attributes:
        variant: the runtime and precision.
        onnx_bytes: the size of its ONNX file.
        fidelity: against the dense model in fp32; empty for fp32 itself.
        metrics: the task's own first.
        latency: at each shape.
        problem: why it could not be measured.

    """

    model_config = ConfigDict(frozen=True)

    variant: str
    onnx_bytes: int | None
    fidelity: tuple[FidelityMeasure, ...]
    metrics: tuple[DenseMetric, ...]
    latency: tuple[DenseShape, ...]
    problem: str | None = None


def dense_summaries(reports: Sequence[VariantReport], dense: Sequence[DenseVariantReport]) -> tuple[DenseSummary, ...]:
    """Return the dense model in fp32, in each runtime that was timed, and in the precisions that were measured."""
    in_fp32: dict[str, DenseSummary] = {}
    for report in sorted(reports, key=lambda report: report.latency is None):
        name = str(Variant(report.variant.runtime if report.latency else REFERENCE.runtime, REFERENCE.precision))
        if report.fidelity is not None and name not in in_fp32:
            shapes = report.latency.shapes if report.latency else ()
            in_fp32[name] = DenseSummary(
                variant=name,
                onnx_bytes=report.latency.subject.dense_bytes if report.latency else None,
                fidelity=(),
                metrics=tuple(DenseMetric(name=x.name, value=x.dense) for x in report.fidelity.metrics),
                latency=tuple(DenseShape(shape=x.shape, p50_ms=x.dense.p50_ms, speedup=1.0) for x in shapes),
            )
    return (*in_fp32.values(), *map(_of_dense, dense))


def _of_dense(report: DenseVariantReport) -> DenseSummary:
    metrics = report.fidelity.metrics if report.fidelity else ()
    shapes = report.latency.shapes if report.latency else ()
    return DenseSummary(
        variant=report.variant,
        onnx_bytes=report.size_bytes,
        fidelity=report.fidelity.measures if report.fidelity else (),
        metrics=tuple(DenseMetric(name=x.name, value=x.pruned) for x in metrics),
        latency=tuple(DenseShape(shape=x.shape, p50_ms=x.pruned.p50_ms, speedup=x.speedup) for x in shapes),
        problem=report.problem,
    )
