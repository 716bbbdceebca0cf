"""The figures of one bundle's variant, under one name each, so that two bundles' can be set side by side."""

from collections.abc import Iterator
from dataclasses import dataclass

from kprune_export.diff.read import BundleContent


@dataclass(frozen=True)
class Figure:
    """A measured figure.

    Attributes:
        name: what it is, with its unit.
        value: how much.
        higher_is_better: None where neither direction is better.
        interval: the ends of its 95 % interval, where it was measured with one.

    """

    name: str
    value: float
    higher_is_better: bool | None
    interval: tuple[float, float] | None = None


def measured(variant: str, content: BundleContent) -> Iterator[Figure]:
    """Yield what a bundle holds of a variant: fidelity, metrics, latency, sizes, and parity.

    Times have no direction that is better, and no interval: those of two runs also differ by what else the machine
    did. Speedups, measured in turn with the dense model, have both; the interval is as much wider as noise makes it.
    """
    if fidelity := content.fidelity.get(variant):
        for measure in fidelity.measures:
            yield Figure(measure.name.replace("_", " "), measure.value, measure.higher_is_better)
        for metric in (fidelity.metric, *fidelity.further_metrics) if fidelity.metric else ():
            yield Figure(metric.name.replace("_", " "), metric.pruned, True)
    if latency := content.latency.get(variant):
        for shape in latency.shapes:
            interval = (shape.speedup_low / shape.noise_factor, shape.speedup_high * shape.noise_factor)
            yield Figure(f"speedup at {shape.shape}", shape.speedup, True, interval)
        for shape in latency.shapes:
            yield Figure(f"p50 at {shape.shape}, ms", shape.pruned.p50_ms, None)
            yield Figure(f"p99 at {shape.shape}, ms", shape.pruned.p99_ms, None)
    if graph := content.graphs.get(variant):
        yield Figure("ONNX file, MiB", graph.file.size_bytes / 2**20, False)
    if variant in content.engine_bytes:
        yield Figure("TensorRT engine, MiB", content.engine_bytes[variant] / 2**20, False)
    parity = content.parity.get(variant)
    if parity and parity.worst.max_abs_error is not None:
        yield Figure("largest difference from torch", parity.worst.max_abs_error, None)
