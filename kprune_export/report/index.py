"""Retrieval with stored vectors and with documents embedded again: whether an embedder's index can stay."""

from dataclasses import dataclass

from kprune_export.evaluation.fidelity import FidelityReport
from kprune_export.evaluation.retrieval_metrics import INDEX, METRICS, is_overlap


@dataclass(frozen=True)
class IndexRow:
    """One figure: with the dense model where it has one, with documents embedded again, and with the index kept."""

    name: str
    dense: float | None
    embedded_again: float
    index_kept: float


@dataclass(frozen=True)
class IndexTable:
    """One variant's figures; there are no rows for a model that is no embedder."""

    variant: str
    rows: tuple[IndexRow, ...]


def index_table(variant: str, report: FidelityReport) -> IndexTable:
    """Pair the figures of both ways to deploy an embedder."""
    overlaps = [x for x in report.measures if is_overlap(x.name)]
    kept = {x.name: x.value for x in report.measures} | {x.name: x.pruned for x in report.metrics}
    rows = [
        *(IndexRow(x.name, None, x.value, kept[f"{INDEX}{x.name}"]) for x in overlaps),
        *(IndexRow(x.name, x.dense, x.pruned, kept[f"{INDEX}{x.name}"]) for x in report.metrics if x.name in METRICS),
    ]
    return IndexTable(variant, tuple(rows))
