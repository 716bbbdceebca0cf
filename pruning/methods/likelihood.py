"""Gradients of the log-likelihood of outputs that are drawn from the dense model's own prediction.

Their second moments are Fisher information (Martens, JMLR 2020, section 5). Forward and backward, all
batches pass one sublayer before the next: the hidden states in front of each wait on disk for the backward
pass, so memory holds the activations of one sublayer for one batch, and one gradient for each batch,
whatever the depth. A layer that does not rest on the device is moved there once for each pass.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.calibration.batches import Batch
from pruning.families.base import EncoderAdapter, Sublayer
from pruning.methods.boundary import HiddenStates
from pruning.methods.disk_store import Spill
from pruning.methods.placement import Placement


@dataclass(frozen=True)
class SublayerGradient:
    """What one batch's likelihood says of one sublayer, on the device.

    Attributes:
        features: its features, (texts, tokens, columns).
        at_features: the gradient with respect to them, of the same shape; zero in padding.
        at_total: the gradient with respect to the sublayer's output before the norm, (tokens, d), padding
            left out.

    """

    features: Tensor
    at_features: Tensor
    at_total: Tensor


def likelihood_gradients(
    adapter: EncoderAdapter, batches: Sequence[Batch], placement: Placement, spill: Spill
) -> Iterator[tuple[int, Iterator[SublayerGradient]]]:
    """Draw one output for each text, and yield the gradients of every batch, from the top sublayer to the bottom.

    Args:
        adapter: the dense model.
        batches: the calibration set; a batch's draw depends on its own texts' numbers only.
        placement: where the network runs.
        spill: where hidden states wait.

    Yields:
        A sublayer's number and its gradients, batch by batch, which are to be read to their end before the next.

    """
    states = HiddenStates.at_embeddings(adapter, batches, placement)
    for number, sublayer in enumerate(adapter.sublayers):
        with placement.layer(sublayer):
            for batch in states.batches:
                spill.put((number, batch), states.hidden[batch])
                states.advance(batch, sublayer)
    for batch in states.batches:
        states.hidden[batch] = _gradient_at_top(adapter, states, batch, batches[batch].rows[0])
    for number, sublayer in reversed(list(enumerate(adapter.sublayers))):
        with placement.layer(sublayer):
            yield number, _through(number, sublayer, states, spill)


def _gradient_at_top(adapter: EncoderAdapter, states: HiddenStates, batch: int, seed: int) -> Tensor:
    """Return the gradient with respect to a batch's topmost hidden states, (texts, tokens, d), in storage."""
    context, top = states.contexts[batch], states.hidden[batch].requires_grad_()
    likelihood = adapter.sampled_likelihood(adapter.output(top, context), context, torch.Generator().manual_seed(seed))
    return torch.autograd.grad(likelihood, top)[0]


def _through(number: int, sublayer: Sublayer, gradients: HiddenStates, spill: Spill) -> Iterator[SublayerGradient]:
    """Take every batch's gradient through a sublayer, from its output to its input."""
    placement = gradients.placement
    for batch in gradients.batches:
        gradient, context = gradients.on_device(batch)
        bottom = placement.to_device(spill.get((number, batch))).requires_grad_()
        with placement.network(), torch.enable_grad():
            features = sublayer.features(bottom, context)
            total = bottom + sublayer.projection(features)
            above = sublayer.finish(total)
            at_features, at_total, below = torch.autograd.grad(
                above, (features, total, bottom), gradient.to(above.dtype)
            )
        gradients.hidden[batch] = placement.to_storage(below)
        yield SublayerGradient(features.detach(), at_features, gradients.tokens(batch, at_total))
