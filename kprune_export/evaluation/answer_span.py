"""Extractive question answering: the answer to a question as a span of its context."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from exporters.runners.base import Array
from kprune_export.errors import LabelError
from kprune_export.evaluation.alignment import check_fast
from kprune_export.evaluation.base import Evaluation, Outputs, TaskLabels
from kprune_export.evaluation.fidelity import FidelityMeasure
from kprune_export.evaluation.metrics import TaskMetric
from kprune_export.evaluation.reading import labels_of
from kprune_export.evaluation.retrieval_set import RetrievalSet
from kprune_export.evaluation.serving import TextServing
from kprune_export.evaluation.snippets import outputs_snippet
from kprune_export.evaluation.span_metrics import NO_ANSWER, Span, SpanLogits, answer_metrics, best_span, span_fidelity
from pruning.calibration.batches import Batch, encode
from pruning.calibration.examples import Example
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.tasks import Task


class AnswerEvaluation(Evaluation):
    """Agreement of the spans and KL of their ends; SQuAD's F1 and exact match.

    An answer lies within the context as it was cut to the model's length. Finding none is an answer too if
    some question of the evaluation has none.
    """

    # lower than the limit of `agreement`: a span counts as another one if a single token differs
    limits: ClassVar[Mapping[str, float]] = {"span_agreement": 0.8}
    pipeline_tag = "question-answering"
    card_metrics = ("squad",)
    example_texts = '[("a question?", "a context")]'

    def __init__(
        self,
        checkpoint: EncoderCheckpoint,
        examples: Sequence[Example],
        labels: TaskLabels | None,
        retrieval: RetrievalSet | None = None,
    ) -> None:
        super().__init__(checkpoint, examples, labels, retrieval)
        check_fast(checkpoint.tokenizer)
        self._encoded: Any = encode(checkpoint.tokenizer, examples, checkpoint.max_tokens)
        self._logits: tuple[dict[int, SpanLogits], dict[int, SpanLogits]] = ({}, {})

    @classmethod
    def usage(cls, pooling: str | None) -> str:  # noqa: ARG003 - as declared
        """Return a call of the model: transformers 5 has no pipeline for this task."""
        return outputs_snippet(cls.example_texts, "start_logits, outputs.end_logits")

    @classmethod
    def serving(cls, labels: Sequence[str]) -> TextServing:  # noqa: ARG003 - as declared
        """Return the answer to a question in a context, and where it is."""
        return TextServing("span", single=None, pair=("question", "context"))

    @classmethod
    def read_labels(cls, task: Task, examples: Sequence[Example]) -> TaskLabels:  # noqa: ARG003 - any text fits
        """Read the answers that are right: a text, a list of texts, or SQuAD's, where an empty list means none."""
        return tuple(_answers(label) for label in labels_of(examples))

    def reduce(self, batch: Batch, dense: Outputs, pruned: Outputs) -> dict[str, Array]:  # noqa: ARG002 - as declared
        """Return both distributions over the texts' tokens, (texts, tokens)."""
        sides = {"dense": dense, "pruned": pruned}
        return {
            f"{side}_{end}": outputs[f"{end}_logits"] for side, outputs in sides.items() for end in ("start", "end")
        }

    def take(self, batch: Batch, reduced: Outputs) -> None:
        """Keep both distributions over each text's tokens."""
        lengths = batch.attention_mask.sum(1).tolist()
        for kept, side in zip(self._logits, ("dense", "pruned"), strict=True):
            both = zip(batch.rows, reduced[f"{side}_start"], reduced[f"{side}_end"], lengths, strict=True)
            kept.update({row: SpanLogits(start[:length], end[:length]) for row, start, end, length in both})

    def fidelity(self) -> tuple[FidelityMeasure, ...]:
        """Compare the answers."""
        rows = range(len(self.examples))
        dense, pruned = ([kept[row] for row in rows] for kept in self._logits)
        return span_fidelity(dense, pruned, list(zip(*self._spans(), strict=True)))

    def metrics(self) -> tuple[TaskMetric, ...]:
        """Score the answers' texts, if the right ones are known."""
        if self.labels is None:
            return ()
        dense, pruned = ([self._text(row, span) for row, span in enumerate(spans)] for spans in self._spans())
        return answer_metrics(dense, pruned, self.labels)

    def _spans(self) -> tuple[list[Span], list[Span]]:
        """Return the span that each model chooses, question by question."""
        none_is_right = self.labels is not None and any(not answers for answers in self.labels)
        dense, pruned = (
            [best_span(kept[row], self._context(row), none_is_right) for row in range(len(self.examples))]
            for kept in self._logits
        )
        return dense, pruned

    def _context(self, row: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return np.array([part == 1 for part in self._encoded.sequence_ids(row)])

    def _text(self, row: int, span: Span) -> str:
        if span == NO_ANSWER:
            return ""
        places = self._encoded["offset_mapping"][row]
        return (self.examples[row].pair or "")[places[span[0]][0] : places[span[1]][1]]


def _answers(label: object) -> tuple[str, ...]:
    if isinstance(label, tuple) and all(isinstance(x, str) for x in label):
        return label
    if isinstance(label, str | int | float):
        return (str(label),)
    raise LabelError(f"The label {label!r} is neither an answer nor a list of answers.")
