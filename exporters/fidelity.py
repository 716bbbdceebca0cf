"""Fidelity: how near a pruned model's outputs on real texts are to the dense model's."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.special import log_expit, log_softmax

from exporters.errors import MeasurementError
from exporters.metrics import TaskMetric, rank_correlation
from exporters.runners.base import Array

NEIGHBOURS = 10
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
    version: Literal[1] = 1
    task: str
    texts: int
    texts_sha256: str
    runtime: str
    instruction_sets: tuple[str, ...] = ()
    """Those of the processor that the texts were run on (`exporters.machine.INSTRUCTION_SETS`)."""
    measures: tuple[FidelityMeasure, ...]
    """The first is the headline, which ``--min-agreement`` is about."""
    metric: TaskMetric | None = None
    """The task's own metric, which ``--min-metric`` is about."""
    further_metrics: tuple[TaskMetric, ...] = ()
    twin_measures: tuple[FidelityMeasure, ...] = ()
    """The same measures against the dense model in the same precision, where that is not fp32: what pruning cost."""

    @property
    def headline(self) -> FidelityMeasure:
        """The measure that stands for the whole: agreement, mean cosine, R², or rank agreement."""
        return self.measures[0]


@dataclass(frozen=True)
class ClassComparison:
    """How each of some choices between classes compares: of texts, of tokens, of masked words.

    Attributes:
        agrees: whether both models choose the same class, (choices,).
        kl: KL(dense ‖ pruned) in nats, float64, (choices,).

    """

    agrees: NDArray[np.bool_]
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
    return ClassComparison(dense.argmax(-1) == pruned.argmax(-1), kl)


def class_fidelity(comparison: ClassComparison, choice: str = "text") -> tuple[FidelityMeasure, ...]:
    """Sum up a comparison: agreement of the answers, and KL(dense ‖ pruned).

    Args:
        comparison: of all choices.
        choice: what each choice is about, in words.

    """
    return (
        _agreement(float(comparison.agrees.mean()), f"share of {choice}s that get the same label"),
        _mean_kl(float(comparison.kl.mean()), f"mean over {choice}s of KL(dense ‖ pruned) in nats"),
    )


def classifier_fidelity(dense: Array, pruned: Array) -> tuple[FidelityMeasure, ...]:
    """Compare single-label logits, (texts, labels): agreement of the answers, and KL(dense ‖ pruned)."""
    return class_fidelity(compare_classes(dense, pruned))


def multi_label_fidelity(dense: Array, pruned: Array) -> tuple[FidelityMeasure, ...]:
    """Compare multi-label logits, (texts, labels): agreement label by label, and KL summed over labels."""
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


def embedding_fidelity(dense: Array, pruned: Array) -> tuple[FidelityMeasure, ...]:
    """Compare embeddings, (texts, d): mean cosine, and how many of each text's neighbours stay.

    The overlap is the mean share of a text's 10 nearest other texts by cosine (fewer where there are
    fewer texts) that are the same before and after pruning.
    """
    _check_pair(dense, pruned)
    dense_unit, pruned_unit = _unit(dense), _unit(pruned)
    neighbours = min(NEIGHBOURS, len(dense) - 1)
    measures = [mean_cosine((dense_unit * pruned_unit).sum(-1), "a text's dense and pruned embedding")]
    if neighbours:
        before, after = (_nearest(x, neighbours) for x in (dense_unit, pruned_unit))
        shared = [len(set(a) & set(b)) / neighbours for a, b in zip(before.tolist(), after.tolist(), strict=True)]
        measures.append(
            FidelityMeasure(
                name=f"top_{neighbours}_overlap",
                value=float(np.mean(shared)),
                higher_is_better=True,
                description=f"share of each text's {neighbours} nearest texts that stay the same",
            )
        )
    return tuple(measures)


def row_cosines(dense: Array, pruned: Array) -> NDArray[np.float64]:
    """Return the cosine between each row of two arrays (rows, d), float64: (rows,)."""
    _check_pair(dense, pruned)
    cosines: NDArray[np.float64] = (_unit(dense) * _unit(pruned)).sum(-1)
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


def _unit(vectors: Array) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    unit: NDArray[np.float64] = wide / np.maximum(lengths, np.finfo(np.float64).tiny)
    return unit


def _nearest(unit: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    nearest: NDArray[np.int64] = np.argsort(-similarity, axis=-1, kind="stable")[:, :count]
    return nearest


def _check_pair(dense: Array, pruned: Array) -> None:
    if dense.shape != pruned.shape or dense.ndim != 2 or not len(dense):
        raise MeasurementError(
            f"Outputs of shape {dense.shape} and {pruned.shape} cannot be compared: both must be (rows, outputs)."
        )
    if not (np.isfinite(dense).all() and np.isfinite(pruned).all()):
        raise MeasurementError("An output is NaN or infinite, so fidelity cannot be measured.")
