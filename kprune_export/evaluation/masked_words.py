"""Masked language modelling: the words behind masks."""

from collections.abc import Sequence

import numpy as np

from exporters.runners.base import Array
from kprune_export.evaluation.base import CLASS_LIMITS, Evaluation, Outputs, TaskLabels
from kprune_export.evaluation.class_choices import as_arrays, as_comparisons, joined
from kprune_export.evaluation.fidelity import ClassComparison, FidelityMeasure, class_fidelity, compare_classes
from kprune_export.evaluation.metrics import TaskMetric
from kprune_export.evaluation.retrieval_set import RetrievalSet
from kprune_export.evaluation.snippets import pipeline_snippet
from pruning.calibration.batches import Batch, encode
from pruning.calibration.examples import Example
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.tasks import Task


class MaskedWordEvaluation(Evaluation):
    """Agreement and KL over masked tokens; how often both find the token that was masked."""

    uses_labels = False
    limits = CLASS_LIMITS
    pipeline_tag = "fill-mask"
    card_metrics = ("accuracy",)

    def __init__(
        self,
        checkpoint: EncoderCheckpoint,
        examples: Sequence[Example],
        labels: TaskLabels | None,
        retrieval: RetrievalSet | None = None,
    ) -> None:
        super().__init__(checkpoint, examples, labels, retrieval)
        self._comparisons: list[ClassComparison] = []
        self._hits: tuple[list[bool], list[bool]] = ([], [])
        texts = checkpoint.task.texts(examples)
        self._tokens = encode(checkpoint.tokenizer, texts, checkpoint.max_tokens)["input_ids"]

    @classmethod
    def usage(cls, pooling: str | None) -> str:  # noqa: ARG003 - as declared
        """Return a call of transformers' pipeline with the tokenizer's own mask."""
        return pipeline_snippet("fill-mask", 'f"a {run.tokenizer.mask_token} text"')

    @classmethod
    def read_labels(cls, task: Task, examples: Sequence[Example]) -> TaskLabels:  # noqa: ARG003 - as declared
        """Read nothing: the masked tokens themselves are what is right."""
        return ()

    def reduce(self, batch: Batch, dense: Outputs, pruned: Outputs) -> dict[str, Array]:
        """Compare the masked tokens, and look what was there: (masked tokens,)."""
        counted = batch.counted.bool().numpy()
        if not counted.any():
            return {}
        (left,), (right,) = (tuple(x.values()) for x in (dense, pruned))
        left, right = left[counted], right[counted]
        there = [self._tokens[batch.rows[text]][place] for text, place in zip(*counted.nonzero(), strict=True)]
        hits = {"dense": left.argmax(-1) == there, "pruned": right.argmax(-1) == there}
        return as_arrays(compare_classes(left, right)) | hits

    def take(self, batch: Batch, reduced: Outputs) -> None:  # noqa: ARG002 - as declared
        """Keep the comparison and what was found."""
        found = as_comparisons(reduced)
        self._comparisons += found
        for hits, name in zip(self._hits, ("dense", "pruned"), strict=True):
            hits.extend(reduced[name].tolist() if found else ())

    def fidelity(self) -> tuple[FidelityMeasure, ...]:
        """Sum up the comparisons."""
        return class_fidelity(joined(self._comparisons), "masked token")

    def metrics(self) -> tuple[TaskMetric, ...]:
        """Return the share of masked tokens that are found."""
        dense, pruned = (float(np.mean(hits)) for hits in self._hits)
        return (TaskMetric(name="masked_accuracy", dense=dense, pruned=pruned, examples=len(self._hits[0])),)
