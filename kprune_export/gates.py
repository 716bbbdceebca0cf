"""Gates: the limits that a release has to keep, and whether it keeps them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from exporters.fidelity import FidelityReport
from exporters.latency import LatencyReport
from kprune_export.recipe import Recipe


class GateResult(BaseModel):
    """One gate: what was asked, what was measured, and whether it held."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    comparison: Literal["≥", "≤"]
    limit: float
    value: float
    held: bool
    detail: str


def judge(recipe: Recipe, fidelity: FidelityReport, latency: LatencyReport) -> tuple[GateResult, ...]:
    """Judge every gate that the recipe sets.

    ``min_speedup`` is about the shape that gained least; ``min_agreement`` about the task's headline of
    fidelity (agreement for classifiers, mean cosine for embedders, R² for regression); ``min_metric``
    about the pruned model's own metric; ``max_size_mib`` about the ONNX file.
    """
    slowest = latency.smallest_speedup
    size_mib = latency.subject.pruned_bytes / 2**20
    headline = fidelity.headline
    results = []
    if recipe.min_speedup is not None:
        results.append(_at_least("min_speedup", recipe.min_speedup, slowest.speedup, f"at {slowest.shape}"))
    if recipe.min_agreement is not None:
        results.append(_at_least("min_agreement", recipe.min_agreement, headline.value, headline.name))
    if recipe.min_metric is not None and fidelity.metric is not None:
        results.append(_at_least("min_metric", recipe.min_metric, fidelity.metric.pruned, fidelity.metric.name))
    if recipe.max_size_mib is not None:
        results.append(
            GateResult(
                name="max_size_mib",
                comparison="≤",
                limit=recipe.max_size_mib,
                value=size_mib,
                held=size_mib <= recipe.max_size_mib,
                detail="onnx/model.onnx",
            )
        )
    return tuple(results)


def _at_least(name: str, limit: float, value: float, detail: str) -> GateResult:
    return GateResult(name=name, comparison="≥", limit=limit, value=value, held=value >= limit, detail=detail)
