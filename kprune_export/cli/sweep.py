"""``kprune-export sweep``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kprune_export.cli import options
from kprune_export.cli.printing import print_json
from kprune_export.cli.setting_options import Settings, with_settings
from kprune_export.recipe.engine import EngineSection
from kprune_export.recipe.export import ExportSection
from kprune_export.recipe.gates import GatesSection
from kprune_export.recipe.measurement import MeasurementSection
from kprune_export.recipe.model import ModelSection
from kprune_export.recipe.pruning import PruningSection
from kprune_export.recipe.recovery import RecoverySection
from kprune_export.recipe.target import BUDGET, TargetSection
from kprune_export.recipe.texts import TextsSection

if TYPE_CHECKING:
    from kprune_export.experiments.sweep.sweep_record import SweepRecord

FAMILY = "Family"


@with_settings(
    ModelSection,
    TextsSection,
    PruningSection,
    RecoverySection,
    TargetSection,
    ExportSection,
    EngineSection,
    MeasurementSection,
    GatesSection,
    without=(*BUDGET, "precision"),
    helps={"output": "The folder to write; new, empty, or an earlier sweep."},
)
def sweep(
    settings: Settings,
    speedups: Annotated[
        str,
        typer.Option(
            help="How many times as fast as the dense model in the same runtime and precision; comma-separated.",
            rich_help_panel=FAMILY,
        ),
    ] = "1.5,2,3",
    precisions: Annotated[
        list[str] | None,
        typer.Option(
            help="fp32, fp16, bf16, int8; may be repeated or comma-separated.",
            metavar="NAME",
            show_default="fp32",
            rich_help_panel=FAMILY,
        ),
    ] = None,
    parallel: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many trials run at a time. They prune side by side, and time exclusively.",
            show_default="1",
            rich_help_panel=FAMILY,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Make the trials on a Ray cluster (the extra ray): auto for the one that this machine is in, local "
            "for one of its own, or its address. Nodes need this package, and the model and the texts under the same "
            "paths; a trial takes as many processors as --threads.",
            show_default="on this machine, without Ray",
            rich_help_panel=FAMILY,
        ),
    ] = None,
    recipe: options.RecipeFile = None,
    json_output: options.Json = False,
    gates: options.GatesFile = None,
) -> int:
    """Build a family of pruned models, and show which of them are worth having.

    The dense model is measured in each precision, and in int8 unless --no-dense-int8 is given, and pruned to each
    speedup. Every trial is a bundle of its own in trials/, as prune-and-build makes it with --target-speedup. What they
    share is measured once: a latency table for each precision, and what widths lose. Writes sweep.md (a table for each
    shape), sweep.svg (fidelity and the task's metric against latency; trials that another one beats in both are drawn
    as hollow markers) and sweep.json, which recommend reads.

    A trial that fails, for example because its speedup is out of reach, is recorded with the reason, and the others
    are made. A sweep that is stopped resumes; speedups and precisions can be added later.

    Exit code 0: there is a pruned model that keeps every gate that was set. 3: there is none. 6: the machine is too
    noisy to decide.

    Example: kprune-export sweep ./my-classifier -o family --calibration texts.csv --speedups 1.5,2,3
    --precisions fp32,int8
    """
    given = {**settings, **({"precision": precisions} if precisions else {})}
    from contextlib import nullcontext

    from kprune_export.cli.early_checks import check_inputs
    from kprune_export.recipe.recipe import Recipe

    check_inputs(Recipe.build(recipe, given, gates=gates, typed=True))
    from exporters.runners.onnxruntime_runner import share_thread_pool
    from kprune_export.cli.console import warn_once
    from kprune_export.cli.progress import ConsoleReporter
    from kprune_export.errors import RecipeError
    from kprune_export.experiments.sweep.launch import LocalTrials
    from kprune_export.experiments.sweep.ray_trials import RayTrials
    from kprune_export.experiments.sweep.request import SweepRequest
    from kprune_export.experiments.sweep.run import exit_code
    from kprune_export.experiments.sweep.run import sweep as run
    from kprune_export.output_folder.inputs import OUTPUT, check_apart
    from kprune_export.pipeline.job import thread_count

    if ray and parallel:
        raise RecipeError("--parallel is for this machine: a Ray cluster runs as many trials as it has processors for.")
    request = SweepRequest.build(recipe, given, speedups, gates)
    check_apart([(OUTPUT, request.recipe.output)], [("recipe", recipe), ("gates file", gates)])
    warn_once()
    share_thread_pool(thread_count(request.recipe))
    threads = thread_count(request.recipe)
    with RayTrials.connect(ray, threads) if ray else nullcontext(LocalTrials(parallel or 1)) as trials:
        record = run(request, trials, ConsoleReporter())
    if json_output:
        print_json(record.model_dump_json(indent=2))
    else:
        _show(record, request.recipe.output)
    return exit_code(record)


def _show(record: "SweepRecord", output: Path) -> None:
    from kprune_export.cli.console import output_console
    from kprune_export.cli.results import section_table
    from kprune_export.experiments.sweep.table import DOMINATED, FRONT, remarks, sections

    console = output_console()
    for section in sections(record):
        if section.rows:
            console.print(section_table(section, {FRONT: "green", DOMINATED: "dim"}))
    for remark in remarks(record):
        console.print(remark, markup=False)
    console.print(f"Written to {output}", markup=False)
