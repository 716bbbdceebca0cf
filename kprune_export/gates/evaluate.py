"""Gates: the limits that a release has to keep, and whether it keeps them."""

from collections.abc import Sequence

from kprune_export.bundle.headline import mean_speedup
from kprune_export.bundle.variant_report import VariantReport
from kprune_export.bundle.verdict import GateResult
from kprune_export.errors import GateError
from kprune_export.latency_target.outcome import target_outcome
from kprune_export.latency_target.target_record import MISS, TargetRecord
from kprune_export.recipe.gates import RETRIEVAL_GATES
from kprune_export.recipe.recipe import Recipe


def evaluate_gates(
    recipe: Recipe, reports: Sequence[VariantReport], target: TargetRecord | None = None, caveat: str = ""
) -> tuple[GateResult, ...]:
    """Evaluate every gate that the recipe sets, by the variant that is worst at it.

    ``min_speedup`` is about the shape that gained least over the dense model in fp32, in the variant's runtime;
    ``min_agreement`` about the task's headline of fidelity (agreement for classifiers, mean cosine for embedders,
    R² for regression, rank agreement for rerankers); ``min_metric`` about the pruned model's own metric; the gates of
    `RETRIEVAL_GATES` about what an embedder finds; ``max_size_mib`` about the ONNX file. Where the dense model was not
    as fast as itself, or the timed threads had to wait for processors, the machine is too noisy to evaluate a
    ``min_speedup`` that is no further from what was measured than that may have moved it. A latency target is a gate
    of its own: it may be missed by `MISS`, and is evaluated on the deployment machine.

    Args:
        recipe: which gates are set.
        reports: what was measured of each variant.
        target: the latency target, where it is a gate.
        caveat: what limits any statement about fidelity on the held-out texts.

    Raises:
        GateError: a gate is set, and what it is about was not measured.


    """
    gates = (
        _inconclusive(_target(target, reports), reports) if target else None,
        _inconclusive(_lowest("min_speedup", recipe.min_speedup, [_speedup(x) for x in reports]), reports),
        _limited(_lowest("min_agreement", recipe.min_agreement, [_agreement(x) for x in reports]), caveat),
        _limited(_by_labels(_lowest("min_metric", recipe.min_metric, [_metric(x) for x in reports]), reports), caveat),
        *(
            _limited(_lowest(name, getattr(recipe, name), [_figure(x, figure) for x in reports]), caveat)
            for name, figure in RETRIEVAL_GATES.items()
        ),
        _largest("max_size_mib", recipe.max_size_mib, reports),
    )
    return tuple(gate for gate in gates if gate is not None)


def best_variant(
    recipe: Recipe, reports: Sequence[VariantReport], target: TargetRecord | None = None, caveat: str = ""
) -> VariantReport | None:
    """Return the fastest of the variants that pass every gate by themselves; None where none does.

    Arguments and exceptions are those of `evaluate_gates`.
    """
    passing = [x for x in reports if all(gate.passed for gate in evaluate_gates(recipe, [x], target, caveat))]
    return max(passing, key=mean_speedup, default=None)


def _limited(gate: GateResult | None, caveat: str) -> GateResult | None:
    return gate and gate.model_copy(update={"caveat": caveat})


def _by_labels(gate: GateResult | None, reports: Sequence[VariantReport]) -> GateResult | None:
    """Return a gate about the metric, inconclusive where the labels may be in another order than the model's."""
    metrics = [report.fidelity.metric for report in reports if report.fidelity and report.fidelity.metric]
    doubtful = next((x for x in metrics if x.order_doubtful), None)
    if gate is None or doubtful is None:
        return gate
    return gate.model_copy(update={"passed": False, "inconclusive": True, "detail": f"{gate.detail}; {doubtful.note}"})


Candidate = tuple[float, str]
"""A variant's value at a gate, and what it is about."""


def _speedup(report: VariantReport) -> Candidate | None:
    if report.latency is None:
        return None
    slowest = report.latency.smallest_speedup
    return slowest.speedup, f"at {slowest.shape}, {report.variant}"


def _target(target: TargetRecord, reports: Sequence[VariantReport]) -> GateResult | None:
    """Return whether a latency target was met; None where nothing was timed."""
    outcome = target_outcome(target, reports[0].latency if reports else None)
    if outcome.measured_speedup is None:
        return None
    detail = f"{target.target}, against dense in the same precision; {MISS:.0%} off is accepted"
    if target.target.latency_ms is not None and outcome.measured_ms is not None:
        limit, value = target.target.latency_ms * (1 + MISS), outcome.measured_ms
        passed = value <= limit
        return GateResult(
            name="target_latency_ms", comparison="≤", limit=limit, value=value, passed=passed, detail=detail
        )
    limit, value = target.asked_speedup * (1 - MISS), outcome.measured_speedup
    return GateResult(
        name="target_speedup", comparison="≥", limit=limit, value=value, passed=value >= limit, detail=detail
    )


def _inconclusive(gate: GateResult | None, reports: Sequence[VariantReport]) -> GateResult | None:
    """Return a gate about speed, inconclusive if the machine's noise could turn it."""
    timed = [report.latency for report in reports if report.latency]
    noisy = [x for report in timed for x in (*report.shapes, *report.baseline_shapes) if x.noise_reason]
    if gate is None or not noisy:
        return gate
    worst = max(noisy, key=lambda x: x.noise_factor)
    reason = f"at {worst.shape} {worst.noise_reason}"
    turns = gate.value / worst.noise_factor < gate.limit <= gate.value * worst.noise_factor
    only_slower = all(x.noise is None or x.noise.quiet for x in noisy)  # waiting only makes calls slower
    if not turns or (gate.comparison == "≤" and gate.passed and only_slower):
        return gate.model_copy(update={"detail": f"{gate.detail}; noisy, but not by so much: {reason}"})
    detail = f"{gate.detail}; the machine is too noisy: {reason}"
    return gate.model_copy(update={"passed": False, "inconclusive": True, "detail": detail})


def _agreement(report: VariantReport) -> Candidate | None:
    if report.fidelity is None:
        return None
    return report.fidelity.headline.value, f"{report.fidelity.headline.name}, {report.variant}"


def _metric(report: VariantReport) -> Candidate | None:
    if report.fidelity is None or report.fidelity.metric is None:
        return None
    return report.fidelity.metric.pruned, f"{report.fidelity.metric.name}, {report.variant}"


def _figure(report: VariantReport, name: str) -> Candidate | None:
    value = None if report.fidelity is None else report.fidelity.figure(name)
    return None if value is None else (value, f"{name}, {report.variant}")


def _lowest(name: str, limit: float | None, candidates: Sequence[Candidate | None]) -> GateResult | None:
    if limit is None:
        return None
    measured = [x for x in candidates if x is not None]
    if len(measured) < len(candidates) or not measured:
        raise GateError(f"The gate {name} is set, but what it is about was not measured of every variant.")
    value, detail = min(measured)
    return GateResult(name=name, comparison="≥", limit=limit, value=value, passed=value >= limit, detail=detail)


def _largest(name: str, limit: float | None, reports: Sequence[VariantReport]) -> GateResult | None:
    if limit is None:
        return None
    if not reports:
        raise GateError(f"The gate {name} is set, but nothing was exported that it could be about.")
    size_mib, file = max((x.graph.file.size_bytes / 2**20, x.graph.file.name) for x in reports)
    return GateResult(name=name, comparison="≤", limit=limit, value=size_mib, passed=size_mib <= limit, detail=file)
