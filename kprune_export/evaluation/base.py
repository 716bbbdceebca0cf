"""What is kept of both models' outputs on the held-out texts, and what is computed from it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from exporters.runners.base import Array
from kprune_export.evaluation.fidelity import FidelityMeasure
from kprune_export.evaluation.metrics import TaskMetric
from kprune_export.evaluation.retrieval_set import RetrievalSet
from pruning.calibration.batches import BATCH_SIZE, Batch
from pruning.calibration.examples import Example
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.tasks import Task

TaskLabels = tuple[Any, ...]
"""Labels in the form that the task's metric takes, one for each evaluation example."""
Outputs = Mapping[str, Array]
BATCH_VALUES = 2**26
"""About how many output values a batch may have: 256 MiB of float32 from each model."""


class Evaluation(ABC):
    """One task's way to compare two models, and to score both where labels are given.

    It is told of both models' outputs batch by batch, and keeps of each batch no more than it needs: what `reduce`
    returns, which may be kept on disk and given to `take` in another run.

    Args:
        checkpoint: the dense checkpoint.
        examples: the evaluation examples as they were read.
        labels: their labels, as `read_labels` returns them; None where there are none.
        retrieval: which of the texts are queries and documents, for an embedder; None where it is not known.

    """

    def __init__(
        self,
        checkpoint: EncoderCheckpoint,
        examples: Sequence[Example],
        labels: TaskLabels | None,
        retrieval: RetrievalSet | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.examples = examples
        self.labels = labels
        self.retrieval = retrieval

    @property
    def documents(self) -> int | None:
        """How many documents are searched; None where none are."""
        return None

    def batches(self, seed: int, largest: int = BATCH_SIZE) -> tuple[Batch, ...]:
        """Return the examples as batches, smaller ones where each token has a vocabulary of values.

        Args:
            seed: decides which tokens are masked, for a masked language model.
            largest: the most texts in a batch.

        """
        checkpoint = self.checkpoint
        values = sum((x.width or 1) * (checkpoint.max_tokens if x.per_token else 1) for x in checkpoint.task.outputs)
        return checkpoint.batches(self.examples, seed, min(largest, max(1, BATCH_VALUES // values)))

    @classmethod
    @abstractmethod
    def read_labels(cls, task: Task, examples: Sequence[Example]) -> TaskLabels:
        """Bring examples' labels into the form that the metric takes.

        Raises:
            LabelError: some are missing, or do not fit.

        """

    @abstractmethod
    def reduce(self, batch: Batch, dense: Outputs, pruned: Outputs) -> dict[str, Array]:
        """Return what is needed of both models' outputs for a batch, by name; they may hold anything in padding."""

    @abstractmethod
    def take(self, batch: Batch, reduced: Outputs) -> None:
        """Take in what `reduce` returned for a batch."""

    def add(self, batch: Batch, dense: Outputs, pruned: Outputs) -> None:
        """Take in both models' outputs for a batch, by name; they may hold anything in padding."""
        self.take(batch, self.reduce(batch, dense, pruned))

    @abstractmethod
    def fidelity(self) -> tuple[FidelityMeasure, ...]:
        """Compare the two models; the first measure is the headline."""

    @abstractmethod
    def metrics(self) -> tuple[TaskMetric, ...]:
        """Score both models; the first metric is the task's own. Empty where there is nothing to score by."""
