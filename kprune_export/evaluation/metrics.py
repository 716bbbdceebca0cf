"""The task's own metric, where labels are given."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.optimize import linear_sum_assignment
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, f1_score

from exporters.errors import MeasurementError
from exporters.runners.base import Array

SHUFFLES = 20
"""How many random orders of the labels determine what chance scores: a permutation test at the level of 5 %."""


MENDED = 0.5
"""The share of the dense model's mistakes that another order of the classes must account for to be suspected: a model
that has learnt its classes is right more often than any other order would make it."""
FEWEST_MISTAKES = 10
"""Of fewer mistakes too many can be accounted for by chance."""


class TaskMetric(BaseModel):
    """A metric of dense and pruned outputs against labels; higher is better.

    Attributes:
        chance: what the dense model's answers score by chance: the best of `SHUFFLES` scores against the same labels in
            random order. None where that was not measured.
        other_order: the share of the dense model's answers that would be right if the labels counted the classes in
            another order; None where none fits much better.
        order_assumed: whether the labels were numbers without names, taken to count the model's classes in its order.

    """

    model_config = ConfigDict(frozen=True)

    name: str
    dense: float
    pruned: float
    examples: int
    chance: float | None = None
    other_order: float | None = None
    order_assumed: bool = False

    @property
    def at_chance(self) -> bool:
        """Whether the dense model itself scores no better than chance, so that the labels may not be its own."""
        return self.chance is not None and self.dense <= self.chance and self.dense < 1

    @property
    def order_doubtful(self) -> bool:
        """Whether the labels' order was assumed, and what the dense model scores speaks against it."""
        return self.order_assumed and (self.at_chance or self.other_order is not None)

    @property
    def note(self) -> str:
        """What has to be said beside the figure, as a clause; empty where nothing has."""
        found = []
        if self.at_chance:
            found.append(f"the dense model's {self.dense:.4f} is no better than chance ({self.chance:.4f})")
        if self.order_doubtful:
            found.append("the labels are numbers without names, and may count the classes in another order")
        if self.order_doubtful and self.other_order is not None:
            found.append(f"in one of these {self.other_order:.1%} of the dense model's answers would be right")
        return ": ".join((found[0], ", and ".join(found[1:]))) if len(found) > 1 else "".join(found)


def accuracy(dense: Array, pruned: Array, labels: Sequence[int]) -> TaskMetric:
    """Return the accuracy of single-label logits, (texts, labels), against label indices."""
    right, answers = np.asarray(labels), dense.argmax(-1)
    scores = [float(accuracy_score(right, logits.argmax(-1))) for logits in (dense, pruned)]
    chance = best_by_chance(lambda order: float((answers == right[order]).mean()), len(right))
    return TaskMetric(
        name="accuracy",
        dense=scores[0],
        pruned=scores[1],
        examples=len(right),
        chance=chance,
        other_order=better_order(np.eye(dense.shape[1])[answers], np.eye(dense.shape[1])[right]),
    )


def micro_f1(dense: Array, pruned: Array, labels: Sequence[Sequence[float]]) -> TaskMetric:
    """Return the micro-averaged F1 of multi-label logits, (texts, labels), against 0/1 rows."""
    right = np.asarray(labels) > 0.5
    if right.shape != dense.shape:
        raise MeasurementError(f"Labels of shape {right.shape} do not fit logits of shape {dense.shape}.")

    def score(logits: Array, wanted: NDArray[np.bool_]) -> float:
        return float(f1_score(wanted, logits > 0, average="micro", zero_division=0))

    chance = best_by_chance(lambda order: score(dense, right[order]), len(right))
    return TaskMetric(
        name="micro_f1",
        dense=score(dense, right),
        pruned=score(pruned, right),
        examples=len(right),
        chance=chance,
        other_order=better_order(dense > 0, right),
    )


def better_order(answers: NDArray[Any], right: NDArray[Any]) -> float | None:
    """Return the share of decisions that would be right with the classes in the order that fits best.

    Args:
        answers: for each choice or text, which classes are chosen: 0 or 1, (choices, classes).
        right: the same of the labels, in the order that they are taken to be in.

    Returns:
        None unless that order accounts for `MENDED` of the mistakes, and there are `FEWEST_MISTAKES` or more.

    """
    one_hot = bool((right.sum(1) == 1).all() and (answers.sum(1) == 1).all())
    both = answers.T.astype(np.float64) @ right.astype(np.float64)
    if not one_hot:  # classes that are neither chosen nor right agree too
        both += (1 - answers.T.astype(np.float64)) @ (1 - right.astype(np.float64))
    total = len(right) if one_hot else right.size
    mistakes = total - np.trace(both)
    left = total - both[linear_sum_assignment(both, maximize=True)].sum()
    if mistakes < FEWEST_MISTAKES or left > (1 - MENDED) * mistakes:
        return None
    return float(1 - left / total)


def best_by_chance(score: Callable[[NDArray[np.int64]], float], count: int) -> float:
    """Return the best score of some answers against labels in random order, of `SHUFFLES` orders; the same each time.

    Answers that have nothing to do with the labels score better than this 1 time in 21.

    Args:
        score: scores the answers against the labels in an order, given as indices, (count,).
        count: how many labels there are.

    """
    generator = np.random.default_rng(0)
    return max(score(generator.permutation(count)) for _ in range(SHUFFLES))


def spearman(dense: Array, pruned: Array, labels: Sequence[float]) -> TaskMetric:
    """Return Spearman's rank correlation of scores, (examples,), with the labels."""
    right = np.asarray(labels, dtype=np.float64)
    if len(np.unique(right)) < 2:
        raise MeasurementError("All labels are the same, so a rank correlation has no meaning.")
    scores = [rank_correlation(values, right) for values in (dense, pruned)]
    return TaskMetric(name="spearman", dense=scores[0], pruned=scores[1], examples=len(right))


def rank_correlation(values: Array, right: Array) -> float:
    """Return Spearman's rank correlation of two lists of numbers, 0 where one of them is constant."""
    values, right = values.astype(np.float64), right.astype(np.float64)  # scipy knows no bfloat16
    if (
        min(len(np.unique(values)), len(np.unique(right))) < 2
    ):  # a constant orders nothing: no correlation, where scipy gives NaN
        return 0.0
    return float(spearmanr(values, right).statistic)


def cosine_of_pairs(first: Array, second: Array) -> Array:
    """Return the cosine of each pair of embeddings: two times (pairs, d) to float64 (pairs,)."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    cosine: Array = (first * second).sum(-1) / np.maximum(lengths, np.finfo(np.float32).tiny)
    return cosine
