"""The report's plots, as SVG that takes its colours and its font from the page around it.

Each panel is a separate plot, so that the page can put them side by side or, on a phone, below each other.
"""

import re
from collections.abc import Sequence
from typing import Any

from exporters.timing.latency import ShapeLatency
from kprune_export.plots import drawing, svg_of
from pruning.plan import PruningPlan

INK, DENSE, PRUNED, FAINT = "#010101", "#020202", "#030303", "#040404"
"""Stand-ins that are replaced by the page's colours, so that one plot is right in light and dark."""
_PAGE_COLOURS = {INK: "currentColor", DENSE: "var(--dense)", PRUNED: "var(--pruned)", FAINT: "var(--faint)"}


@drawing()
def widths_figure(plan: PruningPlan) -> str:
    """Draw what every layer keeps: heads and neurons, over the dense widths."""
    plots = []
    layers = range(plan.shape.layers)
    parts = (
        ("attention heads", plan.shape.heads, [len(layer.heads) for layer in plan.layers]),
        ("FFN neurons", plan.shape.neurons, [len(layer.neurons) for layer in plan.layers]),
    )
    for title, dense, kept in parts:
        figure, axis = _panel(height=0.55 + 0.32 * plan.shape.layers)
        axis.barh(layers, [dense] * len(kept), color=FAINT, height=0.72)
        axis.barh(layers, kept, color=PRUNED, height=0.72)
        for layer, width in enumerate(kept):
            axis.text(dense * 1.02, layer, str(width) if width else "none", va="center", color=INK)
        axis.set_title(f"{title} kept of {dense}", color=INK, loc="left")
        axis.set_yticks(list(layers), [f"layer {layer}" for layer in layers])
        axis.set_xlim(0, dense * 1.18)
        axis.set_xticks([])
        axis.invert_yaxis()
        plots.append(_svg(figure, f"{title} that each layer keeps"))
    return "".join(plots)


@drawing()
def latency_figure(shapes: Sequence[ShapeLatency]) -> str:
    """Draw each shape's distribution of call times, dense and pruned."""
    plots = []
    for shape in shapes:
        figure, axis = _panel(height=2.4)
        low = 0.95 * min(min(shape.dense.samples_ms), min(shape.pruned.samples_ms))
        high = 1.05 * max(shape.dense.p99_ms, shape.pruned.p99_ms)
        for stats, colour, name in ((shape.dense, DENSE, "dense"), (shape.pruned, PRUNED, "pruned")):
            inside = [x for x in stats.samples_ms if x <= high]
            axis.hist(inside, bins=60, range=(low, high), color=colour, density=True, label=name)
            axis.axvline(stats.p50_ms, color=colour, linewidth=1)
        noisy = ", noisy" if shape.noise_reason else ""
        axis.set_title(f"{shape.shape}: {shape.speedup:.2f} times as fast{noisy}", color=INK, loc="left")
        axis.set_xlabel("ms a call, up to p99", color=INK)
        axis.set_yticks([])
        axis.tick_params(axis="x", colors=INK)
        axis.legend(frameon=False, labelcolor=INK)
        plots.append(_svg(figure, f"Distribution of call times at {shape.shape}"))
    return "".join(plots)


def _panel(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, height), layout="constrained")
    axis = figure.subplots()
    axis.set_facecolor("none")
    axis.tick_params(length=0, colors=INK)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure, axis


def _svg(figure: Any, label: str) -> str:
    """Return a figure as an inline SVG element, the same text each time for the same figure."""
    text = svg_of(figure, transparent=True)
    svg = text[text.index("<svg") :]
    for stand_in, colour in _PAGE_COLOURS.items():
        svg = svg.replace(stand_in, colour)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', rf'\1 role="img" aria-label="{label}"', svg, count=1)
    return re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 inherit; font-family: inherit", svg)
