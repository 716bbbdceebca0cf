"""Labels of examples, in the form that the task's metric takes."""

import logging
from collections.abc import Sequence

from kprune_export.errors import LabelError
from pruning.calibration.examples import Example, Label
from pruning.tasks import Task, TaskKind

logger = logging.getLogger(__name__)

TaskLabels = tuple[int, ...] | tuple[float, ...] | tuple[tuple[float, ...], ...]


def task_labels(task: Task, examples: Sequence[Example], required: bool) -> TaskLabels | None:
    """Return all examples' labels for a task, or None if they have none that can be used.

    Class labels are indices or the model's own label names; multi-label rows are 0/1 lists as long as the
    model's labels; regression and pairs of sentences have numbers.

    Args:
        task: the model's task.
        examples: the evaluation examples.
        required: whether labels were asked for; then unusable ones are an error, not a warning.

    Raises:
        LabelError: labels are required, and some are missing or do not fit.

    """
    try:
        return _convert(task, examples)
    except LabelError as error:
        if required:
            raise
        if any(example.label is not None for example in examples):
            logger.warning("The labels are not used: %s", error)
        return None


def _convert(task: Task, examples: Sequence[Example]) -> TaskLabels:
    missing = sum(example.label is None for example in examples)
    if missing:
        raise LabelError(
            f"{missing} of {len(examples)} evaluation examples have no label, so the task's metric cannot be "
            "computed: name the column with --label-column, or give labelled texts with --evaluation."
        )
    if task.kind is TaskKind.EMBEDDING and any(example.pair is None for example in examples):
        raise LabelError("A sentence embedder's metric needs pairs of texts with a score, but single texts were given.")
    labels = [example.label for example in examples if example.label is not None]
    if task.kind is TaskKind.SINGLE_LABEL:
        return tuple(_class_index(task, label) for label in labels)
    if task.kind is TaskKind.MULTI_LABEL:
        return tuple(_row(task, label) for label in labels)
    return tuple(_number(label) for label in labels)


def _class_index(task: Task, label: Label) -> int:
    if isinstance(label, str):
        names = [name.lower() for name in task.labels]
        if label.lower() in names:
            return names.index(label.lower())
    elif not isinstance(label, tuple) and label == int(label) and 0 <= label < len(task.labels):
        return int(label)
    raise LabelError(f"The label {label!r} is none of the model's: {', '.join(task.labels)}.")


def _row(task: Task, label: Label) -> tuple[float, ...]:
    if isinstance(label, tuple) and len(label) == len(task.labels) and set(label) <= {0.0, 1.0}:
        return label
    raise LabelError(f"The label {label!r} is not a list of 0 and 1 for each of {len(task.labels)} labels.")


def _number(label: Label) -> float:
    if isinstance(label, int | float):
        return float(label)
    raise LabelError(f"The label {label!r} is not a number.")
