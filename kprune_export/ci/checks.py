"""Checks of a run: each gate, and the parity of each variant."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from exporters.errors import ParityError
from kprune_export.bundle.verdict import FidelityWarning, GateResult
from kprune_export.errors import message_of
from kprune_export.pipeline.summary import Summary, VariantSummary


class Check(BaseModel):
    """One check.

    Attributes:
        suite: what kind of check; ``run`` where a run ended before anything could be checked.
        name: what was checked.
        outcome: an error is a run that ended, a failure a check that did not hold; a warning is one that was skipped,
            since no gate asks for it.
        detail: what was found, in words.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: Literal["parity", "gates", "warnings", "run"]
    name: str
    outcome: Literal["passed", "failed", "error", "skipped"]
    detail: str


def checks_of(summary: Summary) -> tuple[Check, ...]:
    """Return the checks of a finished run."""
    return (*map(_of_parity, summary.variants), *map(_of_gate, summary.gates), *map(_of_warning, summary.warnings))


def check_of_error(error: Exception) -> Check:
    """Return the check that a run ended at: parity, or the run itself."""
    if isinstance(error, ParityError):
        return Check(suite="parity", name="parity with torch", outcome="failed", detail=message_of(error))
    return Check(suite="run", name="run", outcome="error", detail=message_of(error))


def _of_parity(variant: VariantSummary) -> Check:
    if variant.parity_passed is None:
        return Check(suite="parity", name=variant.variant, outcome="skipped", detail="It was not compared with torch.")
    error = variant.worst_parity_error
    detail = "no values were compared" if error is None else f"largest difference from torch {error:.1e}"
    outcome: Literal["passed", "failed"] = "passed" if variant.parity_passed else "failed"
    return Check(suite="parity", name=variant.variant, outcome=outcome, detail=detail)


def _of_gate(gate: GateResult) -> Check:
    detail = f"measured {gate.measured}, asked {gate.asked} ({gate.about})"
    return Check(suite="gates", name=gate.name, outcome=_outcome(gate), detail=detail)


def _of_warning(warning: FidelityWarning) -> Check:
    name = f"{warning.measure}, {warning.variant}"
    return Check(suite="warnings", name=name, outcome="skipped", detail=warning.message)


def _outcome(gate: GateResult) -> Literal["passed", "failed", "error"]:
    if gate.inconclusive:
        return "error"
    return "passed" if gate.passed else "failed"
