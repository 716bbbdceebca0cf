"""Plot of a latency table: what each number of heads and of neurons costs, and by how much sums are off."""

from typing import Any

from exporters.timing.latency_table.table import CostCurve, LatencyTable
from kprune_export.plots import drawing, svg_of


@drawing()
def draw(table: LatencyTable) -> str:
    """Return an SVG plot: for each shape a panel for attention and one for FFNs.

    Points are what was measured, lines what the search uses. The same table gives the same text.
    """
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(9, 3.4 * len(table.shapes)), layout="constrained")
    canvas.suptitle(
        f"{table.runtime}, {table.precision}, {table.threads} threads: what one sublayer costs", x=0.01, ha="left"
    )
    panels = canvas.subplots(len(table.shapes), 2, squeeze=False)
    for (left, right), shape in zip(panels, table.shapes, strict=True):
        for axis, curve, unit in ((left, shape.attention, "heads"), (right, shape.ffn, "neurons")):
            _draw_curve(axis, curve, shape.dense_ms)
            axis.set_xlabel(unit)
            axis.set_ylabel("ms")
            axis.set_title(
                f"{shape.shape} (dense {shape.dense_ms:.2f} ms, {shape.fixed:.0%} fixed)", loc="left", fontsize=9
            )
            axis.grid(alpha=0.25)
    panels[0][0].legend(frameon=False, fontsize=8)
    return svg_of(canvas)


def _draw_curve(axis: Any, curve: CostCurve, dense_ms: float) -> None:
    axis.plot(curve.widths, [dense_ms * x for x in curve.measured], "o", markersize=3.5, label="measured")
    axis.plot(curve.widths, [dense_ms * x for x in curve.smoothed], linewidth=1.4, label="smoothed, never falling")
    full = curve.widths[-1]
    proportional = [dense_ms * curve.smoothed[-1] * width / full for width in (0, full)]
    axis.plot((0, full), proportional, "--", color="0.5", linewidth=1, label="proportional to FLOPs")
