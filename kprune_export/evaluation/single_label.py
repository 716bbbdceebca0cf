"""Single-label classification: one of several classes for each text."""

from collections.abc import Sequence

from kprune_export.evaluation.base import CLASS_LIMITS, TaskLabels
from kprune_export.evaluation.fidelity import FidelityMeasure, classifier_fidelity
from kprune_export.evaluation.metrics import TaskMetric, accuracy
from kprune_export.evaluation.reading import labels_of, read_classes
from kprune_export.evaluation.serving import TextServing
from kprune_export.evaluation.snippets import pipeline_snippet
from kprune_export.evaluation.text_rows import TextEvaluation, about_classes
from pruning.calibration.examples import Example
from pruning.tasks import Task


class SingleLabelEvaluation(TextEvaluation):
    """Agreement and KL; accuracy."""

    limits = CLASS_LIMITS
    pipeline_tag = "text-classification"
    card_metrics = ("accuracy",)

    @classmethod
    def usage(cls, pooling: str | None) -> str:  # noqa: ARG003 - as declared
        """Return a call of transformers' pipeline."""
        return pipeline_snippet("text-classification", '"a text"')

    @classmethod
    def serving(cls, labels: Sequence[str]) -> TextServing:  # noqa: ARG003 - as declared
        """Return the softmax of the classes."""
        return TextServing("softmax")

    @classmethod
    def read_labels(cls, task: Task, examples: Sequence[Example]) -> TaskLabels:
        """Read names of the model's classes, or their indices."""
        return read_classes(task.labels, labels_of(examples)).indices

    def fidelity(self) -> tuple[FidelityMeasure, ...]:
        """Compare the classes."""
        return classifier_fidelity(self.dense, self.pruned)

    def _metric(self, labels: TaskLabels) -> TaskMetric:
        return about_classes(accuracy(self.dense, self.pruned, labels), self.checkpoint.task.labels, self.examples)
