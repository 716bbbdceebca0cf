"""The hidden states of student and teacher in front of the sublayer that is being pruned.

Nothing else of the network's activations is kept: both move up one sublayer at a time, so memory does
not grow with depth, and no sublayer below the boundary runs again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.calibration.batches import Batch
from pruning.families.base import Context, EncoderAdapter, Sublayer


@dataclass
class Boundary:
    """The calibration set at one point of the network.

    Attributes:
        contexts: each batch's masks.
        student: each batch's hidden states in the pruned model, (texts, tokens, d).
        teacher: the same in the dense model.
        targets: each batch's dense output, (texts, outputs).

    """

    contexts: list[Context]
    student: list[Tensor]
    teacher: list[Tensor]
    targets: list[Tensor]

    @classmethod
    @torch.no_grad()
    def at_embeddings(cls, adapter: EncoderAdapter, batches: Sequence[Batch]) -> "Boundary":
        """Embed the batches of a dense model and run it once for its outputs."""
        contexts = [adapter.context(batch.attention_mask) for batch in batches]
        embedded = [adapter.embed(batch.inputs) for batch in batches]
        targets = []
        for context, bottom in zip(contexts, embedded, strict=True):
            hidden = bottom
            for sublayer in adapter.sublayers:
                hidden = sublayer.forward(hidden, context)
            targets.append(adapter.output(hidden, context))
        return cls(contexts, list(embedded), list(embedded), targets)

    @property
    def batches(self) -> range:
        """The batches' numbers."""
        return range(len(self.contexts))

    @torch.no_grad()
    def advance_teacher(self, batch: int, dense: Sublayer) -> Tensor:
        """Move one batch's teacher above a sublayer that is still dense.

        Returns:
            The sublayer's output before the norm, residual included, (texts, tokens, d).

        """
        hidden, context = self.teacher[batch], self.contexts[batch]
        total: Tensor = hidden + dense.projection(dense.features(hidden, context))
        self.teacher[batch] = dense.finish(total)
        return total

    @torch.no_grad()
    def advance_student(self, batch: int, pruned: Sublayer) -> None:
        """Move one batch's student above a sublayer that has been pruned."""
        self.student[batch] = pruned.forward(self.student[batch], self.contexts[batch])

    def tokens(self, batch: int, values: Tensor) -> Tensor:
        """Return the rows of (texts, tokens, n) values that are not padding: (tokens, n)."""
        return values[self.contexts[batch].attention_mask.bool()]
