"""Reading labels as they stand in data sets."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from kprune_export.errors import LabelError
from pruning.calibration.examples import Example, Label
from pruning.calibration.values import IGNORED, NamedClass

_GENERIC = re.compile(r"(label_)?\d{1,9}", re.IGNORECASE | re.ASCII)
_NUMERAL = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_SEPARATORS = re.compile(r"[\s_-]+")


def labels_of(examples: Sequence[Example]) -> list[Label]:
    """Return the examples' labels.

    Raises:
        LabelError: some have none.

    """
    missing = sum(example.label is None for example in examples)
    if missing:
        raise LabelError(
            f"{missing} of {len(examples)} evaluation examples have no label, so the task's metric cannot be "
            "computed: name the column with --label-column, or give labelled texts with --evaluation."
        )
    return [example.label for example in examples if example.label is not None]


@dataclass(frozen=True)
class ClassReading:
    """Labels as a model counts its classes.

    Attributes:
        indices: the model's index of each.
        order_assumed: whether some were numbers without names, taken to count the classes in the model's order.

    """

    indices: tuple[int, ...]
    order_assumed: bool


def read_classes(names: Sequence[str], labels: Sequence[Label]) -> ClassReading:
    """Find out which of a model's classes labels are.

    Names are compared without case, and without the difference between spaces, hyphens and underscores. Where either
    side has no names of its own (``LABEL_0``, ``0``), classes are taken to be counted alike; so are bare numbers,
    unless all of them are names of the model's classes, as "1" to "5" may be.

    Args:
        names: the model's names of its classes, in order.
        labels: each a name, a number, or both.

    Raises:
        LabelError: the model has no such class.

    """
    lookup = _Lookup(names, [label for label in labels if isinstance(label, int | float)])
    found = [lookup.find(label) for label in labels]
    return ClassReading(tuple(index for index, _ in found), any(assumed for _, assumed in found))


class _Lookup:
    """A model's classes by their names and numbers."""

    def __init__(self, names: Sequence[str], numbers: Sequence[float]) -> None:
        self._names = names
        self._exact = {name: index for index, name in enumerate(names)}
        keys = [_key(name) for name in names]
        self._loose = {key: index for index, key in enumerate(keys) if keys.count(key) == 1}
        self._nameless = all(map(_is_generic, names))
        self._numerals = all(_whole(x) is not None and str(_whole(x)) in self._exact for x in numbers)

    def find(self, label: Label) -> tuple[int, bool]:
        """Return the index of a class, and whether it was taken from a number.

        Raises:
            LabelError: the model has no such class.

        """
        if isinstance(label, NamedClass):
            index = self._named(label.name)
            if index is None and (self._nameless or _is_generic(label.name)):
                index, assumed = self._numbered(label.number), True
            else:
                assumed = self._nameless and _is_generic(label.name)
        elif isinstance(label, str):
            index, assumed = self._named(label), False
            if index is None and _is_generic(label):
                index, assumed = self._numbered(int(label.rpartition("_")[2])), True
        elif isinstance(label, int | float) and self._numerals:
            index, assumed = self._exact[str(_whole(label))], False
        elif isinstance(label, int | float):
            index, assumed = self._numbered(_whole(label)), True
        else:
            index, assumed = None, False
        if index is None:
            shown = label.name if isinstance(label, NamedClass) else label
            raise LabelError(f"The label {shown!r} is none of the model's: {', '.join(self._names)}.")
        return index, assumed

    def _named(self, name: str) -> int | None:
        exact = self._exact.get(name)
        return self._loose.get(_key(name)) if exact is None else exact

    def _numbered(self, number: int | None) -> int | None:
        return number if number is not None and 0 <= number < len(self._names) else None


def order_assumed(names: Sequence[str], examples: Sequence[Example]) -> bool:
    """Whether the labels of examples that were read by `read_classes` were taken to be in a model's order."""
    flat: list[Label] = []
    for example in examples:
        if isinstance(example.label, tuple):
            flat.extend(x for x in example.label if x != IGNORED)
        elif example.label is not None:
            flat.append(example.label)
    return read_classes(names, flat).order_assumed


def _key(name: str) -> str:
    return _SEPARATORS.sub(" ", name.strip().lower())


def _is_generic(name: str) -> bool:
    """Whether a name only counts: ``LABEL_3``, as transformers writes where nobody has named a class, or ``3``."""
    return bool(_GENERIC.fullmatch(name))


def _whole(number: float) -> int | None:
    return int(number) if math.isfinite(number) and number == int(number) else None


def number(label: Label) -> float:
    """Return a label that is a number.

    Raises:
        LabelError: it is none.

    """
    if isinstance(label, NamedClass) and _NUMERAL.fullmatch(label.name):
        return float(label.name)
    if isinstance(label, int | float) and math.isfinite(label):
        return float(label)
    raise LabelError(f"The label {label!r} is not a {'finite ' if isinstance(label, float) else ''}number.")
