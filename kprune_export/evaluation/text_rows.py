"""The common part of tasks with one row of outputs for each text."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from exporters.runners.base import Array
from kprune_export.evaluation.base import Evaluation, Outputs, TaskLabels
from kprune_export.evaluation.metrics import TaskMetric
from kprune_export.evaluation.reading import order_assumed
from kprune_export.evaluation.retrieval_set import RetrievalSet
from pruning.calibration.batches import Batch
from pruning.calibration.examples import Example
from pruning.checkpoint.load import EncoderCheckpoint


class TextEvaluation(Evaluation):
    """A comparison that keeps one row of outputs for each text, in the texts' order."""

    def __init__(
        self,
        checkpoint: EncoderCheckpoint,
        examples: Sequence[Example],
        labels: TaskLabels | None,
        retrieval: RetrievalSet | None = None,
    ) -> None:
        super().__init__(checkpoint, examples, labels, retrieval)
        self.texts = checkpoint.task.texts(examples)
        self._rows: tuple[list[Array], list[Array]] = ([np.empty(0)] * len(self.texts), [np.empty(0)] * len(self.texts))

    def reduce(self, batch: Batch, dense: Outputs, pruned: Outputs) -> dict[str, Array]:  # noqa: ARG002 - as declared
        """Return the outputs, (texts, outputs)."""
        (left,), (right,) = dense.values(), pruned.values()
        return {"dense": left, "pruned": right}

    def take(self, batch: Batch, reduced: Outputs) -> None:
        """Keep the outputs."""
        for rows, name in zip(self._rows, ("dense", "pruned"), strict=True):
            for row, output in zip(batch.rows, reduced[name], strict=True):
                rows[row] = output

    @property
    def dense(self) -> Array:
        """The dense model's outputs, (texts, outputs)."""
        return np.stack(self._rows[0])

    @property
    def pruned(self) -> Array:
        """The pruned model's outputs, (texts, outputs)."""
        return np.stack(self._rows[1])

    def metrics(self) -> tuple[TaskMetric, ...]:
        """Score both, if there are labels."""
        return () if self.labels is None else (self._metric(self.labels),)

    @abstractmethod
    def _metric(self, labels: TaskLabels) -> TaskMetric:
        """Return the task's metric."""


def about_classes(metric: TaskMetric, names: Sequence[str], examples: Sequence[Example]) -> TaskMetric:
    """Return a metric about classes, marked where the labels were taken to be in the model's order.

    Args:
        metric: the metric.
        names: the model's names of its classes, in order.
        examples: the evaluation examples with their labels.

    """
    return metric.model_copy(update={"order_assumed": order_assumed(names, examples)})
