"""Gates: the limits that a release has to keep, and whether it keeps them."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from exporters.rounding import beside, limit_text
from kprune_export.errors import GateError
from kprune_export.fidelity_limits import FidelityWarning
from kprune_export.proof import VariantProof
from kprune_export.recipe import RETRIEVAL_GATES, Recipe
from kprune_export.target.outcome import target_outcome
from kprune_export.target.record import MISS, TargetRecord

Verdict = Literal["passed", "failed", "undecided", "not gated"]
Tone = Literal["good", "neutral", "caution", "bad"]
"""How a verdict is coloured."""
_QUALITY = ("min_agreement", "min_metric", *RETRIEVAL_GATES)
"""The gates about what a model answers; the others are about its speed and size."""


class GateResult(BaseModel):
    """One gate: what was asked, what was measured, and whether it held.

    Attributes:
        undecided: whether what was measured does not tell, on a noisy machine or by labels in an unknown order;
            `held` is then false, without the gate being broken.
        caveat: what limits the statement, as a clause; empty where nothing does.

    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    comparison: Literal["≥", "≤"]
    limit: float
    value: float
    held: bool
    detail: str
    undecided: bool = False
    caveat: str = ""

    @model_validator(mode="after")
    def _held_by_its_value(self) -> Self:
        kept = self.value >= self.limit if self.comparison == "≥" else self.value <= self.limit
        if self.held != (kept and not self.undecided):
            raise ValueError(
                f"the gate {self.name} is recorded as {'passed' if self.held else 'not passed'}, but {self.value:g} "
                f"{self.comparison} {self.limit:g} is {'true' if kept else 'false'}"
            )
        return self

    @property
    def about(self) -> str:
        """What it is about, with what limits it."""
        return "; ".join(part for part in (self.detail, self.caveat) if part)

    @property
    def broken(self) -> bool:
        """Whether it is known not to hold."""
        return not self.held and not self.undecided

    @property
    def about_quality(self) -> bool:
        """Whether it is about what the model answers, and not about its speed or size."""
        return self.name in _QUALITY

    @property
    def asked(self) -> str:
        """What was asked for, as every table shows it: ``≥ 0.95``."""
        return f"{self.comparison} {limit_text(self.limit)}"

    @property
    def measured(self) -> str:
        """What was measured, with as many digits as keep the comparison true."""
        return beside(self.value, self.limit)


def judge(
    recipe: Recipe, proofs: Sequence[VariantProof], target: TargetRecord | None = None, caveat: str = ""
) -> tuple[GateResult, ...]:
    """Judge every gate that the recipe sets, by the variant that is worst at it.

    ``min_speedup`` is about the shape that gained least over the dense model in fp32, in the variant's runtime;
    ``min_agreement`` about the task's headline of fidelity (agreement for classifiers, mean cosine for embedders,
    R² for regression, rank agreement for rerankers); ``min_metric`` about the pruned model's own metric; the gates of
    `RETRIEVAL_GATES` about what an embedder finds; ``max_size_mib`` about the ONNX file. Where the dense model was not
    as fast as itself, or the timed threads had to wait for processors, the machine is too noisy to judge a
    ``min_speedup`` that is no further from what was measured than that may have moved it. A latency target is a gate
    of its own: it may be missed by `MISS`, and is judged where the machine is the one to be fast on.

    Args:
        recipe: which gates are set.
        proofs: what was measured of each variant.
        target: the latency target, where it is a gate.
        caveat: what limits any statement about fidelity on the held-out texts.

    Raises:
        GateError: a gate is set, and what it is about was not measured.


    """
    gates = (
        _undecided(_target(target, proofs), proofs) if target else None,
        _undecided(_lowest("min_speedup", recipe.min_speedup, [_speedup(x) for x in proofs]), proofs),
        _limited(_lowest("min_agreement", recipe.min_agreement, [_agreement(x) for x in proofs]), caveat),
        _limited(_by_labels(_lowest("min_metric", recipe.min_metric, [_metric(x) for x in proofs]), proofs), caveat),
        *(
            _limited(_lowest(name, getattr(recipe, name), [_figure(x, figure) for x in proofs]), caveat)
            for name, figure in RETRIEVAL_GATES.items()
        ),
        _largest("max_size_mib", recipe.max_size_mib, proofs),
    )
    return tuple(gate for gate in gates if gate is not None)


def _limited(gate: GateResult | None, caveat: str) -> GateResult | None:
    return gate and gate.model_copy(update={"caveat": caveat})


def _by_labels(gate: GateResult | None, proofs: Sequence[VariantProof]) -> GateResult | None:
    """Return a gate about the metric, undecided where the labels may be in another order than the model's."""
    metrics = [proof.fidelity.metric for proof in proofs if proof.fidelity and proof.fidelity.metric]
    doubtful = next((x for x in metrics if x.order_doubtful), None)
    if gate is None or doubtful is None:
        return gate
    return gate.model_copy(update={"held": False, "undecided": True, "detail": f"{gate.detail}; {doubtful.note}"})


Candidate = tuple[float, str]
"""A variant's value at a gate, and what it is about."""


def _speedup(proof: VariantProof) -> Candidate | None:
    if proof.latency is None:
        return None
    slowest = proof.latency.smallest_speedup
    return slowest.speedup, f"at {slowest.shape}, {proof.variant}"


