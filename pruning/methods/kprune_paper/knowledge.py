"""Knowledge of a unit (K-prune, section 3.2): pure functions of tensors."""

import torch
from torch import Tensor


def predictive_knowledge(features: Tensor, gradient: Tensor, unit_size: int) -> Tensor:
    """Estimate how far the output's divergence moves when each unit is masked.

    With a mask variable m of 1 on every unit and every text, the divergence is expanded around m = 1 to
    second order, and its curvature approximated by the squared gradient (K-prune, equation 4):
    ``½·(∂D/∂m)²``. The gradient is taken for each text by itself, so that the sum over texts does not
    depend on how they are batched: ``∂D/∂m = Σ features·∂D/∂features`` over the unit's columns and the
    text's tokens.

    Args:
        features: the output projection's input, (texts, tokens, units·unit_size); padding may hold
            anything, for its gradient is zero.
        gradient: the divergence's gradient with respect to it, of the same shape.
        unit_size: feature columns of a unit.

    Returns:
        The estimates summed over the texts, float64, of shape (units,).

    """
    by_column = (features * gradient).sum(1)
    by_unit = by_column.view(len(by_column), -1, unit_size).sum(-1)
    return 0.5 * by_unit.double().square().sum(0)


def feature_energy(features: Tensor, attention_mask: Tensor) -> Tensor:
    """Sum the squares of each feature column over the tokens that are not padding.

    Args:
        features: (texts, tokens, columns).
        attention_mask: (texts, tokens).

    Returns:
        Float64, of shape (columns,).

    """
    weighted = features.square() * attention_mask.unsqueeze(-1).to(features.dtype)
    return weighted.sum((0, 1)).double()


def representational_knowledge(energy: Tensor, weight: Tensor, unit_size: int) -> Tensor:
    """Return the squared distance that masking each unit adds to the sublayer's output.

    For a neuron it is ``Σ_tokens a²·mean(W²)``, for a head the same averaged over its d_h feature
    columns (K-prune, equation 6, as published: a head's cross terms are left out).

    Args:
        energy: `feature_energy` summed over the calibration set, (units·unit_size,).
        weight: the output projection's weight, (d, units·unit_size).
        unit_size: feature columns of a unit.

    Returns:
        Float64, of shape (units,).

    """
    by_column = energy * weight.double().square().mean(0)
    return by_column.view(-1, unit_size).mean(-1)


def importance(predictive: Tensor, representational: Tensor, balance: float, head_weight: float, flops: int) -> Tensor:
    """Combine both kinds of knowledge into a score for each FLOP: ``μ·(K_pred + λ·K_rep) / F``.

    Args:
        predictive: K_pred of a sublayer's units, (units,).
        representational: their K_rep, (units,).
        balance: λ.
        head_weight: μ for an attention sublayer, 1 for an FFN.
        flops: F, what one unit costs.

    """
    if predictive.shape != representational.shape:
        raise ValueError(f"{predictive.shape} and {representational.shape} are not of one sublayer")
    return head_weight * (predictive + balance * representational) / flops


def zeros(units: int, device: torch.device | str = "cpu") -> Tensor:
    """Return a float64 accumulator of shape (units,)."""
    return torch.zeros(units, dtype=torch.float64, device=device)
