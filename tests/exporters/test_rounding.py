"""A value beside a limit is never rounded across it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.rounding import apart, beside, limit_text


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [
        (0.9495, 0.95, "0.9495"),
        (0.94996, 0.95, "0.94996"),
        (0.95, 0.95, "0.9500"),
        (0.9, 0.95, "0.9000"),
        (1.4549999, 1.455, "1.4549999"),
        (80.00001, 80, "80.00001"),
    ],
)
def test_a_value_beside_a_limit(value: float, limit: float, text: str) -> None:
    assert beside(value, limit) == text


def test_limits_are_shown_as_they_were_given() -> None:
    assert [limit_text(x) for x in (0.95, 80, 1.5 * 0.97, 4 * 1.03)] == ["0.95", "80", "1.455", "4.12"]


def test_an_error_beside_a_tolerance() -> None:
    assert apart(1.04e-3, 1.0e-3) == ("1.04e-03", "1.00e-03")
    assert apart(1.0004e-3, 1.0e-3) == ("1.0004e-03", "1.0000e-03")
    assert apart(float("nan"), 1.0) == ("nan", "1.00e+00")
    assert apart(2.0, 2.0) == ("2.00e+00", "2.00e+00")


@given(st.floats(-1e6, 1e6), st.integers(-(10**8), 10**8).map(lambda x: x / 10**4))
def test_the_comparison_stays_true(value: float, limit: float) -> None:
    shown, against = float(beside(value, limit)), float(limit_text(limit))
    assert (shown >= against) == (value >= limit)
    assert (shown <= against) == (value <= limit)
    nearby = limit * (1 + 1e-12) + value * 1e-15
    assert (float(beside(nearby, limit)) >= against) == (nearby >= limit)
