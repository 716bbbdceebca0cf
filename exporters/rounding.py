"""Rounding of a value that is shown beside a limit, so that the comparison between the two stays true."""

_MOST_DIGITS = 17
"""Enough to distinguish any float64 from its neighbours."""


def limit_text(limit: float) -> str:
    """Write a limit as it was given, up to ten significant digits: ``0.95``, ``1.455``."""
    return f"{limit:.10g}"


def beside(value: float, limit: float, digits: int = 4) -> str:
    """Write a value with as few digits as leave it on its side of a limit as `limit_text` writes that.

    0.9495 beside 0.95 is ``0.9495``, and 0.94998 is ``0.94998``: rounded to four digits it would seem to reach the
    limit.

    Args:
        value: what is shown.
        limit: what it is compared with.
        digits: after the point, at least.

    """
    shown = float(limit_text(limit))
    side = _side(value, limit)
    for count in range(digits, _MOST_DIGITS + 1):
        text = f"{value:.{count}f}"
        if _side(float(text), shown) == side:
            return text
    return repr(value)


def apart(value: float, limit: float, digits: int = 2) -> tuple[str, str]:
    """Write a value and a computed limit with exponents, both with as few digits as leave the value on its side.

    Args:
        value: what is shown.
        limit: what it is compared with, which nobody has given and which may be rounded too.
        digits: after the point, at least.

    """
    for count in range(digits, _MOST_DIGITS + 1):
        texts = f"{value:.{count}e}", f"{limit:.{count}e}"
        if _side(float(texts[0]), float(texts[1])) == _side(value, limit):
            return texts
    return repr(value), repr(limit)


def _side(value: float, limit: float) -> int:
    """Return -1 below, 0 at and 1 above the limit; NaN is on no side, as 2."""
    return -1 if value < limit else 1 if value > limit else 0 if value == limit else 2
