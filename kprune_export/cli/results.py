"""Printing results: tables for people, one JSON object for machines."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kprune_export.bundle.dense_summary import DenseSummary
from kprune_export.bundle.layout import REPORT
from kprune_export.bundle.verdict import Tone, Verdict, tone_of
from kprune_export.cli.console import output_console
from kprune_export.cli.durations import duration
from kprune_export.cli.printing import print_json
from kprune_export.errors import ExitCode
from kprune_export.evaluation.fidelity import FidelityMeasure
from kprune_export.evaluation.metrics import TaskMetric
from kprune_export.evaluation.retrieval_metrics import INDEX, METRICS, is_overlap
from kprune_export.pipeline.summary import ShapeSummary, Summary, VariantSummary
from kprune_export.tables import Section

_COLOURS: dict[Tone, str] = {"good": "green", "neutral": "bold", "caution": "yellow", "bad": "red"}
_SIZE = "ONNX file, MiB"
_WORTH_SAYING_S = 10.0
_CODES: dict[Verdict | None, ExitCode] = {"failed": ExitCode.GATE_FAILED, "inconclusive": ExitCode.INCONCLUSIVE}


def print_summary(summary: Summary, *, as_json: bool, seconds: float | None = None) -> ExitCode:
    """Print the outcome of a run, which took some seconds, and return its exit code."""
    code = _CODES.get(summary.verdict, ExitCode.OK)
    if as_json:
        print_json(summary.model_dump_json(indent=2))
        return code
    console = output_console()
    if summary.layers:
        console.print(layers_table(summary))
    if summary.recovery:
        console.print(summary.recovery, markup=False)
    _print_variants(console, summary)
    if summary.gates:
        console.print(gates_table(summary))
    for remark in (*summary.processor_changes, *summary.noise):
        console.print(Text(remark, "yellow"))
    for warning in summary.warnings:
        console.print(Text.assemble(("Warning:", "yellow"), " ", warning.message))
    if summary.verdict_in_words:
        colour = _COLOURS[tone_of(summary.verdict, summary.gates, summary.warnings)]
        console.print(Text.assemble("Verdict: ", (summary.verdict_in_words, colour)))
    for sentence in summary.advice:
        console.print(sentence, markup=False)
    _print_end(console, summary, seconds)
    return code


def _print_end(console: Console, summary: Summary, seconds: float | None) -> None:
    """Print the figures that matter most, the time that the command took, and where its results are."""
    if summary.headline:
        console.print(Text.assemble((str(summary.headline), "bold")))
    if seconds is not None and seconds >= _WORTH_SAYING_S:
        console.print(f"Took {duration(seconds)}.", markup=False)
    if summary.output:
        report = Path(summary.output) / REPORT
        console.print(f"Written to {summary.output}", markup=False)
        if summary.command == "prune-and-build":
            console.print(f"Report: {report.resolve()}", markup=False)
            console.print(f"Next: kprune-export triton {shlex.quote(summary.output)} -o models", markup=False)


def _print_variants(console: Console, summary: Summary) -> None:
    if len(summary.variants) == 1:
        console.print(figures_table(summary))
    elif summary.variants:
        console.print(variants_table(summary))
    for dense in summary.dense:
        if dense.problem:
            console.print(f"Dense {dense.variant} was not measured: {dense.problem}", markup=False)
    for command in (command for variant in summary.variants for command in variant.trtexec):
        console.print(f"To time it with NVIDIA's tool: {command}", markup=False, soft_wrap=True)


def layers_table(summary: Summary) -> Table:
    """Return the widths that each layer keeps."""
    table = Table(title=f"{summary.flops_reduction:.2%} of the encoder's FLOPs removed", title_justify="left")
    table.add_column("layer", justify="right")
    table.add_column("heads", justify="right")
    table.add_column("neurons", justify="right")
    for number, layer in enumerate(summary.layers):
        table.add_row(str(number), str(layer.heads), str(layer.neurons))
    return table


def figures_table(summary: Summary) -> Table:
    """Return what was measured of the only variant, beside the dense model in fp32 and int8 where these were."""
    (variant,) = summary.variants
    int8 = next((x for x in summary.dense if x.fidelity and x.variant != variant.variant), None)
    rows = _figures(variant)
    beside = _figures_of_dense(int8) if int8 else {}
    compared = any(dense for _, dense, _, _ in rows)
    names = ("", "dense fp32", *(("dense int8",) if int8 else ()), "pruned", "") if compared else ("", "", "")
    table = Table(title=f"{summary.task}, {variant.variant}", title_justify="left")
    for name in names:
        table.add_column(name, justify="right" if name else "left")
    for what, dense, value, note in rows:
        row = (what, dense, *((beside.get(what, ""),) if int8 else ()), value, note)
        table.add_row(*(row if compared else (what, value, note)))
    return table


def variants_table(summary: Summary) -> Table:
    """Return what was measured of several variants, one in each row, below the dense model's own.

    The report has more about each.
    """
    table = Table(title=f"{summary.task}: dense and pruned; speedups are over dense fp32", title_justify="left")
    first = summary.variants[0]
    measures = [x.name for x in first.fidelity if x == first.fidelity[0] or is_overlap(x.name.removeprefix(INDEX))]
    shapes = list(dict.fromkeys(shape.shape for variant in summary.variants for shape in variant.latency))
    builds = any(variant.engine_bytes for variant in summary.variants)
    table.add_column("variant", no_wrap=True)
    names = ["ONNX MiB", *(("engine MiB",) if builds else ()), *measures]
    for name in (*names, *((first.metric.name,) if first.metric else ())):
        table.add_column(name.replace("_", " "), justify="right")
    for name in shapes:
        table.add_column(f"ms at {name}", justify="right")

    def add(
        name: str,
        sizes: Sequence[int | None],
        fidelity: Mapping[str, float],
        metric: float | None,
        times: Mapping[str, str],
    ) -> None:
        table.add_row(
            name,
            *("" if size is None else f"{size / 2**20:.1f}" for size in (sizes if builds else sizes[:1])),
            *(f"{fidelity[x]:.4f}" if x in fidelity else "" for x in measures),
            *(("" if metric is None else f"{metric:.4f}",) if first.metric else ()),
            *(times.get(shape, "not timed") for shape in shapes),
        )

    for dense in summary.dense:
        if not dense.problem:
            times = {x.shape: _time(x.p50_ms, x.speedup if dense.fidelity else None) for x in dense.latency}
            metric = dense.metrics[0].value if dense.metrics else None
            add(f"dense {dense.variant}", (dense.onnx_bytes, None), _by_name(dense.fidelity), metric, times)
    for variant in summary.variants:
        times = {x.shape: _time(x.pruned_p50_ms, x.speedup) for x in variant.latency}
        sizes = (variant.onnx_bytes, variant.engine_bytes)
        metric = variant.metric.pruned if variant.metric else None
        add(variant.variant, sizes, _by_name(variant.fidelity), metric, times)
    return table


def _by_name(measures: Sequence[FidelityMeasure]) -> dict[str, float]:
    return {measure.name: measure.value for measure in measures}


def _time(p50_ms: float, speedup: float | None) -> str:
    return f"{p50_ms:.2f}" + ("" if speedup is None else f"\n{speedup:.2f} x")


def _figures_of_dense(dense: DenseSummary) -> dict[str, str]:
    """Return the dense model's cells of the table that `_figures` makes, by the names of the rows."""
    size = dense.onnx_bytes
    return {
        **{f"p50 at {x.shape}, ms": f"{x.p50_ms:.2f}\n{x.speedup:.2f} x" for x in dense.latency},
        **{x.name.replace("_", " "): f"{x.value:.4f}" for x in dense.fidelity},
        **{x.name.replace("_", " "): f"{x.value:.4f}" for x in dense.metrics},
        _SIZE: "" if size is None else f"{size / 2**20:.1f}",
    }


