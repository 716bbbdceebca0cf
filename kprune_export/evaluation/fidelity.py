"""Fidelity: how near a pruned model's outputs on real texts are to the dense model's."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.special import log_expit, log_softmax

from exporters.errors import MeasurementError
from exporters.runners.base import Array
from kprune_export.evaluation.metrics import TaskMetric, rank_correlation

SKILLS = ("kappa", "cosine_skill")
"""The measures that say how much of the headline a constant answer would have too."""
_BLOCK_VALUES = 2**22


class FidelityMeasure(BaseModel):
    """One named figure of fidelity; ``better`` says in which direction."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float
    higher_is_better: bool
    description: str


class FidelityReport(BaseModel):
    """How near the pruned model is to the dense one on texts that pruning has not seen."""

    model_config = ConfigDict(frozen=True)

    format: Literal["kprune-fidelity"] = "kprune-fidelity"
    version: Literal[2] = 2
    task: str
    texts: int
    distinct_texts: int | None = None
    """How many different ones there are, each with its second text; None in reports of earlier versions."""
    documents: int | None = None
    """How many documents an embedder's searches were among; None for other tasks."""
    texts_sha256: str
    runtime: str
    instruction_sets: tuple[str, ...] = ()
    """Those of the processor that the texts were run on (`exporters.machine.description.INSTRUCTION_SETS`)."""
    measures: tuple[FidelityMeasure, ...]
    """The first is the headline, which ``--min-agreement`` is about."""
    metric: TaskMetric | None = None
    """The task's own metric, which ``--min-metric`` is about."""
    further_metrics: tuple[TaskMetric, ...] = ()
    baseline_measures: tuple[FidelityMeasure, ...] = ()
    """The same measures against the dense model in the same precision, where that is not fp32: what pruning cost."""

    @property
    def headline(self) -> FidelityMeasure:
        """The measure that stands for the whole: agreement, mean cosine, R², or rank agreement."""
        return self.measures[0]

    @property
    def metrics(self) -> tuple[TaskMetric, ...]:
        """All metrics, the task's own first; empty where there are no labels."""
        return (self.metric, *self.further_metrics) if self.metric else ()

    def figure(self, name: str) -> float | None:
        """Return the pruned model's value of a measure or metric by its name; None where it was not measured."""
        found = {x.name: x.value for x in self.measures} | {x.name: x.pruned for x in self.metrics}
        return found.get(name)


@dataclass(frozen=True)
class ClassComparison:
    """How each of some choices between classes compares: of texts, of tokens, of masked words.

    Attributes:
        dense: the class that the dense model chooses, (choices,).
        pruned: the class that the pruned model chooses, (choices,).
        kl: KL(dense ‖ pruned) in nats, float64, (choices,).

    """

    dense: NDArray[np.int64]
    pruned: NDArray[np.int64]
    kl: NDArray[np.float64]


