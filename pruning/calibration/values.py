"""From the values in a table's cells to texts, words, labels and answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

NO_CLASS = -1
"""The number that Hugging Face data sets give to rows whose class is not known."""
IGNORED = -100
"""The label that data sets give to words that are not to be scored, as torch's losses do."""


@dataclass(frozen=True)
class NamedClass:
    """A class as a data set gives it; a model may count the same classes in another order.

    Attributes:
        number: its place among the data set's classes.
        name: what the data set calls it.

    """

    number: int
    name: str


Label = int | float | str | NamedClass | tuple[float, ...] | tuple[str, ...] | tuple[NamedClass | int, ...]


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


def name_classes(value: Any, names: Sequence[str]) -> Any:
    """Return a cell with each number in it that counts a data set's classes as a `NamedClass`.

    Args:
        value: a number, or a list of numbers.
        names: the classes' names, in the data set's order; none where it has no such names.

    """
    if isinstance(value, list | tuple) and names:
        return [IGNORED if x == NO_CLASS else name_classes(x, names) for x in value]
    if isinstance(value, int) and names:
        if value == NO_CLASS:
            return None
        return NamedClass(int(value), names[value]) if 0 <= value < len(names) else value
    return value


def label_of(value: Any) -> Label | None:
    """Bring a label into one form: numbers as numbers, lists as tuples, an empty or missing one (NaN too) as None."""
    if isinstance(value, NamedClass):
        return value
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
    if any(isinstance(x, NamedClass) for x in values):
        return tuple(x if isinstance(x, NamedClass) else int(x) for x in values)
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
