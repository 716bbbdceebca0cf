"""Fidelity: how near a pruned model's outputs on real texts are to the dense model's."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.special import log_expit, log_softmax

from exporters.errors import MeasurementError
from exporters.metrics import TaskMetric
from exporters.runners.base import Array

NEIGHBOURS = 10


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
    measures: tuple[FidelityMeasure, ...]
    """The first is the headline, which ``--min-agreement`` is about."""
    metric: TaskMetric | None = None

    @property
    def headline(self) -> FidelityMeasure:
        """The measure that stands for the whole: agreement, mean cosine, or R²."""
        return self.measures[0]


def classifier_fidelity(dense: Array, pruned: Array) -> tuple[FidelityMeasure, ...]:
    """Compare single-label logits, (texts, labels): agreement of the answers, and KL(dense ‖ pruned)."""
    _check_pair(dense, pruned)
    log_dense, log_pruned = (log_softmax(x.astype(np.float64), axis=-1) for x in (dense, pruned))
    agreement = float((dense.argmax(-1) == pruned.argmax(-1)).mean())
    kl = float((np.exp(log_dense) * (log_dense - log_pruned)).sum(-1).mean())
    return (
        _agreement(agreement, "share of texts that get the same label"),
        FidelityMeasure(
            name="mean_kl_nats",
            value=kl,
            higher_is_better=False,
            description="mean KL(dense ‖ pruned) in nats",
        ),
    )


def multi_label_fidelity(dense: Array, pruned: Array) -> tuple[FidelityMeasure, ...]:
    """Compare multi-label logits, (texts, labels): agreement label by label, and KL summed over labels."""
    _check_pair(dense, pruned)
    dense64, pruned64 = dense.astype(np.float64), pruned.astype(np.float64)
    kl = sum(
        np.exp(log_expit(sign * dense64)) * (log_expit(sign * dense64) - log_expit(sign * pruned64)) for sign in (1, -1)
    )
    return (
        _agreement(float(((dense > 0) == (pruned > 0)).mean()), "share of label decisions that stay the same"),
        FidelityMeasure(
            name="mean_kl_nats",
            value=float(np.asarray(kl).sum(-1).mean()),
            higher_is_better=False,
            description="mean over texts of KL(dense ‖ pruned), summed over labels, in nats",
        ),
    )


def regression_fidelity(dense: Array, pruned: Array) -> tuple[FidelityMeasure, ...]:
    """Compare regression outputs, (texts, outputs): R² of the pruned outputs as predictions of the dense."""
    _check_pair(dense, pruned)
    residual = float(np.square(dense - pruned, dtype=np.float64).sum())
    spread = float(np.square(dense - dense.mean(0), dtype=np.float64).sum())
    if spread == 0:
        raise MeasurementError(
            "The dense model gives the same output for every held-out text, so R² has no meaning: hold out more texts."
        )
    return (
        FidelityMeasure(
            name="r2",
            value=1 - residual / spread,
            higher_is_better=True,
            description="R² against the dense outputs",
        ),
    )


def embedding_fidelity(dense: Array, pruned: Array) -> tuple[FidelityMeasure, ...]:
    """Compare embeddings, (texts, d): mean cosine, and how many of each text's neighbours stay.

    The overlap is the mean share of a text's 10 nearest other texts by cosine (fewer where there are
    fewer texts) that are the same before and after pruning.
    """
    _check_pair(dense, pruned)
    dense_unit, pruned_unit = _unit(dense), _unit(pruned)
    cosine = float((dense_unit * pruned_unit).sum(-1).mean())
    neighbours = min(NEIGHBOURS, len(dense) - 1)
    measures = [
        FidelityMeasure(
            name="mean_cosine",
            value=cosine,
            higher_is_better=True,
            description="mean cosine between a text's dense and pruned embedding",
        )
    ]
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
            f"Outputs of shape {dense.shape} and {pruned.shape} cannot be compared: both must be (texts, outputs)."
        )
    if not (np.isfinite(dense).all() and np.isfinite(pruned).all()):
        raise MeasurementError("An output is NaN or infinite, so fidelity cannot be measured.")