def compare_classes(dense: Array, pruned: Array) -> ClassComparison:
    """Compare logits, (choices, classes), row by row; a few rows at a time, as a vocabulary is wide."""
    _check_pair(dense, pruned)
    kl = np.empty(len(dense))
    size = max(1, _BLOCK_VALUES // dense.shape[1])
    for start in range(0, len(dense), size):
        rows = slice(start, start + size)
        log_dense, log_pruned = (log_softmax(x[rows].astype(np.float64), axis=-1) for x in (dense, pruned))
        kl[rows] = (np.exp(log_dense) * (log_dense - log_pruned)).sum(-1)
    return ClassComparison(dense.argmax(-1), pruned.argmax(-1), kl)


def class_fidelity(comparison: ClassComparison, choice: str = "text") -> tuple[FidelityMeasure, ...]:
    """Sum up a comparison: agreement of the answers, KL(dense ‖ pruned), and Cohen's kappa.

    Args:
        comparison: of all choices.
        choice: what each choice is about, in words.

    """
    agreement = float((comparison.dense == comparison.pruned).mean())
    return (
        _agreement(agreement, f"share of {choice}s that get the same label"),
        _mean_kl(float(comparison.kl.mean()), f"mean over {choice}s of KL(dense ‖ pruned) in nats"),
        kappa(comparison.dense, comparison.pruned),
    )


def kappa(dense: NDArray[np.int64], pruned: NDArray[np.int64]) -> FidelityMeasure:
    """Compare chosen classes, (choices,), by Cohen's kappa: agreement above what chance would give.

    It is (p - e) / (1 - e), with p the share of equal choices, and e that of two models that choose each class as
    often as these do, but independently (Cohen, 1960). Where both always choose the same one class, agreement says
    nothing, and it is 0. Nothing is as large as the square of a vocabulary, unlike in scikit-learn's.
    """
    classes, places = np.unique(np.concatenate((dense, pruned)), return_inverse=True)
    often = [np.bincount(x, minlength=len(classes)) / len(dense) for x in np.split(places, 2)]
    chance, agreement = float(often[0] @ often[1]), float((dense == pruned).mean())
    return FidelityMeasure(
        name="kappa",
        value=(agreement - chance) / (1 - chance) if len(classes) > 1 else 0.0,
        higher_is_better=True,
        description="agreement above chance (Cohen's kappa): 0 is no better than chance, 1 the same",
    )


def classifier_fidelity(dense: Array, pruned: Array) -> tuple[FidelityMeasure, ...]:
    """Compare single-label logits, (texts, labels): agreement of the answers, KL(dense ‖ pruned), and kappa."""
    return class_fidelity(compare_classes(dense, pruned))


def multi_label_fidelity(dense: Array, pruned: Array) -> tuple[FidelityMeasure, ...]:
    """Compare multi-label logits, (texts, labels): agreement and kappa label by label, and KL summed over labels."""
    _check_pair(dense, pruned)
    dense64, pruned64 = dense.astype(np.float64), pruned.astype(np.float64)
    kl = sum(
        np.exp(log_expit(sign * dense64)) * (log_expit(sign * dense64) - log_expit(sign * pruned64)) for sign in (1, -1)
    )
    return (
        _agreement(float(((dense > 0) == (pruned > 0)).mean()), "share of label decisions that stay the same"),
        _mean_kl(
            float(np.asarray(kl).sum(-1).mean()), "mean over texts of KL(dense ‖ pruned), summed over labels, in nats"
        ),
        kappa((dense > 0).ravel().astype(np.int64), (pruned > 0).ravel().astype(np.int64)),
    )


def regression_fidelity(dense: Array, pruned: Array) -> tuple[FidelityMeasure, ...]:
    """Compare regression outputs, (texts, outputs): R² of the pruned outputs as predictions of the dense.

    Where there is one output, also how alike both order the texts.
    """
    _check_pair(dense, pruned)
    dense64, pruned64 = dense.astype(np.float64), pruned.astype(np.float64)  # before subtracting: they may be 16 bits
    residual = float(np.square(dense64 - pruned64).sum())
    spread = float(np.square(dense64 - dense64.mean(0)).sum())
    if spread == 0:
        raise MeasurementError(
            "The dense model gives the same output for every held-out text, so R² has no meaning: hold out more texts."
        )
    r2 = FidelityMeasure(
        name="r2", value=1 - residual / spread, higher_is_better=True, description="R² against the dense outputs"
    )
    return (r2, rank_agreement(dense[:, 0], pruned[:, 0])) if dense.shape[1] == 1 else (r2,)


def reranking_fidelity(dense: Array, pruned: Array) -> tuple[FidelityMeasure, ...]:
    """Compare a cross-encoder's scores, (pairs, 1): how alike both order the pairs, and R²."""
    return tuple(reversed(regression_fidelity(dense, pruned)))


def rank_agreement(dense: Array, pruned: Array) -> FidelityMeasure:
    """Compare the orders that two lists of scores, (pairs,), put the pairs in: Spearman's rank correlation."""
    return FidelityMeasure(
        name="rank_agreement",
        value=rank_correlation(pruned, dense),
        higher_is_better=True,
        description="Spearman's rank correlation of dense and pruned scores over all held-out texts",
    )


def unit_rows(vectors: Array) -> NDArray[np.float64]:
    """Return vectors, (rows, d), in float64 and divided by their lengths; a row of zeros stays one."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    unit: NDArray[np.float64] = wide / np.maximum(lengths, np.finfo(np.float64).tiny)
    return unit


def row_cosines(dense: Array, pruned: Array) -> NDArray[np.float64]:
    """Return the cosine between each row of two arrays (rows, d), float64: (rows,)."""
    _check_pair(dense, pruned)
    cosines: NDArray[np.float64] = (unit_rows(dense) * unit_rows(pruned)).sum(-1)
    return cosines


def mean_cosine(cosines: NDArray[np.float64], between: str) -> FidelityMeasure:
    """Sum up cosines, (rows,); ``between`` says between what."""
    return FidelityMeasure(
        name="mean_cosine",
        value=float(cosines.mean()),
        higher_is_better=True,
        description=f"mean cosine between {between}",
    )


def _mean_kl(value: float, description: str) -> FidelityMeasure:
    return FidelityMeasure(name="mean_kl_nats", value=value, higher_is_better=False, description=description)


def _agreement(value: float, description: str) -> FidelityMeasure:
    return FidelityMeasure(name="agreement", value=value, higher_is_better=True, description=description)


def _check_pair(dense: Array, pruned: Array) -> None:
    if dense.shape != pruned.shape or dense.ndim != 2 or not len(dense):
        raise MeasurementError(
            f"Outputs of shape {dense.shape} and {pruned.shape} cannot be compared: both must be (rows, outputs)."
        )
    if not (np.isfinite(dense).all() and np.isfinite(pruned).all()):
        raise MeasurementError("An output is NaN or infinite, so fidelity cannot be measured.")
