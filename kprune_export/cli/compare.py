"""``kprune-export compare``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kprune_export.cli import options
from kprune_export.cli.options import given
from kprune_export.cli.printing import print_json
from kprune_export.errors import ExitCode

if TYPE_CHECKING:
    from kprune_export.experiments.compare.results import Comparison


def compare(
    model: options.Model = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The folder to write; new, empty, or an earlier comparison.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    methods: Annotated[
        str, typer.Option(help="Methods, separated by commas.", rich_help_panel=options.METHOD)
    ] = "kprune,kprune-paper,kwon2022,kcm2023,magnitude,random",
    rates: Annotated[
        str, typer.Option(help="Shares of FLOPs to remove, separated by commas.", rich_help_panel=options.METHOD)
    ] = "0.5,0.7,0.8",
    seeds: Annotated[
        str,
        typer.Option(
            help="Seeds, separated by commas; each draws its own calibration texts.", rich_help_panel=options.METHOD
        ),
    ] = "0",
    pooling: options.Pooling = None,
    allow_pickle: options.AllowPickle = None,
    json_output: options.Json = False,
    calibration: options.Calibration = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    samples: options.Samples = None,
    held_out: options.HeldOut = None,
    evaluation: options.Evaluation = None,
    sequence_length: options.SequenceLength = None,
    device: options.Device = None,
    offload: options.Offload = None,
    threads: options.Threads = None,
) -> int:
    """Run several pruning methods on one checkpoint and one calibration set, side by side.

    Measures how far each is from the dense model on held-out texts, and the task's metric where they have labels.
    Writes compare.md (tables, the best of each row in bold), compare.svg (the same over FLOPs removed, with error
    bars) and compare.json. A comparison that is stopped goes on where it was; methods, rates and seeds can be added
    later.

    The methods:

    - **kprune**: measured sensitivity, allocation by dynamic programming, elimination with re-solving (default)

    - **kprune-paper**: K-prune as published (Park, Choi and Kang, ICLR 2024)

    - **kwon2022**: Fisher mask search, rearrangement and mask tuning (Kwon et al., NeurIPS 2022)

    - **kcm2023**: gradient-free scores of FFN neurons, mask tuning; heads stay (Nova et al., ICML 2023)

    - **magnitude**: the smallest weights for each FLOP go, nothing is tuned (a baseline)

    - **random**: units go by lot, decided by the seed, nothing is tuned (a baseline)

    Example: kprune-export compare ./my-classifier -o comparison --methods kprune,kwon2022 --rates 0.5,0.7
    --calibration train.tsv --evaluation dev.tsv
    """
    settings = given(dict(locals()))
    for name in ("methods", "rates", "seeds"):
        del settings[name]
    from kprune_export.cli.console import ConsoleReporter
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
