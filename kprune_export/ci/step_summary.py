"""Run outcome as Markdown, for the step summary of GitHub Actions."""

from collections.abc import Sequence

from kprune_export.bundle.dense_summary import DenseSummary
from kprune_export.ci.checks import Check, checks_of
from kprune_export.pipeline.summary import Summary, VariantSummary
from kprune_export.tables import Section, markdown_table, markdown_text


def summary_markdown(summary: Summary) -> str:
    """Return a finished run's verdict, checks and figures."""
    verdict = f"**{markdown_text(summary.verdict_in_words)}**" if summary.verdict_in_words else ""
    removed = "" if summary.flops_reduction is None else f"{summary.flops_reduction:.2%} of the encoder's FLOPs removed"
    tables = (_checks(checks_of(summary)), *map(_figures, summary.variants), _dense(summary.dense))
    head = (
        f"## kprune-export {summary.command}",
        verdict,
        removed,
        *map(markdown_text, (*summary.processor_changes, *summary.noise)),
    )
    parts = (*head, *(markdown_table(x) for x in tables if x.rows))
    return "\n\n".join(part for part in parts if part) + "\n\n"


def error_markdown(check: Check) -> str:
    """Return what a run ended with."""
    return f"## kprune-export\n\n**{check.outcome}**: {markdown_text(check.detail)}\n\n"


def _checks(checks: tuple[Check, ...]) -> Section:
    rows = tuple((check.suite, check.name, check.outcome, check.detail) for check in checks)
    return Section("Checks", ("", "", "outcome", "found"), rows)


def _dense(dense: Sequence[DenseSummary]) -> Section:
    """Return the dense model's own figures, in fp32 and int8."""
    rows = []
    for x in dense:
        figures = [f"{y.name.replace('_', ' ')} {y.value:.4f}" for y in x.fidelity[:1]]
        figures += [f"{y.name.replace('_', ' ')} {y.value:.4f}" for y in x.metrics]
        figures += [f"{y.p50_ms:.2f} ms at {y.shape}" for y in x.latency]
        figures += [f"{x.onnx_bytes / 2**20:.1f} MiB"] if x.onnx_bytes else []
        rows.append((x.variant, x.problem or ", ".join(figures)))
    return Section("The dense model", ("", "measured"), tuple(rows))


def _figures(variant: VariantSummary) -> Section:
    metrics = (variant.metric, *variant.further_metrics) if variant.metric else ()
    rows = [
        *((x.name.replace("_", " "), "", f"{x.value:.4f}", "") for x in variant.fidelity),
        *((x.name.replace("_", " "), f"{x.dense:.4f}", f"{x.pruned:.4f}", x.note) for x in metrics),
        *(
            (
                f"p50 at {x.shape}, ms",
                f"{x.dense_p50_ms:.2f}",
                f"{x.pruned_p50_ms:.2f}",
                f"{x.speedup:.2f} times as fast ({x.speedup_low:.2f} to {x.speedup_high:.2f})"
                f"{', noisy' if x.noise_reason else ''}",
            )
            for x in variant.latency
        ),
    ]
    return Section(variant.variant, ("", "dense fp32", "pruned", ""), tuple(rows))
