"""``kprune-export compare``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kprune_export.cli import options
from kprune_export.cli.printing import print_json
from kprune_export.cli.setting_options import Settings, with_settings
from kprune_export.errors import ExitCode
from kprune_export.recipe.measurement import MeasurementSection
from kprune_export.recipe.model import ModelSection
from kprune_export.recipe.pruning import PruningSection
from kprune_export.recipe.texts import TextsSection

if TYPE_CHECKING:
    from kprune_export.experiments.compare.results import Comparison


@with_settings(
    ModelSection,
    TextsSection,
    PruningSection,
    MeasurementSection,
    without=(
        *("seed", "flops_reduction", "method", "temperature", "balance", "head_weight", "ridge"),
        *("shapes", "timing_seconds", "isolate", "dense_int8"),
    ),
    helps={"output": "The folder to write; new, empty, or an earlier comparison."},
)
def compare(
    settings: Settings,
    methods: Annotated[
        str, typer.Option(help="Methods, comma-separated.", rich_help_panel=PruningSection.panel)
    ] = "kprune,kprune-paper,kwon2022,kcm2023,magnitude,random",
    rates: Annotated[
        str, typer.Option(help="Shares of FLOPs to remove, comma-separated.", rich_help_panel=PruningSection.panel)
    ] = "0.5,0.7,0.8",
    seeds: Annotated[
        str,
        typer.Option(
            help="Seeds, comma-separated; each draws its own calibration texts.", rich_help_panel=PruningSection.panel
        ),
    ] = "0",
    json_output: options.Json = False,
) -> int:
    """Run several pruning methods on one checkpoint and one calibration set, side by side.

    Measures how far each is from the dense model on held-out texts, and the task's metric where they have labels.
    Writes compare.md (tables, the best of each row in bold), compare.svg (the same over FLOPs removed, with error
    bars) and compare.json. A comparison that is stopped resumes; methods, rates and seeds can be added
    later.

    The methods:

    - **kprune**: measured sensitivity, allocation by dynamic programming, elimination with re-solving (default)

    - **kprune-paper**: K-prune as published (Park, Choi and Kang, ICLR 2024)

    - **kwon2022**: Fisher mask search, rearrangement and mask tuning (Kwon et al., NeurIPS 2022)

    - **kcm2023**: gradient-free scores of FFN neurons, mask tuning; heads stay (Nova et al., ICML 2023)

    - **magnitude**: the smallest weights for each FLOP go, nothing is tuned (a baseline)

    - **random**: units are removed at random (seeded), nothing is tuned (a baseline)

    Example: kprune-export compare ./my-classifier -o comparison --methods kprune,kwon2022 --rates 0.5,0.7
    --calibration train.tsv --evaluation dev.tsv
    """
    from kprune_export.cli.early_checks import check_inputs
    from kprune_export.recipe.recipe import Recipe

    check_inputs(Recipe.build(None, settings, typed=True))
    from kprune_export.cli.progress import ConsoleReporter
    from kprune_export.experiments.compare.request import ComparisonRequest
    from kprune_export.experiments.compare.run import compare as run
    from kprune_export.pipeline.distributed import follow, process_group

    with process_group() as runs:
        if not runs:
            follow()
            return ExitCode.OK
        request = ComparisonRequest.build(methods, rates, seeds, settings)
        found = run(request, ConsoleReporter())
    if json_output:
        print_json(found.model_dump_json(indent=2))
    else:
        _show(found, request.recipe.output)
    return ExitCode.OK


def _show(comparison: "Comparison", output: Path) -> None:
    """Print the tables, the best of each row marked."""
    from rich.table import Table
    from rich.text import Text

    from kprune_export.cli.console import output_console
    from kprune_export.experiments.compare.results import best_methods
    from kprune_export.experiments.compare.table import figure_text, percent, tables

    console = output_console()
    for name, title, higher in tables(comparison):
        table = Table(title=f"{title}, {'higher' if higher else 'lower'} is better", title_justify="left")
        for heading in ("", *(f"{percent(rate)} removed" for rate in comparison.rates)):
            table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
        best = {rate: best_methods(comparison, rate, name, higher) for rate in comparison.rates}
        for method in comparison.methods:
            shown = {rate: figure_text(comparison.row(method, rate).figure(name)) for rate in comparison.rates}
            styles = ["bold green" if method in best[rate] else "" for rate in shown]
            table.add_row(method, *map(Text, shown.values(), styles))
        console.print(table)
    for reason in dict.fromkeys(row.refused for row in comparison.rows if row.refused):
        console.print(f"Not run where there is a dash: {reason}", markup=False)
    console.print(f"Written to {output}", markup=False)
