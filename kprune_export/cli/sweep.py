"""``kprune-export sweep``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kprune_export.cli import options, retrieval_options, target_options
from kprune_export.cli.options import given
from kprune_export.cli.printing import print_json

if TYPE_CHECKING:
    from kprune_export.experiments.sweep.sweep_record import SweepRecord

FAMILY = "Family"


def sweep(
    model: options.Model = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The folder to write; new, empty, or an earlier sweep.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    speedups: Annotated[
        str,
        typer.Option(
            help="How many times as fast as the dense model in the same runtime and precision; with commas.",
            rich_help_panel=FAMILY,
        ),
    ] = "1.5,2,3",
    precisions: Annotated[
        list[str] | None,
        typer.Option(
            help="fp32, fp16, bf16, int8; several times or with commas.",
            metavar="NAME",
            show_default="fp32",
            rich_help_panel=FAMILY,
        ),
    ] = None,
    runtime: options.Runtime = None,
    parallel: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many trials are made at a time. They prune side by side; whoever times waits to be alone.",
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
    seed: options.Seed = None,
    target_shapes: target_options.TargetShapes = None,
    align: target_options.Align = None,
    device: options.Device = None,
    offload: options.Offload = None,
    profile: options.Profile = None,
    timing_cache: options.TimingCache = None,
    shapes: options.Shapes = None,
    threads: options.Threads = None,
    timing_seconds: options.TimingSeconds = None,
    dense_int8: options.DenseInt8 = None,
    min_speedup: options.MinSpeedup = None,
    min_agreement: options.MinAgreement = None,
    min_metric: options.MinMetric = None,
    max_size_mib: options.MaxSizeMib = None,
    min_overlap: retrieval_options.MinOverlap = None,
    min_ndcg: retrieval_options.MinNdcg = None,
    min_mrr: retrieval_options.MinMrr = None,
    min_recall: retrieval_options.MinRecall = None,
    min_index_overlap: retrieval_options.MinIndexOverlap = None,
    min_index_ndcg: retrieval_options.MinIndexNdcg = None,
    min_index_mrr: retrieval_options.MinIndexMrr = None,
    min_index_recall: retrieval_options.MinIndexRecall = None,
    gates: options.GatesFile = None,
) -> int:
    """Build a family of pruned models, and show which of them are worth having.

    The dense model is measured in each precision, and in int8 unless --no-dense-int8 is given, and pruned to each
    speedup. Every trial is a bundle of its own in trials/, as prune-and-build makes it with --target-speedup. What they
    share is measured once: a latency table for each precision, and what widths lose. Writes sweep.md (a table for each
    shape), sweep.svg (fidelity and the task's metric against latency; what another trial beats in both is hollow) and
    sweep.json, which recommend reads.

    A trial that fails, for example because its speedup is out of reach, is recorded with the reason, and the others
    are made. A sweep that is stopped goes on where it was; speedups and precisions can be added later.

    Exit code 0: there is a pruned model that keeps every gate that was set. 3: there is none. 6: the machine is too
    noisy to tell.

    Example: kprune-export sweep ./my-classifier -o family --calibration texts.csv --speedups 1.5,2,3
    --precisions fp32,int8
    """
    settings = given(dict(locals()))
    for name in ("speedups", "parallel", "ray"):
        settings.pop(name, None)
    if precisions is not None:
        settings["precision"] = settings.pop("precisions")
    from contextlib import nullcontext

    from exporters.runners.onnxruntime_runner import share_thread_pool
    from kprune_export.cli.console import ConsoleReporter, warn_once
    from kprune_export.errors import RecipeError
    from kprune_export.experiments.sweep.launch import LocalTrials
    from kprune_export.experiments.sweep.ray_trials import RayTrials
    from kprune_export.experiments.sweep.request import SweepRequest
    from kprune_export.experiments.sweep.run import exit_code
    from kprune_export.experiments.sweep.run import sweep as run
    from kprune_export.output_folder.inputs import OUTPUT, check_apart
    from kprune_export.pipeline.job import thread_count
    from kprune_export.recipe.recipe import read_gates

    if ray and parallel:
        raise RecipeError("--parallel is for this machine: a Ray cluster runs as many trials as it has processors for.")
    request = SweepRequest.build(recipe, {**read_gates(gates), **settings}, speedups)
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
