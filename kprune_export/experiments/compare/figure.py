"""Plot of a comparison: the task's metric, where there is one, and the divergence, over FLOPs removed."""

from typing import Any

from kprune_export.experiments.compare.results import Comparison, Figure
from kprune_export.experiments.compare.table import tables
from kprune_export.plots import drawing, svg_of

_MARKERS = "osD^vPX*"


@drawing()
def draw(comparison: Comparison) -> str:
    """Return compare.svg: a panel for the divergence, on a logarithmic scale, and one for the metric.

    Error bars are standard errors. The same comparison gives the same text.
    """
    from matplotlib.figure import Figure as Canvas

    panels = [panel for panel in tables(comparison) if panel[0] in ("divergence", "metric")]
    canvas = Canvas(figsize=(5.6 * len(panels), 4.2), layout="constrained")
    for axis, (name, title, _) in zip(canvas.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for number, method in enumerate(comparison.methods):
            _line(axis, comparison, method, name, number)
        if name == "metric" and comparison.dense_metric is not None:
            axis.axhline(comparison.dense_metric, color="0.4", linestyle="--", linewidth=1, label="dense")
        if name == "divergence" and axis.lines and min(y for line in axis.lines for y in line.get_ydata()) > 0:
            axis.set_yscale("log")
        axis.set_xlabel("FLOPs removed, %")
        axis.set_title(title, loc="left", fontsize=10)
        axis.grid(alpha=0.25)
    canvas.axes[0].legend(frameon=False)
    return svg_of(canvas)


def _line(axis: Any, comparison: Comparison, method: str, name: str, number: int) -> None:
    rows = [comparison.row(method, rate) for rate in comparison.rates]
    points: list[tuple[float, Figure]] = [
        (100 * row.flops_reduction, figure)
        for row in rows
        if row.flops_reduction is not None and (figure := row.figure(name)) is not None
    ]
    if points:
        axis.errorbar(
            [x for x, _ in points],
            [figure.value for _, figure in points],
            yerr=[figure.error or 0.0 for _, figure in points],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=4,
            capsize=3,
            linewidth=1.4,
            label=method,
        )
