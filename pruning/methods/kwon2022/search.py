"""Mask search and rearrangement (Kwon et al., NeurIPS 2022, sections 4.1 and 4.2, algorithms 1 and 2)."""

import torch
from torch import Tensor

from pruning.flops import UnitCosts


def search_masks(heads: Tensor, neurons: Tensor, costs: UnitCosts, budget: int) -> tuple[Tensor, Tensor]:
    """Choose the heads and neurons whose removal costs the least importance under a budget of FLOPs.

    For every number of heads the most important ones stay, and as many of the most important neurons as
    the rest of the budget pays for; the number with the least importance removed in all wins (ties: fewer
    heads). This is the exact optimum over diagonal importance. Numbers that would leave a neuron's FLOPs or
    more unspent, because all neurons are kept already, are passed over, so that the budget is met exactly.

    Args:
        heads: the importance of every head of the encoder, (heads,).
        neurons: the importance of every neuron, (neurons,).
        costs: FLOPs of a head and of a neuron.
        budget: the FLOPs that may be kept.

    Returns:
        The ascending indices of the kept heads and of the kept neurons.

    """
    head_order, neuron_order = (x.argsort(descending=True, stable=True) for x in (heads, neurons))
    lost_heads, lost_neurons = (_lost(x) for x in (heads, neurons))
    choices: list[tuple[bool, float, int, int]] = []
    for kept_heads in range(min(len(heads), budget // costs.head) + 1):
        left = budget - kept_heads * costs.head
        kept_neurons = min(len(neurons), left // costs.neuron)
        everything = (kept_heads, kept_neurons) == (len(heads), len(neurons))
        wasteful = left - kept_neurons * costs.neuron >= costs.neuron and not everything
        choices.append((wasteful, lost_heads[kept_heads] + lost_neurons[kept_neurons], kept_heads, kept_neurons))
    _, _, kept_heads, kept_neurons = min(choices)
    return head_order[:kept_heads].sort().values, neuron_order[:kept_neurons].sort().values


def rearrange(information: Tensor, kept: Tensor) -> Tensor:
    """Exchange units of one sublayer so that ``(1 − m)ᵀ·I·(1 − m)`` becomes smaller, their number staying.

    Greedy, as published: every pruned unit in turn (here from the highest importance down) is brought back
    in exchange for the kept unit that makes the expression smallest, unless it is smallest as it is.

    Args:
        information: the sublayer's block of the Fisher information, (units, units).
        kept: indices of the units that stay, (n,).

    Returns:
        The new indices, ascending, (n,).

    """
    removed = torch.ones(len(information), dtype=torch.bool, device=information.device)
    removed[kept] = False
    if not bool(removed.any()) or bool(removed.all()):
        return kept.sort().values
    diagonal = information.diagonal()
    reach = information @ removed.to(information.dtype)  # I·(1 − m)
    candidates = removed.nonzero()[:, 0]
    for unit in candidates[diagonal[candidates].argsort(descending=True, stable=True)].tolist():
        # removing another in its place changes the expression by what leaves and what comes in its stead
        change = -2 * reach[unit] + diagonal[unit] + 2 * (reach - information[unit]) + diagonal
        change[removed] = torch.inf
        other = int(change.argmin())
        if change[other] < 0:
            removed[unit], removed[other] = False, True
            reach += information[other] - information[unit]
    return (~removed).nonzero()[:, 0]


def _lost(importance: Tensor) -> list[float]:
    """Return the importance that goes when only the n most important units stay, for n from none to all."""
    ascending = importance.double().sort().values
    sums = torch.cat((torch.zeros(1, dtype=torch.float64, device=ascending.device), ascending.cumsum(0)))
    lost: list[float] = sums.flip(0).tolist()
    return lost
