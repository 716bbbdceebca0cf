"""Printing results: tables for people, one JSON object for machines."""

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from kprune_export.cli.console import output_console
from kprune_export.cli.printing import print_json
from kprune_export.errors import ExitCode
from kprune_export.gates import Verdict
from kprune_export.summary import ShapeSummary, Summary, VariantSummary
from kprune_export.tables import Section

_CODES: dict[Verdict | None, ExitCode] = {"failed": ExitCode.GATE_FAILED, "undecided": ExitCode.UNDECIDED}


def print_summary(summary: Summary, *, as_json: bool) -> ExitCode:
    """Print what a run came to and return its exit code."""
    code = _CODES.get(summary.verdict, ExitCode.OK)
    if as_json:
        print_json(summary.model_dump_json(indent=2))
        return code
    console = output_console()
    if summary.layers:
        console.print(layers_table(summary))
    if len(summary.variants) == 1:
        console.print(figures_table(summary.variants[0], summary.task))
    elif summary.variants:
        console.print(variants_table(summary))
    for command in (command for variant in summary.variants for command in variant.trtexec):
        console.print(f"To time it with NVIDIA's tool: {command}", markup=False, soft_wrap=True)
    if summary.gates:
        console.print(gates_table(summary))
    for remark in summary.noise:
        console.print(Text(remark, "yellow"))
    if summary.verdict_in_words:
        colour = "green" if code is ExitCode.OK else "red"
        console.print(Text.assemble("Verdict: ", (summary.verdict_in_words, colour)))
    if summary.output:
        console.print(f"Written to {summary.output}", markup=False)
    return code


def layers_table(summary: Summary) -> Table:
    """Return the widths that each layer keeps."""
    table = Table(title=f"{summary.flops_reduction:.2%} of the encoder's FLOPs removed", title_justify="left")
    table.add_column("layer", justify="right")
    table.add_column("heads", justify="right")
    table.add_column("neurons", justify="right")
    for number, layer in enumerate(summary.layers):
        table.add_row(str(number), str(layer.heads), str(layer.neurons))
    return table


def figures_table(variant: VariantSummary, task: str) -> Table:
    """Return what was measured of a variant, dense against pruned where both were."""
    rows = _figures(variant)
    compared = any(dense for _, dense, _, _ in rows)
    table = Table(title=f"{task}, {variant.variant}", title_justify="left")
    for name in ("", "dense fp32", "pruned", "") if compared else ("", "", ""):
        table.add_column(name, justify="right" if name else "left")
    for what, dense, value, note in rows:
        table.add_row(*((what, dense, value, note) if compared else (what, value, note)))
    return table


def variants_table(summary: Summary) -> Table:
    """Return what was measured of several variants, one in each row; the report tells more of each."""
    table = Table(title=f"{summary.task}: dense fp32 against pruned", title_justify="left")
    first = summary.variants[0]
    measures = [measure.name for measure in first.fidelity[:1]]
    shapes = list(dict.fromkeys(shape.shape for variant in summary.variants for shape in variant.latency))
    builds = any(variant.engine_bytes for variant in summary.variants)
    table.add_column("variant", no_wrap=True)
    names = ["ONNX MiB", *(("engine MiB",) if builds else ()), "parity", *measures]
    for name in (*names, *((first.metric.name,) if first.metric else ())):
        table.add_column(name.replace("_", " "), justify="right")
    for name in shapes:
        table.add_column(f"at {name}", justify="right")
    for variant in summary.variants:
        speedups = {shape.shape: f"{shape.speedup:.2f} x{_mark(shape)}" for shape in variant.latency}
        engine = f"{variant.engine_bytes / 2**20:.1f}" if variant.engine_bytes else ""
        table.add_row(
            variant.variant,
            f"{variant.onnx_bytes / 2**20:.1f}",
            *((engine,) if builds else ()),
            f"{variant.worst_parity_error:.0e}",
            *(f"{x.value:.4f}" for x in variant.fidelity[:1]),
            *((f"{variant.metric.pruned:.4f}",) if variant.metric else ()),
            *(speedups.get(name, "not timed") for name in shapes),
        )
    return table


def _figures(variant: VariantSummary) -> list[tuple[str, str, str, str]]:
    """Return rows of what, the dense value, the pruned or only value, and a note."""
    rows = []
    twins = {shape.shape: shape for shape in variant.twin_latency}
    for shape in variant.latency:
        interval = f"{shape.speedup_low:.2f} to {shape.speedup_high:.2f}"
        gain = f"{shape.speedup:.2f} times as fast ({interval}){_mark(shape)}"
        if twin := twins.get(shape.shape):
            gain += f"; {twin.speedup:.2f} times dense in the same precision{_mark(twin)}"
        rows.append((f"p50 at {shape.shape}, ms", f"{shape.dense_p50_ms:.2f}", f"{shape.pruned_p50_ms:.2f}", gain))
    if variant.fidelity and not variant.latency:
        rows.append(("latency", "", "not timed", "its runtime is not on this machine: validate where it will serve"))
    rows += [(x.name.replace("_", " "), "", f"{x.value:.4f}", x.description) for x in variant.fidelity]
    for metric in (variant.metric, *variant.further_metrics) if variant.metric else ():
        values = f"{metric.dense:.4f}", f"{metric.pruned:.4f}"
        note = f"on {metric.examples} labels" + (f"; {metric.note}" if metric.note else "")
        rows.append((metric.name.replace("_", " "), *values, note))
    dense = f"{variant.dense_bytes / 2**20:.1f}" if variant.dense_bytes else ""
    rows.append(("ONNX file, MiB", dense, f"{variant.onnx_bytes / 2**20:.1f}", variant.onnx))
    if variant.engine_bytes:
        rows.append(("TensorRT engine, MiB", "", f"{variant.engine_bytes / 2**20:.1f}", ""))
    if variant.parity_passed is not None:
        rows.append(("parity with torch", "", "holds", f"largest difference {variant.worst_parity_error:.1e}"))
    return rows


def _mark(shape: ShapeSummary) -> str:
    """Return what stands behind a figure that cannot be relied on."""
    return ", noisy" if shape.noise_reason else ""


def gates_table(summary: Summary) -> Table:
    """Return the gates and whether they held."""
    table = Table(title="Gates", title_justify="left")
    for name in ("gate", "asked", "measured", "held", "about"):
        table.add_column(name)
    for gate in summary.gates:
        held = ("yes", "green") if gate.held else ("undecided", "yellow") if gate.undecided else ("no", "red")
        table.add_row(gate.name, f"{gate.comparison} {gate.limit:g}", f"{gate.value:.4f}", Text(*held), gate.about)
    return table


def section_table(section: Section, colours: Mapping[str, str]) -> Table:
    """Return any table of text; cells that are keys of ``colours`` are shown in that colour."""
    table = Table(title=section.title, title_justify="left")
    for heading in section.headings:
        table.add_column(heading, overflow="fold")
    for row in section.rows:
        table.add_row(*(Text(x, style=colours.get(x, "")) for x in row))
    return table
