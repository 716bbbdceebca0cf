from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.methods.kprune.allocation import allocate, interpolate_curve


def test_curves_are_interpolated_and_never_rise() -> None:
    # measured at 4, 2, 1, 0 units; the noisy 0.5 at width 4 is above the 0.2 at width 2
    curve = interpolate_curve([4, 2, 1, 0], [0.5, 0.2, 0.6, 1.0])
    assert curve.tolist() == pytest.approx([1.0, 0.6, 0.2, 0.2, 0.2])


def test_by_hand() -> None:
    # 6 FLOPs: two heads of 2 and two neurons of 1 lose 0 + 1, one head and four neurons 3 + 0
    heads, neurons = np.array([9.0, 3.0, 0.0]), np.array([8.0, 4.0, 1.0, 0.5, 0.0])
    assert allocate([heads, neurons], [2, 1], 6) == [2, 2]
    assert allocate([heads, neurons], [2, 1], 4) == [1, 2]
    assert allocate([heads, neurons], [2, 1], 100) == [2, 4]


@given(
    st.lists(st.lists(st.floats(0, 10), min_size=2, max_size=5), min_size=1, max_size=4),
    st.data(),
)
def test_no_other_widths_lose_less(losses: list[list[float]], data: st.DataObject) -> None:
    curves = [np.sort(np.array(x))[::-1].copy() for x in losses]
    costs = [data.draw(st.integers(1, 4)) for _ in curves]
    budget = data.draw(st.integers(1, 30))
    widths = allocate(curves, costs, budget)
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