def _target(target: TargetRecord, proofs: Sequence[VariantProof]) -> GateResult | None:
    """Return whether a latency target was met; None where nothing was timed."""
    outcome = target_outcome(target, proofs[0].latency if proofs else None)
    if outcome.measured_speedup is None:
        return None
    detail = f"{target.target}, against dense in the same precision; {MISS:.0%} off is accepted"
    if target.target.latency_ms is not None and outcome.measured_ms is not None:
        limit, value = target.target.latency_ms * (1 + MISS), outcome.measured_ms
        held = value <= limit
        return GateResult(name="target_latency_ms", comparison="≤", limit=limit, value=value, held=held, detail=detail)
    limit, value = target.asked_speedup * (1 - MISS), outcome.measured_speedup
    return GateResult(
        name="target_speedup", comparison="≥", limit=limit, value=value, held=value >= limit, detail=detail
    )


def _undecided(gate: GateResult | None, proofs: Sequence[VariantProof]) -> GateResult | None:
    """Return a gate about speed, undecided if the machine's noise could turn it."""
    reports = [proof.latency for proof in proofs if proof.latency]
    noisy = [x for report in reports for x in (*report.shapes, *report.twin_shapes) if x.noise_reason]
    if gate is None or not noisy:
        return gate
    worst = max(noisy, key=lambda x: x.noise_factor)
    reason = f"at {worst.shape} {worst.noise_reason}"
    turns = gate.value / worst.noise_factor < gate.limit <= gate.value * worst.noise_factor
    only_slower = all(x.noise is None or x.noise.quiet for x in noisy)  # waiting only makes calls slower
    if not turns or (gate.comparison == "≤" and gate.held and only_slower):
        return gate.model_copy(update={"detail": f"{gate.detail}; noisy, but not by so much: {reason}"})
    detail = f"{gate.detail}; the machine is too noisy: {reason}"
    return gate.model_copy(update={"held": False, "undecided": True, "detail": detail})


def _agreement(proof: VariantProof) -> Candidate | None:
    if proof.fidelity is None:
        return None
    return proof.fidelity.headline.value, f"{proof.fidelity.headline.name}, {proof.variant}"


def _metric(proof: VariantProof) -> Candidate | None:
    if proof.fidelity is None or proof.fidelity.metric is None:
        return None
    return proof.fidelity.metric.pruned, f"{proof.fidelity.metric.name}, {proof.variant}"


def _figure(proof: VariantProof, name: str) -> Candidate | None:
    value = None if proof.fidelity is None else proof.fidelity.figure(name)
    return None if value is None else (value, f"{name}, {proof.variant}")


def _lowest(name: str, limit: float | None, candidates: Sequence[Candidate | None]) -> GateResult | None:
    if limit is None:
        return None
    measured = [x for x in candidates if x is not None]
    if len(measured) < len(candidates) or not measured:
        raise GateError(f"The gate {name} is set, but what it is about was not measured of every variant.")
    value, detail = min(measured)
    return GateResult(name=name, comparison="≥", limit=limit, value=value, held=value >= limit, detail=detail)


def _largest(name: str, limit: float | None, proofs: Sequence[VariantProof]) -> GateResult | None:
    if limit is None:
        return None
    if not proofs:
        raise GateError(f"The gate {name} is set, but nothing was exported that it could be about.")
    size_mib, file = max((x.graph.file.size_bytes / 2**20, x.graph.file.name) for x in proofs)
    return GateResult(name=name, comparison="≤", limit=limit, value=size_mib, held=size_mib <= limit, detail=file)


def verdict_of(gates: Sequence[GateResult], *, exported: bool) -> Verdict | None:
    """Return what a run came to; None where it exported nothing, so that nothing was proved or judged.

    Parity holds wherever this is asked of an export: a run whose parity fails ends there.
    """
    if not exported:
        return None
    if not gates:
        return "not gated"
    if any(gate.broken for gate in gates):
        return "failed"
    return "undecided" if any(gate.undecided for gate in gates) else "passed"


def in_words(
    verdict: Verdict | None, gates: Sequence[GateResult], warnings: Sequence[FidelityWarning] = ()
) -> str | None:
    """Return a verdict as the terminal, the JSON and the report all word it; None where there is none."""
    if verdict is None:
        return None
    words = "; ".join((_outcome(verdict, gates), *dict.fromkeys(gate.caveat for gate in gates if gate.caveat)))
    return f"{words} ({len(warnings)} warning{'' if len(warnings) == 1 else 's'})" if warnings else words


def _outcome(verdict: Verdict, gates: Sequence[GateResult]) -> str:
    broken, undecided = sum(gate.broken for gate in gates), [gate for gate in gates if gate.undecided]
    if verdict == "not gated":
        return "not gated: parity holds, and no gates were set"
    if broken:
        return f"failed: {broken} of {len(gates)} gates did not hold"
    if any(gate.name == "min_metric" for gate in undecided):
        return f"undecided: what was measured does not decide {len(undecided)} of {len(gates)} gates"
    if undecided:
        return f"undecided: the machine is too noisy to judge {len(undecided)} of {len(gates)} gates"
    about = "" if any(gate.about_quality for gate in gates) else ", none of which is about fidelity"
    return f"passed: parity holds, and every gate{about}"


def tone_of(verdict: Verdict | None, gates: Sequence[GateResult], warnings: Sequence[FidelityWarning]) -> Tone:
    """Return how a verdict is to be coloured: good only if fidelity was gated, every gate passed, and nothing warns."""
    if verdict in ("failed", "undecided"):
        return "bad"
    if warnings:
        return "caution"
    return "good" if verdict == "passed" and any(gate.about_quality for gate in gates) else "neutral"
