"""Saying where measured times cannot be relied on: the same sentences in the terminal, the report and the JSON."""

from collections.abc import Iterator, Mapping, Sequence

from exporters.timing.latency_table.table import LatencyTable
from exporters.timing.noise import noise_reason
from kprune_export.bundle.variant_report import VariantReport
from kprune_export.latency_target.target_record import TargetRecord

_ADVICE = "measure again on a machine that does nothing else"


def noise_remarks(
    reports: Sequence[VariantReport], target: TargetRecord | None = None, table: LatencyTable | None = None
) -> tuple[str, ...]:
    """Return, in sentences, which times of a run cannot be relied on and why; empty where all can.

    Args:
        reports: what was found of each variant.
        target: the run's latency target, where it has one.
        table: the latency table that its widths were searched with, where it has one.

    """
    return tuple(_remarks(reports, target, table))


def table_remark(table: LatencyTable) -> str | None:
    """Return what keeps a latency table from being relied on, in a sentence; None where nothing does."""
    reasons = {shape.shape: shape.noise_reason for shape in table.shapes if shape.noise_reason}
    return f"The latency table is noisy, {_listed(reasons)}: {_ADVICE}." if reasons else None


def _remarks(
    reports: Sequence[VariantReport], target: TargetRecord | None, table: LatencyTable | None
) -> Iterator[str]:
    if table and (remark := table_remark(table)):
        yield remark
    if target and (reason := noise_reason(None, target.disturbance)):
        yield f"The machine was busy while widths were searched for, and they may miss the target: {reason}."
    for report in reports:
        reasons = report.latency.noise_reasons if report.latency else {}
        if reasons:
            yield f"The times of {report.variant} are noisy, {_listed(reasons)}: {_ADVICE} (kprune-export validate)."


def _listed(reasons: Mapping[str, str]) -> str:
    return ", ".join(f"at {shape} ({reason})" for shape, reason in reasons.items())
