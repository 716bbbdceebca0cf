"""Gradients of the log-likelihood of outputs that are drawn from the dense model's own prediction.

Their second moments are Fisher information (Martens, JMLR 2020, section 5). The backward pass runs one
sublayer at a time from the hidden states in front of each, so it holds the activations of a single
sublayer, whatever the depth.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.calibration.batches import Batch
from pruning.families.base import EncoderAdapter
from pruning.methods.boundary import HiddenStates
from pruning.methods.placement import Placement


@dataclass(frozen=True)
class SublayerGradient:
    """What one batch's likelihood says of one sublayer, on the device.

    Attributes:
        number: the sublayer's.
        features: its features, (texts, tokens, columns).
        at_features: the gradient with respect to them, of the same shape; zero in padding.
        at_total: the gradient with respect to the sublayer's output before the norm, (tokens, d), padding
            left out.

    """

    number: int
    features: Tensor
    at_features: Tensor
    at_total: Tensor


def likelihood_gradients(adapter: EncoderAdapter, batch: Batch, placement: Placement) -> Iterator[SublayerGradient]:
    """Draw one output for each text of a batch, and yield its gradients from the top sublayer to the bottom.

    The draw depends on the batch's texts' numbers only.
    """
    states = HiddenStates.at_embeddings(adapter, [batch], placement)
    bottoms = []
    for sublayer in adapter.sublayers:
        bottoms.append(states.hidden[0])
        with placement.layer(sublayer):
            states.advance(0, sublayer)
    context = states.contexts[0]
    top = states.hidden[0].requires_grad_()
    generator = torch.Generator().manual_seed(batch.rows[0])
    likelihood = adapter.sampled_likelihood(adapter.output(top, context), context, generator)
    gradient = placement.to_device(torch.autograd.grad(likelihood, top)[0])
    on_device = placement.context_on_device(context)
    for number, sublayer in reversed(list(enumerate(adapter.sublayers))):
        bottom = placement.to_device(bottoms.pop()).requires_grad_()
        with placement.layer(sublayer), placement.network(), torch.enable_grad():
            features = sublayer.features(bottom, on_device)
            total = bottom + sublayer.projection(features)
            above = sublayer.finish(total)
            at_features, at_total, gradient = torch.autograd.grad(
                above, (features, total, bottom), gradient.to(above.dtype)
            )
        yield SublayerGradient(number, features.detach(), at_features, states.tokens(0, at_total))
