"""The interface of tasks outside of pruning: evaluation, words for report and model card, serving."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from exporters.runners.base import Array
from kprune_export.evaluation.fidelity import FidelityMeasure
from kprune_export.evaluation.metrics import TaskMetric
from kprune_export.evaluation.retrieval_set import RetrievalSet
from kprune_export.evaluation.serving import TextServing
from kprune_export.evaluation.snippets import CardWords, transformers_card_snippet
from pruning.calibration.batches import BATCH_SIZE, Batch
from pruning.calibration.examples import LABEL_COLUMNS, Example
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.tasks import Task

TaskLabels = tuple[Any, ...]
"""Labels in the form that the task's metric takes, one for each evaluation example."""
Outputs = Mapping[str, Array]
BATCH_VALUES = 2**26
"""About how many output values a batch may have: 256 MiB of float32 from each model."""
CLASS_LIMITS: Mapping[str, float] = {"agreement": 0.9, "kappa": 0.6}
"""The default limits of tasks that choose classes."""
VECTOR_LIMITS: Mapping[str, float] = {"mean_cosine": 0.9, "cosine_skill": 0.6}
"""The default limits of tasks whose outputs are vectors."""


class Evaluation(ABC):
    """Everything that depends on a task outside of pruning; one subclass for each task of `pruning.tasks`.

    The class describes the task: its labels, default limits, words for report and model card, and how it is served. An
    instance is one comparison of two models, with their scores where labels are given. It gets both models' outputs
    batch by batch, and keeps of each batch no more than it needs: what `reduce` returns, which may be kept on disk and
    given to `take` in another run.

    Args:
        checkpoint: the dense checkpoint.
        examples: the evaluation examples as they were read.
        labels: their labels, as `read_labels` returns them; None where there are none.
        retrieval: which of the texts are queries and documents, where the task `searches`; None where it is not known.

    """

    uses_labels: ClassVar[bool] = True
    """Whether the task's metric needs labels; False where it has none, or finds them in the texts themselves."""
    label_columns: ClassVar[tuple[str, ...]] = LABEL_COLUMNS
    """Names of columns that labels are looked for in."""
    searches: ClassVar[bool] = False
    """Whether outputs are searched with, so that retrieval data sets and gates about retrieval can be used."""
    limits: ClassVar[Mapping[str, float]] = {}
    """Values of measures below which a run warns, by name: low by any standard. `default_limit` reads them."""
    pipeline_tag: ClassVar[str]
    """The task's name at https://huggingface.co/docs/hub/models-tasks."""
    card_metrics: ClassVar[tuple[str, ...]] = ()
    """The metrics that such a model is scored by here, under their names at https://huggingface.co/evaluate-metric."""
    example_texts: ClassVar[str] = '["a text"]'
    """A list of one example for a tokenizer, as Python."""

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

    @classmethod
    def default_limit(cls, measure: str) -> float | None:
        """Return the value of a measure below which a run warns; None where there is none."""
        return cls.limits.get(measure)

    @classmethod
    def card(cls, checkpoint: EncoderCheckpoint) -> CardWords:
        """Return the words for a checkpoint's model card; those for plain transformers unless a task has others."""
        return CardWords("transformers", cls.pipeline_tag, transformers_card_snippet(checkpoint))

    @classmethod
    @abstractmethod
    def usage(cls, pooling: str | None) -> str:
        """Return Python for the report that opens a bundle's checkpoint and runs it.

        Args:
            pooling: how tokens' vectors are pooled, where no head of the model reads them.

        """

    @classmethod
    def serving(cls, labels: Sequence[str]) -> TextServing | None:  # noqa: ARG003 - tasks may read it
        """Return how texts are served; None where only the encoder's outputs can be.

        Args:
            labels: the model's labels, in order.

        """
        return None

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
