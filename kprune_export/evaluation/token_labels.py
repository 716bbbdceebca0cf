"""Token classification: one of several classes for each token."""

from collections.abc import Sequence
from typing import Any

from exporters.runners.base import Array
from kprune_export.errors import LabelError
from kprune_export.evaluation.alignment import check_fast, first_tokens
from kprune_export.evaluation.base import CLASS_LIMITS, Evaluation, Outputs, TaskLabels
from kprune_export.evaluation.class_choices import as_arrays, as_comparisons, joined
from kprune_export.evaluation.fidelity import ClassComparison, FidelityMeasure, class_fidelity, compare_classes
from kprune_export.evaluation.metrics import TaskMetric
from kprune_export.evaluation.reading import labels_of, order_assumed, read_classes
from kprune_export.evaluation.retrieval_set import RetrievalSet
from kprune_export.evaluation.serving import TextServing
from kprune_export.evaluation.snippets import pipeline_snippet
from kprune_export.evaluation.token_metrics import entity_f1, marks_entities, token_accuracy
from pruning.calibration.batches import Batch, encode
from pruning.calibration.examples import TAG_COLUMNS, Example
from pruning.calibration.values import IGNORED
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.tasks import Task


class TokenLabelEvaluation(Evaluation):
    """Agreement and KL over tokens; accuracy over words, and F1 over the entities that BIO labels mark.

    A word's label is the one at its first token, as data sets for token classification are trained and scored.
    """

    label_columns = TAG_COLUMNS
    limits = CLASS_LIMITS
    pipeline_tag = "token-classification"
    card_metrics = ("seqeval",)

    def __init__(
        self,
        checkpoint: EncoderCheckpoint,
        examples: Sequence[Example],
        labels: TaskLabels | None,
        retrieval: RetrievalSet | None = None,
    ) -> None:
        super().__init__(checkpoint, examples, labels, retrieval)
        if labels is not None:
            check_fast(checkpoint.tokenizer)
        self._comparisons: list[ClassComparison] = []
        self._chosen: tuple[dict[int, Array], dict[int, Array]] = ({}, {})

    @classmethod
    def usage(cls, pooling: str | None) -> str:  # noqa: ARG003 - as declared
        """Return a call of transformers' pipeline."""
        return pipeline_snippet("token-classification", '"a text"')

    @classmethod
    def serving(cls, labels: Sequence[str]) -> TextServing:
        """Return labelled words of a text, or entities where the labels are those of the BIO scheme."""
        return TextServing("entities" if marks_entities(labels) else "words", pair=None)

    @classmethod
    def read_labels(cls, task: Task, examples: Sequence[Example]) -> TaskLabels:
        """Read, for each word, a class index, one of the model's label names, or -100 for a word to pass over."""
        rows: list[tuple[Any, ...]] = []
        for example, label in zip(examples, labels_of(examples), strict=True):
            if example.words is None or not isinstance(label, tuple):
                raise LabelError(
                    "A token classifier's metric needs a list of words and a list with a label for each, in columns "
                    "such as tokens and ner_tags."
                )
            if len(label) != len(example.words):
                raise LabelError(
                    f"{example.text[:80]!r} has {len(example.words)} words, but labels for {len(label)}: every word "
                    "needs one."
                )
            rows.append(label)
        known = iter(read_classes(task.labels, [x for label in rows for x in label if x != IGNORED]).indices)
        return tuple(tuple(IGNORED if x == IGNORED else next(known) for x in label) for label in rows)

    def reduce(self, batch: Batch, dense: Outputs, pruned: Outputs) -> dict[str, Array]:
        """Compare the tokens that count, (tokens,), and return which labels both choose, (texts, tokens)."""
        counted = batch.counted.bool().numpy()
        (left,), (right,) = dense.values(), pruned.values()
        compared = as_arrays(compare_classes(left[counted], right[counted])) if counted.any() else {}
        return compared | {"dense": left.argmax(-1), "pruned": right.argmax(-1)}

    def take(self, batch: Batch, reduced: Outputs) -> None:
        """Keep the comparison and the labels."""
        self._comparisons += as_comparisons(reduced)
        if self.labels is not None:
            for chosen, name in zip(self._chosen, ("dense", "pruned"), strict=True):
                chosen.update(zip(batch.rows, reduced[name], strict=True))

    def fidelity(self) -> tuple[FidelityMeasure, ...]:
        """Sum up the comparisons."""
        return class_fidelity(joined(self._comparisons), "token")

    def metrics(self) -> tuple[TaskMetric, ...]:
        """Score the words' labels, if there are any."""
        if self.labels is None:
            return ()
        names = self.checkpoint.task.labels
        encoded = encode(self.checkpoint.tokenizer, self.examples, self.checkpoint.max_tokens)
        right: list[list[str]] = []
        chosen: tuple[list[list[str]], list[list[str]]] = ([], [])
        for row, (example, labels) in enumerate(zip(self.examples, self.labels, strict=True)):
            places = first_tokens(example.words or (), encoded, row)
            scored = [
                (place, label)
                for place, label in zip(places, labels, strict=True)
                if place is not None and label != IGNORED
            ]
            right.append([names[label] for _, label in scored])
            for side, found in zip(chosen, self._chosen, strict=True):
                side.append([names[found[row][place]] for place, _ in scored])
        flat = [[label for text in side for label in text] for side in (*chosen, right)]
        words = token_accuracy(*flat)
        metrics = (entity_f1(*chosen, right), words) if marks_entities(names) else (words,)
        order = {"order_assumed": order_assumed(names, self.examples), "other_order": words.other_order}
        return tuple(metric.model_copy(update=order) for metric in metrics)
