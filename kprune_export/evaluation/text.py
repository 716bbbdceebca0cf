"""Tasks with one output for each text."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from exporters.runners.base import Array
from kprune_export.errors import LabelError
from kprune_export.evaluation.base import Evaluation, Outputs, TaskLabels
from kprune_export.evaluation.fidelity import (
    FidelityMeasure,
    classifier_fidelity,
    multi_label_fidelity,
    regression_fidelity,
    reranking_fidelity,
)
from kprune_export.evaluation.metrics import TaskMetric, accuracy, cosine_of_pairs, micro_f1, spearman
from kprune_export.evaluation.reading import labels_of, number, order_assumed, read_classes
from kprune_export.evaluation.retrieval_metrics import Rankings, Search, embedding_fidelity
from kprune_export.evaluation.retrieval_set import RetrievalSet
from pruning.calibration.batches import Batch
from pruning.calibration.examples import Example, Label
from pruning.calibration.values import NamedClass
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.tasks import Task


class TextEvaluation(Evaluation):
    """Keeps one row of outputs a text, in the texts' order."""

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

    def _by_class(self, metric: TaskMetric) -> TaskMetric:
        """Return a metric about classes, marked where the labels were taken to be in the model's order."""
        names = self.checkpoint.task.labels
        return metric.model_copy(update={"order_assumed": order_assumed(names, self.examples)})

    @abstractmethod
    def _metric(self, labels: TaskLabels) -> TaskMetric:
        """Return the task's metric."""


class SingleLabelEvaluation(TextEvaluation):
    """Agreement and KL; accuracy."""

    @classmethod
    def read_labels(cls, task: Task, examples: Sequence[Example]) -> TaskLabels:
        """Read names of the model's classes, or their indices."""
        return read_classes(task.labels, labels_of(examples)).indices

    def fidelity(self) -> tuple[FidelityMeasure, ...]:
        """Compare the classes."""
        return classifier_fidelity(self.dense, self.pruned)

    def _metric(self, labels: TaskLabels) -> TaskMetric:
        return self._by_class(accuracy(self.dense, self.pruned, labels))


class MultiLabelEvaluation(TextEvaluation):
    """Agreement label by label and KL; micro-averaged F1."""

    @classmethod
    def read_labels(cls, task: Task, examples: Sequence[Example]) -> TaskLabels:
        """Read lists of names of the model's labels that are on, or of 0 and 1 as long as these labels."""
        labels = labels_of(examples)
        if _are_named(labels):
            return tuple(_those_on(task.labels, label) for label in labels)
        return tuple(_zeros_and_ones(len(task.labels), label) for label in labels)

    def fidelity(self) -> tuple[FidelityMeasure, ...]:
        """Compare the labels."""
        return multi_label_fidelity(self.dense, self.pruned)

    def _metric(self, labels: TaskLabels) -> TaskMetric:
        metric = micro_f1(self.dense, self.pruned, labels)
        given = [example.label for example in self.examples if example.label is not None]
        if given and not _are_named(given):  # lists of 0 and 1 are in some order, and do not say in which
            return metric.model_copy(update={"order_assumed": True})
        return self._by_class(metric)


class RegressionEvaluation(TextEvaluation):
    """R², and rank agreement where there is one output; Spearman's rank correlation with the labels."""

    @classmethod
    def read_labels(cls, task: Task, examples: Sequence[Example]) -> TaskLabels:  # noqa: ARG003 - any number fits
        """Read numbers."""
        return tuple(number(label) for label in labels_of(examples))

    def fidelity(self) -> tuple[FidelityMeasure, ...]:
        """Compare the numbers."""
        return regression_fidelity(self.dense, self.pruned)

    def _metric(self, labels: TaskLabels) -> TaskMetric:
        return spearman(self.dense[:, 0], self.pruned[:, 0], labels)


class RerankingEvaluation(RegressionEvaluation):
    """Rank agreement, and R²; Spearman's rank correlation with the labels."""

    def fidelity(self) -> tuple[FidelityMeasure, ...]:
        """Compare the scores."""
        return reranking_fidelity(self.dense, self.pruned)


class EmbeddingEvaluation(TextEvaluation):
    """Mean cosine and what searches find; with relevant documents nDCG, MRR and recall, with scored pairs Spearman's.

    Without a retrieval data set every text is looked for among all the others.
    """

    @classmethod
    def read_labels(cls, task: Task, examples: Sequence[Example]) -> TaskLabels:  # noqa: ARG003 - any number fits
        """Read the scores of pairs."""
        labels = labels_of(examples)
        if any(example.pair is None for example in examples):
            raise LabelError(
                "A sentence embedder's metric needs pairs of texts with a score, or queries with relevant documents, "
                "but single texts were given."
            )
        return tuple(number(label) for label in labels)

    def fidelity(self) -> tuple[FidelityMeasure, ...]:
        """Compare the embeddings."""
        return embedding_fidelity(self.dense, self.pruned, self._rankings)

    def metrics(self) -> tuple[TaskMetric, ...]:
        """Score searches and pairs, where there is something to score them by; searches first."""
        found = self._rankings.metrics() if self._rankings else ()
        if found and len(set(self.labels or ())) < 2:  # all pairs are relevant: nothing to correlate with
            return found
        return (*found, *super().metrics())

    @property
    def documents(self) -> int | None:
        """How many documents are searched."""
        return len(self.retrieval.documents if self.retrieval else self.texts)

    @cached_property
    def _rankings(self) -> Rankings | None:
        if len(self.texts) < 2:
            return None
        search = self.retrieval.search(self._row) if self.retrieval else Search.among(len(self.texts))
        return Rankings.of(search, self.dense, self.pruned)

    @cached_property
    def _row(self) -> dict[str, int]:
        return {example.text: place for place, example in enumerate(self.texts)}

    def _metric(self, labels: TaskLabels) -> TaskMetric:
        first = [self._row[example.text] for example in self.examples]
        second = [self._row[example.pair or ""] for example in self.examples]
        scores = [cosine_of_pairs(x[first], x[second]) for x in (self.dense, self.pruned)]
        return spearman(scores[0], scores[1], labels)


def _are_named(labels: Sequence[Label]) -> bool:
    """Whether lists of labels give names, in some of the lists at least: others may be empty."""
    return any(isinstance(x, str | NamedClass) for label in labels if isinstance(label, tuple) for x in label)


def _those_on(names: Sequence[str], label: Label) -> tuple[float, ...]:
    if not isinstance(label, tuple):
        raise LabelError(f"The label {label!r} is not a list of the labels that are on.")
    on = set(read_classes(names, label).indices)
    return tuple(float(index in on) for index in range(len(names)))


def _zeros_and_ones(count: int, label: Label) -> tuple[float, ...]:
    if isinstance(label, tuple) and len(label) == count and set(label) <= {0.0, 1.0}:
        return tuple(float(x) for x in label if isinstance(x, int | float))
    raise LabelError(f"The label {label!r} is not a list of 0 and 1 for each of {count} labels.")
