"""The report of a run's recovery: recovery.json."""

from typing import Literal

from exporters.documents import Document
from kprune_export.errors import BundleError
from pruning.recovery.settings import RecoveryRecord


class RecoveryReport(Document):
    """What training on the dense model's outputs did.

    Attributes:
        source: the texts that it read, as a bundle names them; empty where there was none.
        recovery: what was done, or why nothing was.

    """

    noun, error, remedy = "report of a recovery", BundleError, "build the bundle again"
    format: Literal["kprune-recovery"] = "kprune-recovery"
    version: Literal[1] = 1
    source: str = ""
    recovery: RecoveryRecord

    def __str__(self) -> str:
        """Return what was done in one sentence."""
        found = self.recovery
        if found.before is None or found.after is None:
            return f"Not recovered: {found.reason}."
        texts = f"{found.tokens:,} tokens of {found.texts:,} texts"
        if found.reason:
            return f"Recovery on {texts} kept the pruned weights: {found.reason}."
        return (
            f"Recovered on {texts}, without labels: the divergence from the dense model on {found.validation_texts} "
            f"other texts fell from {found.before:.4g} to {found.after:.4g}."
        )
