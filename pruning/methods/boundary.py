"""The calibration set's hidden states at one point of the network.

Nothing else of the network's activations is kept: they move up one sublayer at a time, so memory does
not grow with depth, and no sublayer below the boundary runs again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.calibration.batches import Batch
from pruning.families.base import Context, EncoderAdapter, Sublayer
from pruning.methods.placement import Placement


@dataclass
class HiddenStates:
    """One model's hidden states in front of a sublayer.

    Attributes:
        placement: where they rest and where they are computed with.
        contexts: each batch's masks.
        hidden: each batch's hidden states, (texts, tokens, d).

    """

    placement: Placement
    contexts: list[Context]
    hidden: list[Tensor]

    @classmethod
    @torch.no_grad()
    def at_embeddings(cls, adapter: EncoderAdapter, batches: Sequence[Batch], placement: Placement) -> "HiddenStates":
        """Embed the batches."""
        contexts = [placement.context(adapter, batch) for batch in batches]
        embedded = [placement.to_storage(adapter.embed(batch.to(placement.storage).inputs)) for batch in batches]
        return cls(placement, contexts, embedded)

    @property
    def batches(self) -> range:
        """The batches' numbers."""
        return range(len(self.contexts))

    def on_device(self, batch: int) -> tuple[Tensor, Context]:
        """Return one batch's hidden states and context where they are computed with."""
        return self.placement.to_device(self.hidden[batch]), self.placement.context_on_device(self.contexts[batch])

    @torch.no_grad()
    def features(self, batch: int, sublayer: Sublayer) -> Tensor:
        """Return a sublayer's features of one batch, (texts, tokens, units·unit_size), on the device."""
        with self.placement.network():
            return sublayer.features(*self.on_device(batch))

    @torch.no_grad()
    def advance(self, batch: int, sublayer: Sublayer) -> None:
        """Move one batch above a sublayer."""
        with self.placement.network():
            above = sublayer.forward(*self.on_device(batch))
        self.hidden[batch] = self.placement.to_storage(above)

    @torch.no_grad()
    def advance_from(self, batch: int, sublayer: Sublayer, features: Tensor) -> Tensor:
        """Move one batch above a sublayer whose features are known.

        Returns:
            The sublayer's output before the norm, residual included, (texts, tokens, d), on the device.

        """
        with self.placement.network():
            total: Tensor = self.placement.to_device(self.hidden[batch]) + sublayer.projection(features)
            above = sublayer.finish(total)
        self.hidden[batch] = self.placement.to_storage(above)
        return total

    @torch.no_grad()
    def outputs(self, adapter: EncoderAdapter) -> list[Tensor]:
        """Run the sublayers of a model whose embeddings these are, and return each batch's output, in storage."""
        moving = HiddenStates(self.placement, self.contexts, list(self.hidden))
        for sublayer in adapter.sublayers:
            with self.placement.layer(sublayer):
                for batch in self.batches:
                    moving.advance(batch, sublayer)
        return [adapter.output(moving.hidden[batch], self.contexts[batch]) for batch in self.batches]

    def tokens(self, batch: int, values: Tensor, texts: slice = slice(None)) -> Tensor:
        """Return the rows of (texts, tokens, n) values that are not padding, of some of the texts: (tokens, n)."""
        return values[texts][self.contexts[batch].attention_mask[texts].bool().to(values.device)]


@dataclass
class Boundary:
    """Student and teacher in front of the sublayer that is being pruned.

    Attributes:
        student: the pruned model's hidden states.
        teacher: the dense model's.

    """

    student: HiddenStates
    teacher: HiddenStates

    @classmethod
    def at_embeddings(cls, adapter: EncoderAdapter, batches: Sequence[Batch], placement: Placement) -> "Boundary":
        """Embed the batches of a dense model."""
        student = HiddenStates.at_embeddings(adapter, batches, placement)
        return cls(student, HiddenStates(placement, student.contexts, list(student.hidden)))

    @property
    def batches(self) -> range:
        """The batches' numbers."""
        return self.student.batches

    @torch.no_grad()
    def advance_teacher(self, batch: int, dense: Sublayer) -> Tensor:
        """Move one batch's teacher above a sublayer that is still dense.

        Returns:
            What the student's sublayer is to add to its input, ``Y_T − X_S``, (texts, tokens, d).

        """
        total = self.teacher.advance_from(batch, dense, self.teacher.features(batch, dense))
        return total - self.student.placement.to_device(self.student.hidden[batch])
