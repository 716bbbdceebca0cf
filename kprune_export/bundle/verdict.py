"""The verdict of a run: the results of its gates, warnings about fidelity, and how both are worded and coloured."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from exporters.rounding import beside, limit_text
from kprune_export.recipe.gates import RETRIEVAL_GATES


class FidelityWarning(BaseModel):
    """A figure that is low by any standard, or that says little.

    Attributes:
        variant: the variant that was measured.
        measure: the figure's name; ``texts`` or ``documents`` for how many there were.
        value: what was measured.
        limit: the default that it is below.
        message: one sentence for people.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str
    measure: str
    value: float
    limit: float
    message: str


Verdict = Literal["passed", "failed", "inconclusive", "not gated"]

Tone = Literal["good", "neutral", "caution", "bad"]
"""How a verdict is coloured."""

_QUALITY = ("min_agreement", "min_metric", *RETRIEVAL_GATES)
"""The gates about what a model answers; the others are about its speed and size."""


class GateResult(BaseModel):
    """One gate: what was asked, what was measured, and whether it passed.

    Attributes:
        inconclusive: whether the measurement does not decide, on a noisy machine or by labels in an unknown order;
            `passed` is then false, without the gate being broken.
        caveat: what limits the statement, as a clause; empty where nothing does.

    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    comparison: Literal["≥", "≤"]
    limit: float
    value: float
    passed: bool
    detail: str
    inconclusive: bool = False
    caveat: str = ""

    @model_validator(mode="after")
    def _passed_by_its_value(self) -> Self:
        kept = self.value >= self.limit if self.comparison == "≥" else self.value <= self.limit
        if self.passed != (kept and not self.inconclusive):
            raise ValueError(
                f"the gate {self.name} is recorded as {'passed' if self.passed else 'not passed'}, but {self.value:g} "
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
        return not self.passed and not self.inconclusive

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


def verdict_of(gates: Sequence[GateResult]) -> Verdict:
    """Return the verdict of a run that exported, from its gates.

    Parity has passed wherever this is called: a run whose parity check fails ends there.
    """
    if not gates:
        return "not gated"
    if any(gate.broken for gate in gates):
        return "failed"
    return "inconclusive" if any(gate.inconclusive for gate in gates) else "passed"


def in_words(
    verdict: Verdict | None, gates: Sequence[GateResult], warnings: Sequence[FidelityWarning] = ()
) -> str | None:
    """Return a verdict as the terminal, the JSON and the report all word it; None where there is none."""
    if verdict is None:
        return None
    words = "; ".join((_outcome(verdict, gates), *dict.fromkeys(gate.caveat for gate in gates if gate.caveat)))
    return f"{words} ({len(warnings)} warning{'' if len(warnings) == 1 else 's'})" if warnings else words


def _outcome(verdict: Verdict, gates: Sequence[GateResult]) -> str:
    broken, inconclusive = sum(gate.broken for gate in gates), [gate for gate in gates if gate.inconclusive]
    if verdict == "not gated":
        return "not gated: parity holds, and no gates were set"
    if broken:
        return f"failed: {broken} of {len(gates)} gates did not hold"
    if any(gate.name == "min_metric" for gate in inconclusive):
        return f"inconclusive: what was measured does not decide {len(inconclusive)} of {len(gates)} gates"
    if inconclusive:
        return f"inconclusive: the machine is too noisy to evaluate {len(inconclusive)} of {len(gates)} gates"
    about = "" if any(gate.about_quality for gate in gates) else ", none of which is about fidelity"
    return f"passed: parity holds, and every gate{about}"


def tone_of(verdict: Verdict | None, gates: Sequence[GateResult], warnings: Sequence[FidelityWarning]) -> Tone:
    """Return how a verdict is to be coloured: good only if fidelity was gated, every gate passed, and nothing warns."""
    if verdict in ("failed", "inconclusive"):
        return "bad"
    if warnings:
        return "caution"
    return "good" if verdict == "passed" and any(gate.about_quality for gate in gates) else "neutral"
