"""Metrics of labels of words: accuracy, and F1 over the entities that the labels mark."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exporters.errors import MeasurementError
from kprune_export.evaluation.metrics import TaskMetric, best_by_chance, better_order

Entity = tuple[str, int, int]
"""A type, the first word, and the word after the last."""


def token_accuracy(dense: Sequence[str], pruned: Sequence[str], right: Sequence[str]) -> TaskMetric:
    """Return the share of words whose label is right."""
    if not right:
        raise MeasurementError("No word with a label is left after the texts were cut, so there is nothing to measure.")
    wanted, answers = np.asarray(right), np.asarray(dense)
    classes = np.union1d(wanted, answers)
    return TaskMetric(
        name="token_accuracy",
        dense=float((answers == wanted).mean()),
        pruned=float((np.asarray(pruned) == wanted).mean()),
        examples=len(right),
        chance=best_by_chance(lambda order: float((answers[order] == wanted).mean()), len(right)),
        other_order=better_order(answers[:, None] == classes, wanted[:, None] == classes),
    )


def marks_entities(labels: Sequence[str]) -> bool:
    """Return whether a model's label names are those of the BIO scheme: O, and B-… or I-… for each type."""
    marks = [label for label in labels if label != "O"]
    return bool(marks) and all(label[:2] in ("B-", "I-") and len(label) > 2 for label in marks)


def entities(labels: Sequence[str]) -> set[Entity]:
    """Return the entities that a text's labels mark, in the BIO scheme.

    An entity begins at a B, and at an I that no label of its type precedes (as conlleval reads them); it
    continues as long as I of its type follow.
    """
    found: set[Entity] = set()
    kind, start = "", 0
    for place, label in enumerate([*labels, "O"]):
        mark, _, this = label.partition("-")
        if kind and (mark != "I" or this != kind):
            found.add((kind, start, place))
            kind = ""
        if not kind and mark in ("B", "I") and this:
            kind, start = this, place
    return found


def entity_f1(
    dense: Sequence[Sequence[str]], pruned: Sequence[Sequence[str]], right: Sequence[Sequence[str]]
) -> TaskMetric:
    """Return the micro-averaged F1 of exactly found entities over all texts, each a sequence of labels.

    Where neither side has any entity the F1 is 0.
    """
    wanted = [entities(labels) for labels in right]

    def score(side: Sequence[Sequence[str]]) -> float:
        found = [entities(labels) for labels in side]
        both = sum(len(a & b) for a, b in zip(found, wanted, strict=True))
        total = sum(map(len, found)) + sum(map(len, wanted))
        return 2 * both / total if total else 0.0

    words = [label for labels in dense for label in labels]
    ends = np.cumsum([len(labels) for labels in dense])

    def shuffled(order: NDArray[np.int64]) -> list[list[str]]:
        mixed = [words[place] for place in order.tolist()]
        return [mixed[end - len(labels) : end] for end, labels in zip(ends.tolist(), dense, strict=True)]

    return TaskMetric(
        name="entity_f1",
        dense=score(dense),
        pruned=score(pruned),
        examples=sum(map(len, wanted)),
        chance=best_by_chance(lambda order: score(shuffled(order)), len(words)),
    )
