"""Gates: the limits that a release has to keep, and whether it keeps them."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from exporters.fidelity import FidelityReport
from exporters.latency import LatencyReport
from kprune_export.recipe import Recipe

Verdict = Literal["passed", "failed", "no gates"]


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
    fidelity (agreement for classifiers, mean cosine for embedders, R² for regression,
    rank agreement for rerankers); ``min_metric``
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


def verdict_of(gates: Sequence[GateResult], *, exported: bool) -> Verdict | None:
    """Return what a run came to; None where it exported nothing, so that nothing was proved or judged.

    Parity holds wherever this is asked of an export: a run whose parity fails ends there.
    """
    if not exported:
        return None
    if not gates:
        return "no gates"
    return "passed" if all(gate.held for gate in gates) else "failed"


def in_words(verdict: Verdict | None, gates: Sequence[GateResult]) -> str | None:
    """Return a verdict as the terminal, the JSON and the report all word it; None where there is none."""
    if verdict is None:
        return None
    if verdict == "no gates":
        return "parity holds; no gates were set"
    broken = sum(not gate.held for gate in gates)
    if broken:
        return f"failed: {broken} of {len(gates)} gates did not hold"
    return "passed: parity holds, and every gate"


def _at_least(name: str, limit: float, value: float, detail: str) -> GateResult:
    return GateResult(name=name, comparison="≥", limit=limit, value=value, held=value >= limit, detail=detail)
