"""The task's own metric, where labels are given."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, f1_score

from exporters.errors import MeasurementError
from exporters.runners.base import Array


class TaskMetric(BaseModel):
    """A metric of dense and pruned outputs against labels; higher is better."""

    model_config = ConfigDict(frozen=True)

    name: str
    dense: float
    pruned: float
    examples: int


def accuracy(dense: Array, pruned: Array, labels: Sequence[int]) -> TaskMetric:
    """Return the accuracy of single-label logits, (texts, labels), against label indices."""
    right = np.asarray(labels)
    scores = [float(accuracy_score(right, logits.argmax(-1))) for logits in (dense, pruned)]
    return TaskMetric(name="accuracy", dense=scores[0], pruned=scores[1], examples=len(right))


def micro_f1(dense: Array, pruned: Array, labels: Sequence[Sequence[float]]) -> TaskMetric:
    """Return the micro-averaged F1 of multi-label logits, (texts, labels), against 0/1 rows."""
    right = np.asarray(labels) > 0.5
    if right.shape != dense.shape:
        raise MeasurementError(f"Labels of shape {right.shape} do not fit logits of shape {dense.shape}.")
    scores = [float(f1_score(right, logits > 0, average="micro", zero_division=0)) for logits in (dense, pruned)]
    return TaskMetric(name="micro_f1", dense=scores[0], pruned=scores[1], examples=len(right))


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
