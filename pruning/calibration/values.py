"""From the values in a table's cells to texts, words, labels and answers."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

Label = int | float | str | tuple[float, ...] | tuple[str, ...]


class CellError(ValueError):
    """A cell is not what its column has to hold; the message continues "the column holds …"."""


def text_of(value: Any) -> str:
    """Return a cell's text without spaces around it; words are joined, and an empty or missing cell is the empty text.

    Raises:
        CellError: it holds an object, or a list of anything but words, or bytes that are not UTF-8.

    """
    if is_missing(value):
        return ""
    if isinstance(value, dict):
        raise CellError(f"an object with {_keys(value)}")
    if isinstance(value, list | tuple):
        return " ".join(_word(word) for word in value)
    return _decoded(value).strip() if isinstance(value, bytes) else str(value).strip()


def words_of(value: Any) -> tuple[str, ...] | None:
    """Return a cell's words; None where it holds no list, or an empty one.

    Raises:
        CellError: the list holds anything but words.

    """
    return tuple(_word(word) for word in value) or None if isinstance(value, list | tuple) else None


def label_of(value: Any) -> Label | None:
    """Bring a label into one form: numbers as numbers, lists as tuples, an empty or missing one (NaN too) as None."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if is_missing(value):
        return None
    if isinstance(value, dict):
        return answers_of(value)
    if isinstance(value, list | tuple):
        return _labels(value)
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, int | float):
        return value if _fits_float(value) else str(value)
    return _number_in(str(value))


def answers_of(value: Any) -> Label | None:
    """Bring answers into one form: all that are right, none where the question has no answer."""
    if isinstance(value, dict):  # as SQuAD has them: texts, and where each begins
        value = value.get("text")
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return (value.strip(),)
    return tuple(str(x) for x in value) if isinstance(value, list | tuple) else None


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: None, or NaN, which pandas writes for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _labels(values: Sequence[Any]) -> Label:
    numbers = all(isinstance(x, int | float) and _fits_float(x) for x in values)
    return tuple(float(x) for x in values) if numbers else tuple(str(x) for x in values)


def _number_in(text: str) -> Label | None:
    """Return the finite number that a text is, else the text; None for an empty one and for "nan"."""
    text = text.strip()
    for convert in (int, float):
        try:
            number = convert(text)
        except ValueError:
            continue
        if is_missing(number):
            return None
        return number if _fits_float(number) and math.isfinite(number) else text
    return text or None


def _fits_float(number: float) -> bool:
    try:
        float(number)
    except OverflowError:
        return False
    return True


def _word(value: Any) -> str:
    if isinstance(value, dict):
        raise CellError(f"a list of objects with {_keys(value)}")
    if is_missing(value) or isinstance(value, list | tuple):
        raise CellError(f"a list with {'another list' if isinstance(value, list | tuple) else 'a missing word'} in it")
    return _decoded(value) if isinstance(value, bytes) else str(value)


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise CellError(f"bytes that are not UTF-8 ({error.reason} at byte {error.start})") from error


def _keys(value: dict[Any, Any]) -> str:
    names = list(map(str, value))
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"the keys {shown}" if names else "no keys"
