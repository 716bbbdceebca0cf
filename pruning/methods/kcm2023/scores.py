"""Representative ranking and data-driven scores of FFN neurons: pure functions of tensors."""

import torch
from torch import Tensor

KERNEL_WIDTH = 1.0
"""σ of the Gaussian kernel."""
CONVERGENCE = 0.01
"""The coefficients' relative change at which they are taken as they are."""
MOST_ROUNDS = 200


def gaussian_kernel(filters: Tensor, width: float = KERNEL_WIDTH) -> Tensor:
    """Return ``exp(−‖f_i − f_j‖² / 2σ²)`` for all pairs: (units, values) to (units, units)."""
    energy = filters.square().sum(1)
    squared = (energy[:, None] + energy - 2 * filters @ filters.T).clamp_min(0)
    squared.fill_diagonal_(0)
    return torch.exp(-squared / (2 * width**2))


def representation(kernel: Tensor, convergence: float = CONVERGENCE) -> Tensor:
    """Return how much of every unit stands for itself when units are represented by one another.

    Coefficients ``C ≥ 0`` that represent every unit by all of them, in the space of the kernel, are
    approached by multiplicative updates ``C ← C ∘ √(K / KC)`` (those of convex non-negative matrix
    factorisation) from equal shares. What a unit's own coefficient comes to, ``C_ii``, says how near it is
    to a vertex of the units' convex hull: 1 for one that no others resemble, ½ for each of two that are
    equal, little for one among many.

    Args:
        kernel: K, (units, units), symmetric, with values from 0 to 1 and ones on the diagonal.
        convergence: the relative change of C at which the updates end.

    Returns:
        The diagonal of C, (units,).

    """
    units = len(kernel)
    coefficients = torch.full_like(kernel, 1 / max(1, units))
    smallest = torch.finfo(kernel.dtype).tiny
    for _ in range(MOST_ROUNDS):
        updated = coefficients * (kernel / (kernel @ coefficients).clamp_min(smallest)).sqrt()
        change = torch.linalg.norm(updated - coefficients) / torch.linalg.norm(updated).clamp_min(smallest)
        coefficients = updated
        if float(change) <= convergence:
            break
    return coefficients.diagonal().clone()


def activation_norms(features: Tensor, attention_mask: Tensor) -> Tensor:
    """Sum over the texts the norm of every neuron's activations on the text's tokens.

    Args:
        features: activations, (texts, tokens, units).
        attention_mask: (texts, tokens); padding is left out.

    Returns:
        Float64, of shape (units,).

    """
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    kept = wide.square() * attention_mask.unsqueeze(-1).to(wide.dtype)
    return kept.sum(1).sqrt().double().sum(0)


def combined_scores(representative: Tensor, data_driven: Tensor) -> Tensor:
    """Return the product of both scores, each relative to the mean of its sublayer: float64, (units,)."""
    parts = (representative.double(), data_driven.double())
    smallest = torch.finfo(torch.float64).tiny
    relative = [part / part.mean().clamp_min(smallest) for part in parts]
    return relative[0] * relative[1]
