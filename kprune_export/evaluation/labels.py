"""Labels of examples, in the form that the task's metric takes."""

import logging
from collections.abc import Sequence

from kprune_export.errors import LabelError
from kprune_export.evaluation import EVALUATIONS
from kprune_export.evaluation.base import TaskLabels
from pruning.calibration.examples import Example
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
        return EVALUATIONS[task.kind].read_labels(task, examples)
    except LabelError as error:
        if required:
            raise
        if any(example.label is not None for example in examples):
            logger.warning("The labels are not used: %s", error)
        return None
