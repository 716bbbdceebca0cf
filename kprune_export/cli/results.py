"""Printing results: tables for people, one JSON object for machines."""

from rich.table import Table

from kprune_export.cli.console import output_console
from kprune_export.errors import ExitCode
from kprune_export.summary import Summary


def print_summary(summary: Summary, *, as_json: bool) -> ExitCode:
    """Print what a run came to and return its exit code."""
    code = ExitCode.OK if summary.verdict == "passed" else ExitCode.GATE_FAILED
    if as_json:
        print(summary.model_dump_json(indent=2))
        return code
    console = output_console()
    if summary.layers:
        console.print(layers_table(summary))
    console.print(figures_table(summary))
    if summary.gates:
        console.print(gates_table(summary))
    verdict = "[green]passed[/]" if code is ExitCode.OK else "[red]failed: a gate did not hold[/]"
    console.print(f"Verdict: {verdict}")
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


def figures_table(summary: Summary) -> Table:
    """Return dense against pruned."""
    table = Table(title=summary.task, title_justify="left")
    for name in ("", "dense", "pruned", ""):
        table.add_column(name, justify="right" if name else "left")
    for shape in summary.latency:
        table.add_row(
            f"p50 at {shape.shape}, ms",
            f"{shape.dense_p50_ms:.2f}",
            f"{shape.pruned_p50_ms:.2f}",
            f"{shape.speedup:.2f} times as fast ({shape.speedup_low:.2f} to {shape.speedup_high:.2f})",
        )
    for measure in summary.fidelity:
        table.add_row(measure.name.replace("_", " "), "", f"{measure.value:.4f}", measure.description)
    if summary.metric:
        metric = summary.metric
        table.add_row(metric.name, f"{metric.dense:.4f}", f"{metric.pruned:.4f}", f"on {metric.examples} labels")
    if summary.pruned_bytes and summary.dense_bytes:
        table.add_row("ONNX file, MiB", f"{summary.dense_bytes / 2**20:.1f}", f"{summary.pruned_bytes / 2**20:.1f}", "")
    if summary.parity_passed is not None:
        table.add_row("parity with torch", "", "holds", f"largest difference {summary.worst_parity_error:.1e}")
    return table


def gates_table(summary: Summary) -> Table:
    """Return the gates and whether they held."""
    table = Table(title="Gates", title_justify="left")
    for name in ("gate", "asked", "measured", "held", "about"):
        table.add_column(name)
    for gate in summary.gates:
        held = "[green]yes[/]" if gate.held else "[red]no[/]"
        table.add_row(gate.name, f"{gate.comparison} {gate.limit:g}", f"{gate.value:.4f}", held, gate.detail)
    return table
