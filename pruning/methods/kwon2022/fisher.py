"""The Fisher information of the masks on every unit (Kwon et al., NeurIPS 2022, section 4.1).

Around a model without masks, ``L(m) − L(1) ≈ ½·(1 − m)ᵀ·I·(1 − m)``, the gradient being taken as zero, and
``I = Σ_texts g·gᵀ`` with g the gradient of a text's log-likelihood with respect to the masks. The paper
takes the likelihood of the text's label; here there are no labels, so one is drawn for each text from the
model's own prediction, which makes I the true Fisher information instead of the empirical one.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pruning.calibration.batches import Batch
from pruning.families.base import EncoderAdapter
from pruning.methods.disk_store import Spill
from pruning.methods.likelihood import likelihood_gradients
from pruning.methods.placement import Placement
from pruning.methods.shards import sum_over_processes


def mask_gradients(features: Tensor, gradient: Tensor, unit_size: int) -> Tensor:
    """Return the gradient with respect to a mask of 1 on each unit, text by text: ``Σ Z·∂L/∂Z``.

    Args:
        features: the output projection's input, (texts, tokens, units·unit_size).
        gradient: the log-likelihood's gradient with respect to it, of the same shape; zero in padding.
        unit_size: feature columns of a unit.

    Returns:
        A tensor of shape (texts, units).

    """
    wide = torch.promote_types(features.dtype, torch.float32)
    by_column = (features.to(wide) * gradient.to(wide)).sum(1)
    return by_column.view(len(by_column), -1, unit_size).sum(-1)


def text_gradients(
    adapter: EncoderAdapter,
    batches: Sequence[Batch],
    placement: Placement,
    spill: Spill,
    done: Callable[[int], None],
) -> list[Tensor]:
    """Return the masks' gradients for every text of this process and every sublayer of a dense model.

    Args:
        adapter: the dense model.
        batches: this process's share of the calibration set; a batch's draw depends on its own texts only.
        placement: where the network runs.
        spill: where hidden states wait.
        done: called with the sublayers that a batch has passed.

    Returns:
        For each sublayer a tensor of shape (texts, units), on the device.

    """
    found: list[list[Tensor]] = [[torch.empty(0, x.units, device=placement.device)] for x in adapter.sublayers]
    for number, gradients in likelihood_gradients(adapter, batches, placement, spill):
        size = adapter.sublayers[number].unit_size
        for gradient in gradients:
            found[number].append(mask_gradients(gradient.features, gradient.at_features, size).float())
            done(1)
    return [torch.cat(parts) for parts in found]


def fisher_diagonal(gradients: Tensor) -> Tensor:
    """Return one sublayer's ``Σ_texts g²`` over all processes: (texts, units) to float64 (units,)."""
    diagonal = gradients.double().square().sum(0)
    sum_over_processes(diagonal)
    return diagonal


def fisher_block(gradients: Tensor) -> Tensor:
    """Return one sublayer's ``Σ_texts g·gᵀ`` over all processes: (texts, units) to float64 (units, units)."""
    wide = gradients.double()
    block = wide.T @ wide
    sum_over_processes(block)
    return block
