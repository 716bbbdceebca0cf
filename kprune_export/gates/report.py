"""The report of a run's gates: what they came to, and what limits every statement about the run."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from kprune_export.bundle.verdict import FidelityWarning, GateResult, Verdict, in_words
from kprune_export.errors import BundleError
from pruning.plan import first_problem

TIMED_GATES = ("min_speedup", "target_speedup", "target_latency_ms")
"""The gates about measured times, which are not reproducible."""


class GatesReport(BaseModel):
    """Everything that gates.json holds.

    Attributes:
        verdict: what the gates come to.
        gates: each gate that the recipe sets, with its result.
        warnings: figures that are low by any standard, whatever the gates are.
        noise: which times cannot be relied on, in sentences.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["kprune-gates"] = "kprune-gates"
    version: Literal[1] = 1
    verdict: Verdict
    gates: tuple[GateResult, ...]
    warnings: tuple[FidelityWarning, ...]
    noise: tuple[str, ...]

    @property
    def reproducible_gates(self) -> tuple[GateResult, ...]:
        """The gates that are not about measured times."""
        return tuple(gate for gate in self.gates if gate.name not in TIMED_GATES)

    @property
    def verdict_in_words(self) -> str | None:
        """The verdict as every page and message words it."""
        return in_words(self.verdict, self.gates, self.warnings)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the report that the gates' stage wrote.

        Raises:
            BundleError: it cannot be read, or is of another version of this program.

        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise BundleError(f"{path} is not a valid report of gates: {first_problem(error)}.") from error
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}.") from error

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
