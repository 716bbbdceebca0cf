"""Selection of the units that stay under a FLOPs budget, by their scores (K-prune, algorithm 2)."""

from collections.abc import Sequence

import torch
from torch import Tensor


def select_units(scores: Sequence[Tensor], costs: Sequence[int], budget: int) -> list[Tensor]:
    """Keep the units with the highest scores for each FLOP that fit into a budget together.

    Units of all the sublayers given compete. They are taken in descending order of score (ties: the
    lower sublayer, then the lower index, first); one that does not fit is passed over, so that cheaper
    ones can use up what it leaves. If more than the cheapest unit's cost is left over in the end, the
    best unit that was passed over is taken after all, and the lowest-scored cheapest units make room
    for it. The result costs at most ``budget`` and, wherever exchanging allows it, more than ``budget``
    less the cost of the cheapest unit.

    Args:
        scores: for each sublayer, its units' scores, (units,).
        costs: for each sublayer, the FLOPs of one unit.
        budget: the FLOPs that may be kept.

    Returns:
        For each sublayer, the ascending indices of its kept units.

    """
    sublayer = torch.cat([torch.full((len(score),), i) for i, score in enumerate(scores)])
    unit = torch.cat([torch.arange(len(score)) for score in scores])
    order = torch.cat(list(scores)).argsort(descending=True, stable=True).tolist()
    cost = [costs[int(i)] for i in sublayer]
    cheapest = min(costs[i] for i, score in enumerate(scores) if len(score))

    left, taken, passed_over = budget, list[int](), list[int]()
    for candidate in order:
        if cost[candidate] <= left:
            taken.append(candidate)
            left -= cost[candidate]
        else:
            passed_over.append(candidate)
    for candidate in passed_over:
        if left < cheapest:
            break
        needed = -(-(cost[candidate] - left) // cheapest)
        evicted = [x for x in reversed(taken) if cost[x] == cheapest][:needed]
        if len(evicted) == needed:
            taken = [x for x in taken if x not in set(evicted)] + [candidate]
            left += needed * cheapest - cost[candidate]

    kept = torch.tensor(sorted(taken), dtype=torch.long)
    return [unit[kept[sublayer[kept] == i]] for i in range(len(scores))]
