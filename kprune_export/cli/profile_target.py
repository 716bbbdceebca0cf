"""``kprune-export profile-target``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kprune_export.cli import options
from kprune_export.cli.printing import print_json
from kprune_export.cli.setting_options import Settings, with_settings
from kprune_export.errors import ExitCode
from kprune_export.recipe.export import ExportSection
from kprune_export.recipe.measurement import MeasurementSection
from kprune_export.recipe.model import ModelSection
from kprune_export.recipe.pruning import PruningSection
from kprune_export.recipe.target import TargetSection

if TYPE_CHECKING:
    from exporters.timing.latency_table.table import LatencyTable


@with_settings(
    ModelSection,
    PruningSection,
    TargetSection,
    MeasurementSection,
    without=(
        *("flops_reduction", "sequence_length", "method", "temperature", "balance", "head_weight", "ridge", "offload"),
        *("target_speedup", "target_latency_ms", "target_shapes", "latency_table", "table_carried", "sensitivity"),
        *("timing_seconds", "isolate", "dense_int8"),
    ),
    required=("model", "output"),
    helps={"output": "The JSON file to write; it must not exist."},
)
def profile_target(
    settings: Settings,
    runtime: Annotated[
        str,
        typer.Option(
            help="onnxruntime (CPU), onnxruntime-cuda, tensorrt, openvino (CPU), or torch.",
            rich_help_panel=ExportSection.panel,
        ),
    ] = "onnxruntime",
    precision: Annotated[
        str, typer.Option(help="fp32, fp16, bf16 or int8.", rich_help_panel=ExportSection.panel)
    ] = "fp32",
    plot: Annotated[
        Path | None,
        typer.Option(help="Also draw the costs to this SVG file.", rich_help_panel=MeasurementSection.panel),
    ] = None,
    json_output: options.Json = False,
) -> int:
    """Measure what heads and neurons cost on this machine: a latency table for --target-speedup.

    Times models of this one's dimensions whose layers all have the same widths: every number of heads, and a grid of
    FFN widths, in one runtime and precision. The table states by how much its sums are off for layers of unequal
    widths. It is for all checkpoints of these dimensions, and can be carried to the machine that builds.

    Example, on the machine that will serve: kprune-export profile-target ./my-classifier -o table.json
    --shapes 1x128 --plot table.svg
    """
    from kprune_export.cli.early_checks import check_inputs
    from kprune_export.recipe.recipe import Recipe

    given = {**settings, "precision": precision, **({"runtime": runtime} if runtime != "torch" else {})}
    recipe = Recipe.build(None, given, typed=True)
    check_inputs(recipe, "latency table")
    from exporters.runners.onnxruntime_runner import share_thread_pool
    from kprune_export.cli.progress import ConsoleReporter
    from kprune_export.pipeline.job import thread_count
    from kprune_export.pipeline.profile_target import ProfileRequest, profile

    share_thread_pool(thread_count(recipe))
    table = profile(ProfileRequest(recipe, in_torch=runtime == "torch", plot=plot), ConsoleReporter())
    if json_output:
        print_json(table.model_dump_json(indent=2))
    else:
        _show(table, recipe.output)
    return ExitCode.OK


def _show(table: "LatencyTable", output: Path) -> None:
    from rich.table import Table

    from kprune_export.cli.console import output_console
    from kprune_export.gates.noise import table_remark

    console = output_console()
    for shape in table.shapes:
        shown = Table(
            title=f"{table.runtime}-{table.precision} at {shape.shape}: dense {shape.dense_ms:.2f} ms, of it "
            f"{shape.fixed:.1%} fixed",
            title_justify="left",
        )
        for name in ("heads", "attention, % of dense", "neurons", "FFN, % of dense"):
            shown.add_column(name, justify="right")
        left = [
            (str(w), f"{100 * c:.2f}") for w, c in zip(shape.attention.widths, shape.attention.smoothed, strict=True)
        ]
        right = [(str(w), f"{100 * c:.2f}") for w, c in zip(shape.ffn.widths, shape.ffn.smoothed, strict=True)]
        for number in range(max(len(left), len(right))):
            shown.add_row(
                *(pair for side in (left, right) for pair in (side[number] if number < len(side) else ("", "")))
            )
        console.print(shown)
        errors = ", ".join(f"{check.error:+.1%}" for check in shape.checks)
        console.print(f"Sums are off by {errors} for layers of unequal widths drawn at random.")
    if remark := table_remark(table):
        console.print(remark, style="red", markup=False)
    console.print(f"Written to {output}", markup=False)
