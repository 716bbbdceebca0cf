"""Regression: numbers for each text."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from kprune_export.evaluation.base import TaskLabels
from kprune_export.evaluation.fidelity import FidelityMeasure, regression_fidelity
from kprune_export.evaluation.metrics import TaskMetric, spearman
from kprune_export.evaluation.reading import labels_of, number
from kprune_export.evaluation.serving import TextServing
from kprune_export.evaluation.snippets import pipeline_snippet
from kprune_export.evaluation.text_rows import TextEvaluation
from pruning.calibration.examples import Example
from pruning.tasks import Task


class RegressionEvaluation(TextEvaluation):
    """R², and rank agreement where there is one output; Spearman's rank correlation with the labels."""

    limits: ClassVar[Mapping[str, float]] = {"r2": 0.9}
    pipeline_tag = "text-classification"
    card_metrics = ("spearmanr",)

    @classmethod
    def usage(cls, pooling: str | None) -> str:  # noqa: ARG003 - as declared
        """Return a call of transformers' pipeline, without a softmax over the numbers."""
        return pipeline_snippet("text-classification", '"a text", function_to_apply="none"')

    @classmethod
    def serving(cls, labels: Sequence[str]) -> TextServing:  # noqa: ARG003 - as declared
        """Return the numbers as they are."""
        return TextServing("none")

    @classmethod
    def read_labels(cls, task: Task, examples: Sequence[Example]) -> TaskLabels:  # noqa: ARG003 - any number fits
        """Read numbers."""
        return tuple(number(label) for label in labels_of(examples))

    def fidelity(self) -> tuple[FidelityMeasure, ...]:
        """Compare the numbers."""
        return regression_fidelity(self.dense, self.pruned)

    def _metric(self, labels: TaskLabels) -> TaskMetric:
        return spearman(self.dense[:, 0], self.pruned[:, 0], labels)
