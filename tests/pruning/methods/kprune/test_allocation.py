from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.methods.kprune.allocation import WidthChoices, allocate, interpolate_curve


def test_curves_are_interpolated_and_never_rise() -> None:
    # measured at 4, 2, 1, 0 units; the noisy 0.5 at width 4 is above the 0.2 at width 2
    curve = interpolate_curve([4, 2, 1, 0], [0.5, 0.2, 0.6, 1.0])
    assert curve.tolist() == pytest.approx([1.0, 0.6, 0.2, 0.2, 0.2])


def test_by_hand() -> None:
    # 6 FLOPs: two heads of 2 and two neurons of 1 lose 0 + 1, one head and four neurons 3 + 0
    heads, neurons = np.array([9.0, 3.0, 0.0]), np.array([8.0, 4.0, 1.0, 0.5, 0.0])
    sublayers = [WidthChoices.of_units(heads, 2), WidthChoices.of_units(neurons, 1)]
    assert allocate(sublayers, 6) == [2, 2]
    assert allocate(sublayers, 4) == [1, 2]
    assert allocate(sublayers, 100) == [2, 4]


def test_costs_need_not_be_proportional_to_widths() -> None:
    # emptied costs nothing, 8 neurons 30, 16 neurons 40; a budget of 75 pays for 8 and 16, and not for 16 twice
    widths, costs = np.array([0, 8, 16]), np.array([0, 30, 40])
    sensitive = WidthChoices(widths, np.array([9.0, 2.0, 0.0]), costs)
    robust = WidthChoices(widths, np.array([5.0, 1.0, 0.0]), costs)
    assert allocate([sensitive, robust], 75) == [16, 8]
    assert allocate([sensitive, robust], 80) == [16, 16]
    assert allocate([sensitive, robust], 69) == [8, 8]
    assert allocate([sensitive, robust], 45) == [16, 0]


def test_widths_that_cost_as_much_as_a_wider_one_are_not_worth_having() -> None:
    choices = WidthChoices.worth_having(
        np.array([0, 8, 12, 16, 24]), np.array([4.0, 3.0, 2.0, 1.0, 0.0]), np.array([0, 30, 45, 40, 40])
    )
    assert choices.widths.tolist() == [0, 8, 24]
    assert choices.costs.tolist() == [0, 30, 40]
    assert choices.losses.tolist() == [4.0, 3.0, 0.0]


@given(
    st.lists(st.lists(st.floats(0, 10), min_size=2, max_size=5), min_size=1, max_size=4),
    st.data(),
)
def test_no_other_widths_lose_less(losses: list[list[float]], data: st.DataObject) -> None:
    curves = [np.sort(np.array(x))[::-1].copy() for x in losses]
    costs = [data.draw(st.integers(1, 4)) for _ in curves]
    budget = data.draw(st.integers(1, 30))
    widths = allocate([WidthChoices.of_units(*x) for x in zip(curves, costs, strict=True)], budget)
    spent = sum(w * c for w, c in zip(widths, costs, strict=True))
    assert spent <= budget
    best = min(
        sum(curve[w] for curve, w in zip(curves, choice, strict=True))
        for choice in product(*(range(len(curve)) for curve in curves))
        if sum(w * c for w, c in zip(choice, costs, strict=True)) <= budget
    )
    assert sum(curve[w] for curve, w in zip(curves, widths, strict=True)) == pytest.approx(best)
    affordable = [c for w, c, curve in zip(widths, costs, curves, strict=True) if w + 1 < len(curve)]
    assert not affordable or budget - spent < min(affordable)
