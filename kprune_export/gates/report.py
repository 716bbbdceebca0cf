"""The report of a run's gates: what they came to, and what limits every statement about the run."""

from typing import Literal

from exporters.documents import Document
from kprune_export.bundle.verdict import FidelityWarning, GateResult, Verdict, in_words
from kprune_export.errors import BundleError

TIMED_GATES = ("min_speedup", "target_speedup", "target_latency_ms")
"""The gates about measured times, which are not reproducible."""


class GatesReport(Document):
    """Everything that gates.json holds.

    Attributes:
        verdict: what the gates come to.
        gates: each gate that the recipe sets, with its result.
        warnings: figures that are low by any standard, whatever the gates are.
        noise: which times cannot be relied on, in sentences.
        best: the fastest variant that passes every gate by itself; None where none does.

    """

    noun, error, remedy = "report of gates", BundleError, "build the bundle again"
    format: Literal["kprune-gates"] = "kprune-gates"
    version: Literal[2] = 2
    verdict: Verdict
    gates: tuple[GateResult, ...]
    warnings: tuple[FidelityWarning, ...]
    noise: tuple[str, ...]
    best: str | None

    @property
    def reproducible_gates(self) -> tuple[GateResult, ...]:
        """The gates that are not about measured times."""
        return tuple(gate for gate in self.gates if gate.name not in TIMED_GATES)

    @property
    def verdict_in_words(self) -> str | None:
        """The verdict as every page and message words it."""
        return in_words(self.verdict, self.gates, self.warnings)
