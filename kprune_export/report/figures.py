"""The report's plots, as SVG that takes its colours and its font from the page around it.

Each panel is a separate plot, so that the page can put them side by side or, on a phone, below each other.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from exporters.timing.latency import ShapeLatency
from kprune_export.bundle.headline import Headline
from kprune_export.plots import drawing, svg_of
from pruning.plan import PruningPlan
from pruning.recovery.settings import RecoveryRecord

INK, DENSE, PRUNED, FAINT = "#010101", "#020202", "#030303", "#040404"
"""Stand-ins that are replaced by the page's colours, so that one plot is right in light and dark."""
FEW_CALLS = 60
"""Fewer calls than this are drawn one by one, and not as a histogram."""
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


@dataclass(frozen=True)
class Point:
    """A model in a plot of fidelity against latency.

    Attributes:
        name: of the variant.
        p50_ms: its median time.
        fidelity: against the dense model in fp32.
        is_dense: whether it is the dense model in some precision.
        is_best: whether it is the one that the page opens with.

    """

    name: str
    p50_ms: float
    fidelity: float
    is_dense: bool
    is_best: bool


@drawing()
def scatter_figure(points: Sequence[Point], headline: Headline) -> str:
    """Draw fidelity against latency; nothing where fewer than two models were timed.

    Args:
        points: the dense model's variants and the pruned ones.
        headline: names the shape and the figure of fidelity.

    """
    if len(points) < 2 or headline.fidelity is None:
        return ""
    figure, axis = _panel(height=3.2, width=5.6)
    for point in points:
        colour = DENSE if point.is_dense else PRUNED
        size = 110 if point.is_best else 55
        axis.scatter([point.p50_ms], [point.fidelity], s=size, color=colour, zorder=3)
    low, high = min(x.p50_ms for x in points), max(x.p50_ms for x in points)
    middle = (low + high) / 2
    for point in points:
        left = point.p50_ms > middle
        axis.annotate(
            point.name,
            (point.p50_ms, point.fidelity),
            xytext=(-9 if left else 9, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            color=INK,
            fontweight="bold" if point.is_best else "normal",
            parse_math=False,
        )
    axis.set_xlim(0, 1.05 * high)
    axis.margins(y=0.2)
    axis.grid(color=FAINT, zorder=0)
    axis.set_xlabel(f"median ms for a call at {headline.shape}", color=INK)
    axis.set_ylabel(f"{headline.fidelity.replace('_', ' ')} with dense fp32", color=INK)
    return _svg(figure, "Fidelity against latency of the dense and the pruned variants")


@drawing()
def recovery_figure(record: RecoveryRecord, divergence: str) -> str:
    """Draw the divergence on validation texts against the tokens trained on; the weights that were kept are marked."""
    figure, axis = _panel(height=2.6, width=5.6)
    tokens = [x.tokens / 1000 for x in record.curve]
    values = [x.divergence for x in record.curve]
    axis.plot(tokens, values, color=PRUNED, marker="o", markersize=4)
    axis.scatter([tokens[record.best]], [values[record.best]], s=90, color=PRUNED, zorder=3)
    axis.annotate(
        "kept", (tokens[record.best], values[record.best]), xytext=(0, 10), textcoords="offset points", ha="center",
        color=INK,
    )  # fmt: skip
    axis.set_ylim(0, 1.15 * max(values))
    axis.grid(color=FAINT, zorder=0)
    axis.set_xlabel("thousand tokens trained on", color=INK)
    axis.set_ylabel(divergence, color=INK)
    return _svg(figure, "Divergence from the dense model while recovering")


@drawing()
def latency_figure(shapes: Sequence[ShapeLatency]) -> str:
    """Draw each shape's distribution of call times, dense and pruned."""
    plots = []
    for shape in shapes:
        figure, axis = _panel(height=2.4)
        low = 0.95 * min(min(shape.dense.samples_ms), min(shape.pruned.samples_ms))
        high = 1.05 * max(shape.dense.p99_ms, shape.pruned.p99_ms)
        few = min(len(shape.dense.samples_ms), len(shape.pruned.samples_ms)) < FEW_CALLS
        for row, (stats, colour, name) in enumerate(((shape.dense, DENSE, "dense"), (shape.pruned, PRUNED, "pruned"))):
            inside = [x for x in stats.samples_ms if x <= high]
            if few:  # each call by itself
                axis.scatter(inside, [1 - row] * len(inside), color=colour, alpha=0.6, s=18)
                axis.set_ylim(-0.6, 1.9)
            else:
                axis.hist(inside, bins=60, range=(low, high), color=colour, density=True)
            axis.axvline(stats.p50_ms, color=colour, linewidth=1, label=f"{name}, median {stats.p50_ms:.2f} ms")
        noisy = ", noisy" if shape.noise_reason else ""
        axis.set_title(f"{shape.shape}: {shape.speedup:.2f} times as fast{noisy}", color=INK, loc="left")
        axis.set_xlabel(f"ms for a call{'' if few else ', up to p99'}", color=INK)
        axis.set_ylabel("calls" if few else "share of calls", color=INK)
        axis.set_yticks([])
        axis.tick_params(axis="x", colors=INK)
        axis.legend(frameon=False, labelcolor=INK)
        plots.append(_svg(figure, f"Distribution of call times at {shape.shape}"))
    return "".join(plots)


def _panel(height: float, width: float = 4.8) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
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
