"""Widths under a budget: dynamic programming over the sublayers' sensitivity curves."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STEPS = 2000
"""Into how many steps the budget is divided, at most."""


def interpolate_curve(widths: Sequence[int], losses: Sequence[float]) -> NDArray[np.float64]:
    """Return the loss at every width from 0 to the largest, from some that were measured.

    Linear between them, and never rising with the width: noise that says otherwise is taken out by the
    running minimum from the narrow end.

    """
    order = np.argsort(widths)
    at = np.asarray(widths, dtype=np.float64)[order]
    loss = np.minimum.accumulate(np.asarray(losses, dtype=np.float64)[order])
    return np.interp(np.arange(int(at[-1]) + 1), at, loss)


def allocate(curves: Sequence[NDArray[np.float64]], costs: Sequence[int], budget: int) -> list[int]:
    """Choose the widths that cost at most ``budget`` and lose least in sum.

    Args:
        curves: for each sublayer, its loss at every width from 0 up.
        costs: for each sublayer, what one unit costs.
        budget: what all units together may cost.

    Returns:
        The widths; what is left over is less than the cheapest unit's cost, unless nothing more is to be had.

    """
    step = -(-budget // STEPS)
    steps = budget // step
    best = np.zeros(steps + 1)
    choices = []
    for curve, cost in zip(curves, costs, strict=True):
        # the widest that a number of steps pays for; narrower ones are never better
        affordable = np.minimum(np.arange(steps + 1) * step // cost, len(curve) - 1)
        spent = np.unique(-(-np.arange(len(curve)) * cost // step))
        spent = spent[spent <= steps]
        total = np.full((len(spent), steps + 1), np.inf)
        for row, taken in enumerate(spent):
            total[row, taken:] = best[: steps + 1 - taken] + curve[affordable[taken]]
        choice = total.argmin(0)
        choices.append(spent[choice])
        best = total.min(0)
    left, widths = steps, []
    for number in reversed(range(len(curves))):
        taken = int(choices[number][left])
        widths.append(min(taken * step // costs[number], len(curves[number]) - 1))
        left -= taken
    return _spend(widths[::-1], curves, costs, budget)


def _spend(widths: list[int], curves: Sequence[NDArray[np.float64]], costs: Sequence[int], budget: int) -> list[int]:
    """Use up what rounding has left over, where the loss falls most for the cost."""
    left = budget - sum(width * cost for width, cost in zip(widths, costs, strict=True))
    while True:
        gains = [
            ((curve[width] - curve[width + 1]) / cost, -number)
            for number, (width, curve, cost) in enumerate(zip(widths, curves, costs, strict=True))
            if width + 1 < len(curve) and cost <= left
        ]
        if not gains:
            return widths
        number = -max(gains)[1]
        widths[number] += 1
        left -= costs[number]
