"""Labels of examples, in the form that the task's metric takes."""

import logging
from collections.abc import Sequence

from kprune_export.errors import LabelError
from kprune_export.evaluation import evaluation_of
from kprune_export.evaluation.base import TaskLabels
from pruning.calibration.examples import Example, TextSource
from pruning.tasks import Task

logger = logging.getLogger(__name__)


def task_labels(task: Task, examples: Sequence[Example], required: bool) -> TaskLabels | None:
    """Return all examples' labels for a task, or None if they have none that can be used.

    Args:
        task: the model's task.
        examples: the evaluation examples.
        required: whether labels were asked for; then unusable ones are an error, not a warning.

    Raises:
        LabelError: labels are required, and some are missing or do not fit.

    """
    try:
        return evaluation_of(task).read_labels(task, examples)
    except LabelError as error:
        if required:
            raise
        if any(example.label is not None for example in examples):
            logger.warning("The labels are not used: %s", error)
        return None


def check_label_column(task: Task, source: TextSource | None, origin: str, asked_by: str | None) -> None:
    """Say at once where no column of labels was found: an error where labels were asked for, else a note.

    Args:
        task: the model's task.
        source: what was read of the file that texts are held out of; None for the embedded texts.
        origin: its name.
        asked_by: the option that asks for labels; None where labels are used if there are some.

    Raises:
        LabelError: labels are asked for, and the file has no column that is known to hold them.

    """
    evaluation = evaluation_of(task)
    if not evaluation.uses_labels or (source is not None and source.label is not None):
        return
    columns = source.columns if source is not None else ()
    there = f"its columns are {', '.join(columns)}" if columns else "it has texts alone, and no columns"
    if asked_by is not None:
        raise LabelError(
            f"{asked_by} needs labels, but {origin} has no label column: {there}, and labels are looked for in "
            f"{', '.join(evaluation.label_columns)}. Name the column with --label-column, or give labelled texts with "
            "--evaluation."
        )
    if source is not None and source.unread:
        logger.warning(
            "%s has no label column (%s), so the task's metric is not measured; where one of %s holds labels, name it "
            "with --label-column.",
            origin,
            there,
            ", ".join(source.unread),
        )
