"""Reading labels as they stand in data sets."""

import math
from collections.abc import Sequence

from kprune_export.errors import LabelError
from pruning.calibration.examples import Example, Label


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


def class_index(names: Sequence[str], label: Label) -> int:
    """Return the index of a class that is given by its index or by the model's name for it.

    Raises:
        LabelError: the model has no such class.

    """
    if isinstance(label, str):
        lowered = [name.lower() for name in names]
        if label.lower() in lowered:
            return lowered.index(label.lower())
    elif isinstance(label, int | float) and math.isfinite(label) and label == int(label) and 0 <= label < len(names):
        return int(label)
    raise LabelError(f"The label {label!r} is none of the model's: {', '.join(names)}.")


def number(label: Label) -> float:
    """Return a label that is a number.

    Raises:
        LabelError: it is none.

    """
    if isinstance(label, int | float) and math.isfinite(label):
        return float(label)
    raise LabelError(f"The label {label!r} is not a {'finite ' if isinstance(label, float) else ''}number.")
