"""Widths under a budget: dynamic programming over the sublayers' sensitivity curves.

What a width costs is any additive measure: FLOPs, or the time that a latency table gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

STEPS = 2000
"""Into how many steps the budget is divided, at most."""


@dataclass(frozen=True)
class WidthChoices:
    """The widths that one sublayer may be given.

    Attributes:
        widths: ascending, from 0, (n,).
        losses: what each loses, never rising, (n,).
        costs: what each costs, whole numbers, ascending, (n,).

    """

    widths: NDArray[np.int64]
    losses: NDArray[np.float64]
    costs: NDArray[np.int64]

    @classmethod
    def of_units(cls, losses: NDArray[np.float64], unit_cost: int) -> Self:
        """Return the choices where every width may be had and each unit costs the same.

        Args:
            losses: the loss at every width from 0 up.
            unit_cost: what one unit costs.

        """
        widths = np.arange(len(losses))
        return cls(widths, losses, widths * unit_cost)

    @classmethod
    def worth_having(cls, widths: NDArray[np.int64], losses: NDArray[np.float64], costs: NDArray[np.int64]) -> Self:
        """Return the choices without widths that cost as much as a wider one does."""
        cheapest_wider = np.append(np.minimum.accumulate(costs[::-1])[::-1][1:], np.iinfo(np.int64).max)
        kept = costs < cheapest_wider
        return cls(widths[kept], losses[kept], costs[kept])


def interpolate_curve(widths: Sequence[int], losses: Sequence[float]) -> NDArray[np.float64]:
    """Return the loss at every width from 0 to the largest, from some that were measured.

    Linear between them, and never rising with the width: noise that says otherwise is taken out by the
    running minimum from the narrow end.

    """
    order = np.argsort(widths)
    at = np.asarray(widths, dtype=np.float64)[order]
    loss = np.minimum.accumulate(np.asarray(losses, dtype=np.float64)[order])
    return np.interp(np.arange(int(at[-1]) + 1), at, loss)


def allocate(sublayers: Sequence[WidthChoices], budget: int) -> list[int]:
    """Choose the widths that cost at most ``budget`` and lose least in sum.

    Args:
        sublayers: the choices of each.
        budget: what all widths together may cost; at least the sum of the narrowest.

    Returns:
        The widths; no next wider choice fits into what is left over.

    """
    least = sum(int(choices.costs[0]) for choices in sublayers)
    step = max(1, -(-(budget - least) // STEPS))
    steps = (budget - least) // step
    best = np.zeros(steps + 1)
    taken, chosen = [], []
    for choices in sublayers:
        needed = -(-(choices.costs - choices.costs[0]) // step)
        # of the widths that take the same steps the widest: narrower ones are never better
        last = np.flatnonzero(np.append(np.diff(needed) > 0, True))
        last = last[needed[last] <= steps]
        total = np.full((len(last), steps + 1), np.inf)
        for row, index in enumerate(last):
            total[row, needed[index] :] = best[: steps + 1 - needed[index]] + choices.losses[index]
        rows = total.argmin(0)
        chosen.append(last[rows])
        taken.append(needed[last][rows])
        best = total.min(0)
    left, indices = steps, []
    for number in reversed(range(len(sublayers))):
        indices.append(int(chosen[number][left]))
        left -= int(taken[number][left])
    return _spend(indices[::-1], sublayers, budget)


def _spend(indices: list[int], sublayers: Sequence[WidthChoices], budget: int) -> list[int]:
    """Use up what rounding has left over, where the loss falls most for the cost, and return the widths."""
    left = budget - sum(int(x.costs[index]) for x, index in zip(sublayers, indices, strict=True))
    while True:
        gains = []
        for number, (choices, index) in enumerate(zip(sublayers, indices, strict=True)):
            if index + 1 < len(choices.widths) and (more := int(np.diff(choices.costs[index : index + 2])[0])) <= left:
                gains.append(((choices.losses[index] - choices.losses[index + 1]) / more, -number, more))
        if not gains:
            return [int(x.widths[index]) for x, index in zip(sublayers, indices, strict=True)]
        _, number, more = max(gains)
        indices[-number] += 1
        left -= more
