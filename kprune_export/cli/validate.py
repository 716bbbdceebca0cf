"""``kprune-export validate``."""

from pathlib import Path
from typing import Annotated

import typer

from kprune_export.cli import options, retrieval_options
from kprune_export.cli.options import given
from kprune_export.cli.running import run_recipe


def validate(
    bundle: Annotated[Path, typer.Argument(help="A bundle made by prune-and-build.", show_default=False)],
    dense: Annotated[
        str | None,
        typer.Option(
            help="The dense checkpoint that it was made from.",
            show_default="where it was when this machine made the bundle",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A folder to write the new reports to; else they are only shown."),
    ] = None,
    allow_pickle: options.AllowPickle = None,
    json_output: options.Json = False,
    calibration: options.Calibration = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    held_out: options.HeldOut = None,
    evaluation: options.Evaluation = None,
    seed: options.Seed = None,
    runtime: options.Runtime = None,
    precision: options.Precision = None,
    shapes: options.Shapes = None,
    threads: options.Threads = None,
    timing_seconds: options.TimingSeconds = None,
    isolate: options.Isolate = None,
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
    junit: options.Junit = None,
) -> int:
    """Prove a bundle again on this machine: parity, fidelity, latency and gates.

    Settings that are not given are those that the bundle was made with, the held-out texts included. On a machine that
    did not make it, name the dense checkpoint and the texts.

    Example, on the machine that will serve it: kprune-export validate bundle --min-speedup 1.5
    """
    values = given(dict(locals()))
    from functools import partial

    from exporters.processes.scratch import scratch_folder
    from kprune_export.bundle.inputs import repeatable_settings
    from kprune_export.pipeline import run as pipeline
    from kprune_export.recipe.recipe import read_gates

    values.pop("bundle")
    values |= {"model": values.pop("dense")} if dense else {}
    settings = {**repeatable_settings(bundle), **read_gates(gates), **values}
    run = partial(pipeline.validate, bundle)
    with scratch_folder() as temporary:
        settings["output"] = output or temporary / "validation"
        return run_recipe(
            run,
            None,
            settings,
            as_json=json_output,
            keeps_output=output is not None,
            junit=junit,
            reads=[("bundle", bundle), ("gates file", gates)],
        )
