"""Running a sweep: what the trials share, then the trials, then the tables and the plot."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from kprune_export.errors import ExitCode, RecipeError
from kprune_export.experiments.sweep.figure import draw
from kprune_export.experiments.sweep.folder import (
    PLOT,
    TABLE,
    SweepFolder,
    sensitivity_folder,
    table_folder,
    trial_folder,
)
from kprune_export.experiments.sweep.launch import ShareDone, Warn
from kprune_export.experiments.sweep.messages import Order, TrialEnd
from kprune_export.experiments.sweep.request import SweepRequest, TrialRequest
from kprune_export.experiments.sweep.sweep_record import SweepRecord, Trial, read_trial, with_dominated
from kprune_export.experiments.sweep.table import markdown
from kprune_export.output_folder.inputs import OUTPUT, check_apart
from kprune_export.pipeline.distributed import launched_processes
from kprune_export.pipeline.estimates import Expected
from kprune_export.pipeline.job import Job, check_variants, prepare_job
from kprune_export.pipeline.run import Reporter, SilentReporter, measure_for_target
from kprune_export.pipeline.stages.target import LatencyTableStage, SensitivityStage

logger = logging.getLogger(__name__)


class Trials(Protocol):
    """Makes trials somewhere."""

    def run(self, orders: Sequence[Order], progress: ShareDone, warn: Warn) -> list[TrialEnd]:
        """Carry out orders, and return how each ended, in their order."""


@dataclass(frozen=True)
class _Part:
    """Shows a run of a single stage as one of the sweep's."""

    whole: Reporter
    number: int
    total: int
    about: str

    def stage(self, _number: int, _total: int, title: str) -> AbstractContextManager[ShareDone]:
        """Show the stage."""
        return self.whole.stage(self.number, self.total, f"{title}{self.about}")

    def skipped(self, _number: int, _total: int, title: str) -> None:
        """Say that it still holds."""
        self.whole.skipped(self.number, self.total, f"{title}{self.about}")

    def planned(self, _expected: Expected) -> None:
        """Do nothing: what the sweep's trials take is not known."""


def sweep(request: SweepRequest, trials: Trials, reporter: Reporter | None = None) -> SweepRecord:
    """Make a bundle for every trial, and write what they come to.

    A trial that fails is recorded with its reason, and the others are made. Whatever was measured or built stays in
    the folder, and is not done again by the same inputs.

    Args:
        request: what is asked.
        trials: makes them.
        reporter: notified of each stage.

    Raises:
        PruningError, ExporterError, ProductError: what was asked for cannot be done, for any of the trials.

    """
    reporter = reporter or SilentReporter()
    if launched_processes() > 1:
        raise RecipeError("A sweep starts its own processes: run it without torchrun.")
    check_apart([(OUTPUT, request.recipe.output)], request.recipe.inputs)
    SweepFolder.check(request.recipe.output)
    job = _checked(request)
    variants, wanted = request.recipe.variants, request.trials()
    total = len(variants) + 2
    with SweepFolder.open(request.recipe.output) as folder:
        _measure_shared(request, reporter, total)
        orders = [_order(request, trial, folder) for trial in wanted]
        with reporter.stage(total, total, f"Making {len(wanted)} models") as progress:
            ends = trials.run(orders, progress, logger.warning)
        found = tuple(
            read_trial(trial, trial_folder(folder.output, trial.name), end, job.source_record)
            for trial, end in zip(wanted, ends, strict=True)
        )
        record = _record(job, found)
        return folder.publish({PLOT: draw(record), TABLE: markdown(record)}, record)


def exit_code(record: SweepRecord) -> ExitCode:
    """Return what the command line returns: 0 if there is a pruned model that keeps every gate that was set.

    Otherwise 6 if one might, but the machine was too noisy to decide, and else 3.
    """
    pruned = [figures for trial, figures in record.made if trial.speedup is not None and not figures.broken]
    if any(not figures.inconclusive for figures in pruned):
        return ExitCode.OK
    return ExitCode.INCONCLUSIVE if pruned else ExitCode.GATE_FAILED


def _checked(request: SweepRequest) -> Job:
    """Find what is wrong with the input before anything is written."""
    check_variants(request.recipe, measures=True)
    first = request.measuring_recipe(request.recipe.variants[0], request.recipe.output)
    return prepare_job(first, prunes=True, exports=True, measures=True)


def _measure_shared(request: SweepRequest, reporter: Reporter, total: int) -> None:
    """Measure the latency tables, one after another and with no trial beside them, and the sensitivity curves."""
    output, variants = request.recipe.output, request.recipe.variants
    for number, variant in enumerate(variants, start=1):
        recipe = request.measuring_recipe(variant, table_folder(output, variant))
        measure_for_target(recipe, LatencyTableStage(), _Part(reporter, number, total, f", {variant}"))
    recipe = request.measuring_recipe(variants[0], sensitivity_folder(output))
    measure_for_target(recipe, SensitivityStage(), _Part(reporter, len(variants) + 1, total, ""))


def _order(request: SweepRequest, trial: TrialRequest, folder: SweepFolder) -> Order:
    recipe = request.recipe_of(trial).model_dump(mode="json", exclude_unset=True)
    return Order(recipe=recipe, dense=trial.speedup is None, turns=str(folder.turns))


def _record(job: Job, trials: tuple[Trial, ...]) -> SweepRecord:
    return SweepRecord(
        source=job.source_record,
        task=job.source.task.name,
        held_out=job.held_out_record,
        machine=job.machine,
        threads=job.threads,
        shapes=tuple(str(shape) for shape in job.shapes),
        trials=with_dominated(trials),
    )
