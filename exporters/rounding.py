"""Rounding of a value that is shown beside a limit, so that the comparison between the two stays true."""

from typing import Literal

Style = Literal["f", "e"]
_MOST_DIGITS = 17
"""Enough for any float64 to be told from its neighbours."""


def limit_text(limit: float) -> str:
    """Write a limit as it was given, up to ten significant digits: ``0.95``, ``1.455``."""
    return f"{limit:.10g}"


def beside(value: float, limit: float, digits: int = 4, style: Style = "f") -> str:
    """Write a value with as few digits as leave it on its side of a limit as `limit_text` writes that.

    0.9495 beside 0.95 is ``0.9495``, and 0.94998 is ``0.94998``: rounded to four digits it would seem to reach the
    limit.

    Args:
        value: what is shown.
        limit: what it is compared with.
        digits: after the point, at least.
        style: ``f`` for decimals, ``e`` for an exponent.

    """
    shown = float(limit_text(limit))
    side = _side(value, limit)
    for count in range(digits, _MOST_DIGITS + 1):
        text = f"{value:.{count}{style}}"
        if _side(float(text), shown) == side:
            return text
    return repr(value)


def _side(value: float, limit: float) -> int:
    """Return -1 below, 0 at and 1 above the limit; NaN is on no side, as 2."""
    return -1 if value < limit else 1 if value > limit else 0 if value == limit else 2
