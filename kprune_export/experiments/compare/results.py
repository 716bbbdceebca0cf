"""Results of a comparison: a cell for each run, and a row for each method and rate."""

from collections.abc import Iterable, Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import Literal

from pydantic import Field

from exporters.documents import Document, Record
from kprune_export.bundle.manifest import FileRecord, SourceRecord, TextsRecord
from kprune_export.errors import BundleError
from kprune_export.evaluation.fidelity import FidelityMeasure
from kprune_export.evaluation.metrics import TaskMetric


class Layer(Record):
    """How many heads and neurons one layer keeps."""

    heads: int
    neurons: int


class Measured(Record):
    """How far one pruned model is from the dense one on held-out texts, and what pruning took.

    Attributes:
        flops_reduction: the share of FLOPs that was removed.
        divergence: the task's divergence from the dense model, mean over the texts.
        divergence_error: its standard error over the texts; None where there is one text.
        measures: how near the outputs are; the first is the headline.
        metric: the task's metric, where the texts have labels.
        retrieval: what an embedder finds, with the documents embedded again and with the dense model's stored vectors.
        seconds: what pruning took; meaningful only if nothing else ran meanwhile.
        layers: what every layer keeps.

    """

    flops_reduction: float
    divergence: float
    divergence_error: float | None
    measures: tuple[FidelityMeasure, ...]
    metric: TaskMetric | None
    retrieval: dict[str, float] = Field(default_factory=dict)
    seconds: float
    layers: tuple[Layer, ...]


class Cell(Record):
    """One finished run: measured, or refused by the method for a reason that it gave.

    Attributes:
        key: the hash of all that decides it; a cell with the same key is not run again.

    """

    method: str
    rate: float
    seed: int
    key: str
    measured: Measured | None = None
    refused: str | None = None


class Figure(Record):
    """A mean over the seeds, and its standard error: over seeds where there are several, else over the texts.

    Attributes:
        error: None where it is not known.

    """

    value: float
    error: float | None


class Row(Record):
    """One method at one rate, over all seeds. All figures are None where the method refused the rate."""

    method: str
    rate: float
    seeds: int
    flops_reduction: float | None
    divergence: Figure | None
    fidelity: Figure | None
    metric: Figure | None
    retrieval: dict[str, Figure] = Field(default_factory=dict)
    seconds: float | None
    refused: str | None

    def figure(self, name: str) -> Figure | None:
        """Return a figure by its name: ``divergence``, ``fidelity``, ``metric``, or one of retrieval's."""
        main = {"divergence": self.divergence, "fidelity": self.fidelity, "metric": self.metric}
        return main[name] if name in main else self.retrieval.get(name)


class Comparison(Document):
    """Everything that compare.json holds."""

    noun, error = "record of a comparison", BundleError
    format: Literal["kprune-comparison"] = "kprune-comparison"
    version: Literal[1] = 1
    task: str
    source: SourceRecord
    sequence_length: int
    methods: tuple[str, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    calibration: tuple[TextsRecord, ...]
    """The texts calibrated on, for each seed."""
    held_out: tuple[TextsRecord, ...]
    """The texts measured on, for each seed."""
    divergence_name: str
    fidelity_name: str | None
    metric_name: str | None
    dense_metric: float | None
    """The dense model's metric, mean over the seeds."""
    retrieval_names: tuple[str, ...] = ()
    """The figures of retrieval that were measured."""
    rows: tuple[Row, ...]
    cells: tuple[Cell, ...]
    files: tuple[FileRecord, ...] = ()
    """The table, the plot and the cells that were written with it."""

    def row(self, method: str, rate: float) -> Row:
        """Return the row of one method at one rate."""
        return next(row for row in self.rows if (row.method, row.rate) == (method, rate))


def make_row(method: str, rate: float, cells: Sequence[Cell]) -> Row:
    """Sum up one method's cells at one rate, a cell for each seed."""
    found = [cell.measured for cell in cells if cell.measured]
    if not found:
        return Row(
            method=method, rate=rate, seeds=0, flops_reduction=None, divergence=None, fidelity=None, metric=None,
            seconds=None, refused=next(cell.refused for cell in cells),
        )  # fmt: skip
    metrics = [x.metric for x in found if x.metric]
    return Row(
        method=method,
        rate=rate,
        seeds=len(found),
        flops_reduction=fmean(x.flops_reduction for x in found),
        divergence=_figure((x.divergence for x in found), found[0].divergence_error),
        fidelity=_figure((x.measures[0].value for x in found), None),
        metric=_figure((x.pruned for x in metrics), _accuracy_error(metrics[0])) if metrics else None,
        retrieval={
            name: _figure((x.retrieval[name] for x in found), None)
            for name in found[0].retrieval
            if all(name in x.retrieval for x in found)
        },
        seconds=fmean(x.seconds for x in found),
        refused=None,
    )


def best_methods(comparison: Comparison, rate: float, name: str, higher_is_better: bool) -> list[str]:
    """Return the methods with the best figure of one kind at a rate: one, or several that are equal.

    Args:
        comparison: all rows.
        rate: the rate.
        name: of a figure, as `Row.figure` takes it.
        higher_is_better: which way is better.

    """
    figures = {method: comparison.row(method, rate).figure(name) for method in comparison.methods}
    values = {method: figure.value for method, figure in figures.items() if figure is not None}
    if not values:
        return []
    best = max(values.values()) if higher_is_better else min(values.values())
    return [method for method, value in values.items() if value == best]


def _figure(values: Iterable[float], error_of_one: float | None) -> Figure:
    values = list(values)
    error = stdev(values) / sqrt(len(values)) if len(values) > 1 else error_of_one
    return Figure(value=fmean(values), error=error)


def _accuracy_error(metric: TaskMetric) -> float | None:
    """Return the binomial standard error of an accuracy; of other metrics it is not known from one figure."""
    if metric.name != "accuracy":
        return None
    return sqrt(metric.pruned * (1 - metric.pruned) / metric.examples)
