"""Tasks with an output for each token."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.runners.base import Array
from kprune_export.errors import LabelError
from kprune_export.evaluation.alignment import check_fast, first_tokens
from kprune_export.evaluation.base import Evaluation, Outputs, TaskLabels
from kprune_export.evaluation.fidelity import (
    ClassComparison,
    FidelityMeasure,
    class_fidelity,
    compare_classes,
    mean_cosine,
    row_cosines,
    unit_rows,
)
from kprune_export.evaluation.metrics import TaskMetric
from kprune_export.evaluation.reading import labels_of, order_assumed, read_classes
from kprune_export.evaluation.retrieval_metrics import cosine_skill
from kprune_export.evaluation.retrieval_set import RetrievalSet
from kprune_export.evaluation.token_metrics import entity_f1, marks_entities, token_accuracy
from pruning.calibration.batches import Batch, encode
from pruning.calibration.examples import Example
from pruning.calibration.values import IGNORED
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.tasks import Task


class TokenLabelEvaluation(Evaluation):
    """Agreement and KL over tokens; accuracy over words, and F1 over the entities that BIO labels mark.

    A word's label is the one at its first token, as data sets for token classification are trained and scored.
    """

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
        compared = _as_arrays(compare_classes(left[counted], right[counted])) if counted.any() else {}
        return compared | {"dense": left.argmax(-1), "pruned": right.argmax(-1)}

    def take(self, batch: Batch, reduced: Outputs) -> None:
        """Keep the comparison and the labels."""
        self._comparisons += _as_comparisons(reduced)
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


class TokenFeatureEvaluation(Evaluation):
    """The mean cosine between the tokens' vectors, and its skill; there is no metric."""

    def __init__(
        self,
        checkpoint: EncoderCheckpoint,
        examples: Sequence[Example],
        labels: TaskLabels | None,
        retrieval: RetrievalSet | None = None,
    ) -> None:
        super().__init__(checkpoint, examples, labels, retrieval)
        self._cosines: list[NDArray[np.float64]] = []
        self._total: NDArray[np.float64] | float = 0.0

    @classmethod
    def read_labels(cls, task: Task, examples: Sequence[Example]) -> TaskLabels:  # noqa: ARG003 - as declared
        """Refuse: tokens' vectors are scored by nothing."""
        raise LabelError("Tokens' features have no metric of their own, so labels have no use.")

    def reduce(self, batch: Batch, dense: Outputs, pruned: Outputs) -> dict[str, Array]:
        """Compare the tokens, (tokens,)."""
        counted = batch.counted.bool().numpy()
        (left,), (right,) = dense.values(), pruned.values()
        return {"cosines": row_cosines(left[counted], right[counted]), "total": unit_rows(left[counted]).sum(0)}

    def take(self, batch: Batch, reduced: Outputs) -> None:  # noqa: ARG002 - as declared
        """Keep the cosines and the sum of the dense model's directions."""
        self._cosines.append(reduced["cosines"])
        self._total = self._total + reduced["total"]

    def fidelity(self) -> tuple[FidelityMeasure, ...]:
        """Sum up the cosines."""
        cosines = np.concatenate(self._cosines)
        skill = cosine_skill(float(cosines.mean()), np.asarray(self._total), len(cosines))
        return mean_cosine(cosines, "a token's dense and pruned vector"), skill

    def metrics(self) -> tuple[TaskMetric, ...]:
        """Return nothing."""
        return ()


class MaskedWordEvaluation(Evaluation):
    """Agreement and KL over masked tokens; how often both find the token that was masked."""

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
        return _as_arrays(compare_classes(left, right)) | hits

    def take(self, batch: Batch, reduced: Outputs) -> None:  # noqa: ARG002 - as declared
        """Keep the comparison and what was found."""
        found = _as_comparisons(reduced)
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


_COMPARED = ("dense", "pruned", "kl")


def _as_arrays(comparison: ClassComparison) -> dict[str, Array]:
    return {f"compared_{name}": getattr(comparison, name) for name in _COMPARED}


def _as_comparisons(reduced: Outputs) -> list[ClassComparison]:
    """Return the comparison of a batch, where it had a token that counts."""
    if "compared_kl" not in reduced:
        return []
    return [ClassComparison(*(reduced[f"compared_{name}"] for name in _COMPARED))]


def joined(comparisons: Sequence[ClassComparison]) -> ClassComparison:
    """Return the comparisons of several batches as one."""
    return ClassComparison(*(np.concatenate([getattr(x, name) for x in comparisons]) for name in _COMPARED))
