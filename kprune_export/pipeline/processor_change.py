"""Differences between the processor that a bundle was built on and the one that validates it."""

from collections.abc import Sequence
from pathlib import Path

from exporters.timing.latency import LatencyReport
from kprune_export.bundle.layout import FIDELITY, LATENCY
from kprune_export.bundle.variant_report import Reports, VariantReport
from kprune_export.evaluation.fidelity import FidelityReport


def processor_changes(bundle: Path, found: Sequence[VariantReport]) -> tuple[str, ...]:
    """Return a sentence for each variant that was measured with other instruction sets in a bundle than now.

    Args:
        bundle: the bundle that is validated.
        found: what was measured of its variants now.

    Raises:
        BundleError: the bundle's reports cannot be read.

    """
    fidelity = Reports[FidelityReport].read(bundle / FIDELITY).variants
    latency = Reports[LatencyReport].read(bundle / LATENCY).variants
    sentences = []
    for report in found:
        before, after = fidelity.get(str(report.variant)), report.fidelity
        if before is None or after is None or not before.instruction_sets or not after.instruction_sets:
            continue
        if before.instruction_sets == after.instruction_sets:
            continue
        figures = [f"{after.headline.name} {before.headline.value:.4f} there, {after.headline.value:.4f} here"]
        figures += _speedups(latency.get(str(report.variant)), report.latency)
        sentences.append(
            f"{report.variant} was measured on a processor with {', '.join(before.instruction_sets)}; this one has "
            f"{', '.join(after.instruction_sets)}: {'; '.join(figures)}."
        )
    return tuple(sentences)


def _speedups(before: LatencyReport | None, after: LatencyReport | None) -> list[str]:
    known = {shape.shape: shape.speedup for shape in before.shapes} if before else {}
    return [
        f"speedup at {shape.shape} {known[shape.shape]:.2f} there, {shape.speedup:.2f} here"
        for shape in (after.shapes if after else ())
        if shape.shape in known
    ]
