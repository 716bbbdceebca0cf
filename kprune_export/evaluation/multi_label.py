"""Multi-label classification: labels that are on or off independently, for each text."""

from collections.abc import Sequence

from kprune_export.errors import LabelError
from kprune_export.evaluation.base import CLASS_LIMITS, TaskLabels
from kprune_export.evaluation.fidelity import FidelityMeasure, multi_label_fidelity
from kprune_export.evaluation.metrics import TaskMetric, micro_f1
from kprune_export.evaluation.reading import labels_of, read_classes
from kprune_export.evaluation.serving import TextServing
from kprune_export.evaluation.snippets import pipeline_snippet
from kprune_export.evaluation.text_rows import TextEvaluation, about_classes
from pruning.calibration.examples import Example, Label
from pruning.calibration.values import NamedClass
from pruning.tasks import Task


class MultiLabelEvaluation(TextEvaluation):
    """Agreement label by label and KL; micro-averaged F1."""

    limits = CLASS_LIMITS
    pipeline_tag = "text-classification"
    card_metrics = ("f1",)

    @classmethod
    def usage(cls, pooling: str | None) -> str:  # noqa: ARG003 - as declared
        """Return a call of transformers' pipeline, for the scores of all labels."""
        return pipeline_snippet("text-classification", '"a text", top_k=None')

    @classmethod
    def serving(cls, labels: Sequence[str]) -> TextServing:  # noqa: ARG003 - as declared
        """Return the sigmoid of each label."""
        return TextServing("sigmoid")

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
        return about_classes(metric, self.checkpoint.task.labels, self.examples)


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
