"""Printing results: tables for people, one JSON object for machines."""

from rich.table import Table

from kprune_export.cli.console import output_console
from kprune_export.errors import ExitCode
from kprune_export.summary import Summary


def print_summary(summary: Summary, *, as_json: bool) -> ExitCode:
    """Print what a run came to and return its exit code."""
    code = ExitCode.GATE_FAILED if summary.verdict == "failed" else ExitCode.OK
    if as_json:
        print(summary.model_dump_json(indent=2))
        return code
    console = output_console()
    if summary.layers:
        console.print(layers_table(summary))
    if figures := figures_table(summary):
        console.print(figures)
    if summary.gates:
        console.print(gates_table(summary))
    if summary.verdict_in_words:
        colour = "green" if code is ExitCode.OK else "red"
        console.print(f"Verdict: [{colour}]{summary.verdict_in_words}[/]")
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


def figures_table(summary: Summary) -> Table | None:
    """Return what was measured, dense against pruned where both were; None where nothing was."""
    rows = _figures(summary)
    if not rows:
        return None
    compared = any(dense for _, dense, _, _ in rows)
    table = Table(title=summary.task, title_justify="left")
    for name in ("", "dense", "pruned", "") if compared else ("", "", ""):
        table.add_column(name, justify="right" if name else "left")
    for what, dense, value, note in rows:
        table.add_row(*((what, dense, value, note) if compared else (what, value, note)))
    return table


def _figures(summary: Summary) -> list[tuple[str, str, str, str]]:
    """Return rows of what, the dense value, the pruned or only value, and a note."""
    rows = []
    for shape in summary.latency:
        gain = f"{shape.speedup:.2f} times as fast ({shape.speedup_low:.2f} to {shape.speedup_high:.2f})"
        rows.append((f"p50 at {shape.shape}, ms", f"{shape.dense_p50_ms:.2f}", f"{shape.pruned_p50_ms:.2f}", gain))
    rows += [(x.name.replace("_", " "), "", f"{x.value:.4f}", x.description) for x in summary.fidelity]
    for metric in (summary.metric, *summary.further_metrics) if summary.metric else ():
        values = f"{metric.dense:.4f}", f"{metric.pruned:.4f}"
        rows.append((metric.name.replace("_", " "), *values, f"on {metric.examples} labels"))
    if summary.pruned_bytes and summary.dense_bytes:
        sizes = f"{summary.dense_bytes / 2**20:.1f}", f"{summary.pruned_bytes / 2**20:.1f}"
        rows.append(("ONNX file, MiB", *sizes, ""))
    if summary.parity_passed is not None:
        rows.append(("parity with torch", "", "holds", f"largest difference {summary.worst_parity_error:.1e}"))
    return rows


def gates_table(summary: Summary) -> Table:
    """Return the gates and whether they held."""
    table = Table(title="Gates", title_justify="left")
    for name in ("gate", "asked", "measured", "held", "about"):
        table.add_column(name)
    for gate in summary.gates:
        held = "[green]yes[/]" if gate.held else "[red]no[/]"
        table.add_row(gate.name, f"{gate.comparison} {gate.limit:g}", f"{gate.value:.4f}", held, gate.detail)
    return table
