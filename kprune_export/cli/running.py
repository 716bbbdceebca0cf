"""From what was typed to what is printed: the part that all running commands share."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kprune_export.output_folder.inputs import Place
    from kprune_export.pipeline.run import Outcome, Reporter
    from kprune_export.recipe.recipe import Recipe

Run = Callable[["Recipe", "Reporter | None"], "Outcome"]


def pipeline(name: str) -> Run:
    """Return a function of `kprune_export.pipeline.run`, which is imported when it is called."""

    def run(recipe: "Recipe", reporter: "Reporter | None") -> "Outcome":
        from kprune_export.pipeline import run as module

        function: Run = getattr(module, name)
        return function(recipe, reporter)

    return run


def run_recipe(
    run: Run,
    file: Path | None,
    settings: Mapping[str, Any],
    *,
    as_json: bool,
    defaults: Mapping[str, Any] | None = None,
    keeps_output: bool = True,
    gates: Path | None = None,
    junit: Path | None = None,
    reads: "Sequence[Place]" = (),
) -> int:
    """Run a recipe in this process, print what it came to, and return the exit code.

    Args:
        run: the pipeline's function; it should import what is heavy when it is called.
        file: a recipe file, if one was given.
        settings: the settings that were typed, which go over it.
        defaults: settings that all others go over, in place of the recipe's defaults.
        as_json: whether to print for machines.
        keeps_output: whether the output folder outlives the command, and is worth naming.
        gates: a gates file, if one was given; it goes over the recipe file.
        junit: a file for gates and parity as JUnit XML.
        reads: what is read beside the recipe and what it names.

    Where the environment variable GITHUB_STEP_SUMMARY names a file, what the run came to is appended to it.

    """
    from kprune_export.cli.early_checks import check_inputs

    start = time.monotonic()
    from kprune_export.recipe.recipe import Recipe

    recipe = Recipe.build(file, settings, gates=gates, typed=True, defaults=defaults)
    shows_errors = junit is not None or "GITHUB_STEP_SUMMARY" in os.environ  # in files, below
    if defaults is None and not shows_errors:  # with defaults it is a bundle's, whose inputs may be elsewhere
        check_inputs(recipe)
    from exporters.runners.onnxruntime_runner import share_thread_pool
    from kprune_export.ci.publish import CiReports
    from kprune_export.cli.progress import ConsoleReporter
    from kprune_export.cli.results import print_summary
    from kprune_export.pipeline.distributed import follow, process_group
    from kprune_export.pipeline.job import thread_count
    from kprune_export.pipeline.summary import summarise

    with process_group() as runs:
        if not runs:
            follow()
            return 0
        files = [*recipe.inputs, ("recipe", file), ("gates file", gates), *reads]
        reports = CiReports.open(junit, recipe.output, files)
        share_thread_pool(thread_count(recipe))  # the process is the command line's own
        with reports.of_errors():
            summary = summarise(run(recipe, ConsoleReporter()))
        reports.publish(summary)
    if not keeps_output:
        summary = summary.model_copy(update={"output": None})
    return print_summary(summary, as_json=as_json, seconds=time.monotonic() - start)
