"""Plot of a sweep: fidelity, and the task's metric where there is one, against latency."""

from collections.abc import Callable
from typing import Any

from kprune_export.experiments.sweep.sweep_record import SweepRecord, TrialFigures
from kprune_export.plots import drawing, svg_of

_AREA = 160.0
"""Points² of the largest model's marker."""


@drawing()
def draw(record: SweepRecord) -> str:
    """Return sweep.svg: a column for each shape, a row for fidelity and one for the metric.

    A marker's area is the size of the model's file; what is dominated is hollow, and in the row of fidelity, by which
    that is compared, a line joins the others. The same record gives the same text.
    """
    from matplotlib.figure import Figure

    made = [figures for _, figures in record.made]
    rows: list[tuple[str, Callable[[TrialFigures], float | None]]] = [
        (made[0].fidelity.name if made else "fidelity", lambda x: x.fidelity.value)
    ]
    if name := next((x.metric.name for x in made if x.metric), None):
        rows.append((name, lambda x: x.metric.pruned if x.metric else None))
    canvas = Figure(figsize=(5.4 * len(record.shapes), 3.8 * len(rows)), layout="constrained")
    panels = canvas.subplots(len(rows), len(record.shapes), squeeze=False)
    for row, ((title, value), axes) in enumerate(zip(rows, panels, strict=True)):
        for axis, shape in zip(axes, record.shapes, strict=True):
            _panel(axis, record, shape, value, joined=row == 0)
            axis.margins(0.12)
            axis.set_xlabel("median latency, ms")
            axis.set_ylabel(title.replace("_", " "))
            axis.set_title(f"at {shape}", loc="left", fontsize=10)
            axis.grid(alpha=0.25)
    if made:
        legend = panels[0][0].legend(frameon=False, fontsize=8, title="area: size of the file", title_fontsize=8)
        for handle in legend.legend_handles:
            handle.set_sizes([40.0])
    return svg_of(canvas)


def _panel(
    axis: Any, record: SweepRecord, shape: str, value: Callable[[TrialFigures], float | None], *, joined: bool
) -> None:
    largest = max((figures.size_bytes for _, figures in record.made), default=1)
    variants = list(dict.fromkeys(trial.variant for trial in record.trials))
    named: set[str] = set()
    front: list[tuple[float, float]] = []
    for trial, figures in record.made:
        at, height = figures.at(shape), value(figures)
        if height is None:
            continue
        colour = f"C{variants.index(trial.variant)}"
        axis.scatter(
            [at.p50_ms],
            [height],
            s=_AREA * figures.size_bytes / largest,
            facecolors="none" if at.dominated else colour,
            edgecolors="0.6" if at.dominated else colour,
            label=None if trial.variant in named or at.dominated else trial.variant,
            zorder=3,
        )
        if not at.dominated:
            named.add(trial.variant)
            front.append((at.p50_ms, height))
        label = ("dense" if trial.speedup is None else f"{trial.speedup:g}×") + (" (noisy)" if at.noise else "")
        axis.annotate(
            label,
            (at.p50_ms, height),
            xytext=(6, -10),
            textcoords="offset points",
            fontsize=8,
            color="0.6" if at.dominated else colour,
        )
    if joined:
        front.sort()
        axis.plot([x for x, _ in front], [y for _, y in front], color="0.7", linewidth=1, zorder=1)
