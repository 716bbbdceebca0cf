"""The dense model's own figures, in fp32 and int8, in few enough numbers to print beside a pruned model's."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from exporters.variant import REFERENCE, Variant
from kprune_export.bundle.variant_report import DenseProof, VariantProof
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


def dense_summaries(proofs: Sequence[VariantProof], dense: Sequence[DenseProof]) -> tuple[DenseSummary, ...]:
    """Return the dense model in fp32, in each runtime that was timed, and in the precisions that were measured."""
    in_fp32: dict[str, DenseSummary] = {}
    for proof in sorted(proofs, key=lambda proof: proof.latency is None):
        name = str(Variant(proof.variant.runtime if proof.latency else REFERENCE.runtime, REFERENCE.precision))
        if proof.fidelity is not None and name not in in_fp32:
            shapes = proof.latency.shapes if proof.latency else ()
            in_fp32[name] = DenseSummary(
                variant=name,
                onnx_bytes=proof.latency.subject.dense_bytes if proof.latency else None,
                fidelity=(),
                metrics=tuple(DenseMetric(name=x.name, value=x.dense) for x in proof.fidelity.metrics),
                latency=tuple(DenseShape(shape=x.shape, p50_ms=x.dense.p50_ms, speedup=1.0) for x in shapes),
            )
    return (*in_fp32.values(), *map(_of_dense, dense))


def _of_dense(proof: DenseProof) -> DenseSummary:
    metrics = proof.fidelity.metrics if proof.fidelity else ()
    shapes = proof.latency.shapes if proof.latency else ()
    return DenseSummary(
        variant=proof.variant,
        onnx_bytes=proof.size_bytes,
        fidelity=proof.fidelity.measures if proof.fidelity else (),
        metrics=tuple(DenseMetric(name=x.name, value=x.pruned) for x in metrics),
        latency=tuple(DenseShape(shape=x.shape, p50_ms=x.pruned.p50_ms, speedup=x.speedup) for x in shapes),
        problem=proof.problem,
    )