def _figures(variant: VariantSummary) -> list[tuple[str, str, str, str]]:
    """Return rows of what, the dense value, the pruned or only value, and a note."""
    rows = []
    baselines = {shape.shape: shape for shape in variant.baseline_latency}
    for shape in variant.latency:
        interval = f"{shape.speedup_low:.2f} to {shape.speedup_high:.2f}"
        gain = f"{shape.speedup:.2f} times as fast ({interval}){_mark(shape)}"
        if baseline := baselines.get(shape.shape):
            gain += f"; {baseline.speedup:.2f} times dense in the same precision{_mark(baseline)}"
        rows.append((f"p50 at {shape.shape}, ms", f"{shape.dense_p50_ms:.2f}", f"{shape.pruned_p50_ms:.2f}", gain))
    if variant.fidelity and not variant.latency:
        rows.append(("latency", "", "not timed", "its runtime is not on this machine: validate where it will serve"))
    rows += [(x.name.replace("_", " "), "", f"{x.value:.4f}", x.description) for x in variant.fidelity]
    for metric in (variant.metric, *variant.further_metrics) if variant.metric else ():
        values = f"{metric.dense:.4f}", f"{metric.pruned:.4f}"
        rows.append((metric.name.replace("_", " "), *values, _metric_note(metric)))
    dense = f"{variant.dense_bytes / 2**20:.1f}" if variant.dense_bytes else ""
    rows.append((_SIZE, dense, f"{variant.onnx_bytes / 2**20:.1f}", variant.onnx))
    if variant.engine_bytes:
        rows.append(("TensorRT engine, MiB", "", f"{variant.engine_bytes / 2**20:.1f}", ""))
    if variant.parity_passed is not None:
        rows.append(("parity with torch", "", "passed", "within the tolerance of its precision"))
    return rows


def _mark(shape: ShapeSummary) -> str:
    """Return what stands behind a figure that cannot be relied on."""
    return ", noisy" if shape.noise_reason else ""


def _metric_note(metric: TaskMetric) -> str:
    note = f"; {metric.note}" if metric.note else ""
    if metric.name.removeprefix(INDEX) not in METRICS:
        return f"on {metric.examples} labels{note}"
    kept = metric.name.startswith(INDEX)
    return f"on {metric.examples} queries, {'dense documents' if kept else 'documents embedded again'}{note}"


def gates_table(summary: Summary) -> Table:
    """Return the gates and whether they passed."""
    table = Table(title="Gates", title_justify="left")
    for name in ("gate", "asked", "measured", "passed", "about"):
        table.add_column(name)
    for gate in summary.gates:
        passed = ("yes", "green") if gate.passed else ("inconclusive", "yellow") if gate.inconclusive else ("no", "red")
        table.add_row(gate.name, gate.asked, gate.measured, Text(*passed), gate.about)
    return table


def section_table(section: Section, colours: Mapping[str, str]) -> Table:
    """Return any table of text; cells that are keys of ``colours`` are shown in that colour."""
    table = Table(title=section.title, title_justify="left")
    for heading in section.headings:
        table.add_column(heading, overflow="fold")
    for row in section.rows:
        table.add_row(*(Text(x, style=colours.get(x, "")) for x in row))
    return table
