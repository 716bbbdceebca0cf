"""``kprune-export inspect``."""

from typing import Annotated

import typer

from kprune_export.cli import options
from kprune_export.cli.printing import print_json


def inspect(
    path: Annotated[str, typer.Argument(help="A bundle, a checkpoint folder, or a hub id.", show_default=False)],
    json_output: options.Json = False,
) -> int:
    """Show the widths that each layer keeps."""
    from rich.table import Table

    from kprune_export.bundle.inspection import inspect as look
    from kprune_export.cli.console import output_console
    from kprune_export.errors import ExitCode

    found = look(path)
    if json_output:
        print_json(found.model_dump_json(indent=2))
        return ExitCode.OK
    shape = found.shape
    what = f"{found.kind}, {found.family}" + (f", {found.task}" if found.task else "")
    table = Table(
        title=f"{what}: {found.flops_reduction:.2%} of FLOPs removed",
        title_justify="left",
    )
    table.add_column("layer", justify="right")
    table.add_column(f"heads of {shape.heads}", justify="right")
    table.add_column(f"neurons of {shape.neurons}", justify="right")
    for number, (heads, neurons) in enumerate(zip(found.heads, found.neurons, strict=True)):
        table.add_row(str(number), str(heads or "none"), str(neurons or "none"))
    console = output_console()
    console.print(table)
    if found.verdict:
        console.print(f"Verdict: {found.verdict}")
    return ExitCode.OK
