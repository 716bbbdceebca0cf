"""The stages of a run with a latency target: what widths cost here, what they lose, and which are taken."""

import hashlib
import json
import logging
from collections.abc import Callable
from typing import Any

from exporters.spec import Shape
from exporters.timing.latency_table.table import LatencyTable, Widths, fingerprint
from exporters.timing.noise import total
from kprune_export.bundle.layout import CHECKPOINT, LATENCY_TABLE, PLAN, RECOVERY, SENSITIVITY, TARGET
from kprune_export.errors import TargetError
from kprune_export.gates.noise import table_remark
from kprune_export.latency_target.profile import profile_target
from kprune_export.latency_target.request import (
    check_reachable,
    default_alignment,
    dimensions_of,
    read_table,
    target_of,
)
from kprune_export.latency_target.search import TimeSearch
from kprune_export.latency_target.target_record import SensitivityRecord
from kprune_export.latency_target.timed_models import OnnxModels
from kprune_export.latency_target.trial_timing import TimedShare, trial_timings
from kprune_export.pipeline.distributed import helped
from kprune_export.pipeline.estimates import Pace
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.recovery import pruning_progress, recovery_s
from kprune_export.pipeline.stages.export import range_feeds
from kprune_export.pipeline.stages.prune import PruneStage, pruned, pruning_task, save
from kprune_export.pipeline.stages.stage import Stage, StageContext
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.checkpoint.source import file_sha256
from pruning.methods import method_for
from pruning.plan import PruningPlan
from pruning.prune import sensitivity_of

logger = logging.getLogger(__name__)

TABLE_BATCHES = 2
"""How many batches of calibration texts int8 is tried on where only times count."""


class LatencyTableStage(Stage):
    """Measure the latency table at the target's shapes, or take the one that is given: writes latency_table.json."""

    name = "latency-table"
    title = "Measuring what widths cost"
    outputs = (LATENCY_TABLE,)
    reproducible = False
    timed = True

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the dimensions, the variant, the shapes and the machine; or the hash of the table that is given."""
        if job.recipe.latency_table is not None:
            return {"table": read_table(job.recipe, job.source, job.machine, job.threads).sha256}
        return {
            "dimensions": dimensions_of(job.source).model_dump(),
            "variant": str(job.variants[0]),
            "shapes": [x.shape for x in target_of(job.recipe).shapes],
            "align": alignment(job),
            "machine": fingerprint(job.machine, job.threads, job.variants[0].runtime.value),
        }

    def expected_s(self, job: Job, pace: Pace) -> float:
        """Return the time of some thirty models, exported and timed at each shape."""
        calls = sum(shape.batch * shape.sequence for shape in job.shapes) * pace.token_s
        return 10.0 + 30 * (1.0 + len(job.shapes) + 10 * calls)

    def execute(self, job: Job, context: StageContext) -> None:
        """Measure."""
        if job.recipe.latency_table is not None:
            table = read_table(job.recipe, job.source, job.machine, job.threads)
        else:
            shapes = [Shape.parse(x.shape) for x in target_of(job.recipe).shapes]
            table = profile_target(
                job.source,
                models_of(job, TABLE_BATCHES),
                shapes,
                alignment(job),
                job.threads,
                job.machine,
                context.progress,
                context.parts,
            )
        if remark := table_remark(table):
            logger.warning("%s", remark)
        table.write(context.folder / LATENCY_TABLE)


class SensitivityStage(Stage):
    """Measure what every sublayer's widths lose, or take the curves that are given: writes sensitivity.json."""

    name = "sensitivity"
    title = "Measuring what widths lose"
    outputs = (SENSITIVITY,)

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the source, the texts and the seed; and the hash of the curves where they are given."""
        given = job.recipe.sensitivity
        return {
            "given": file_sha256(given) if given else None,
            "source": job.source_record.model_dump(exclude={"model"}),
            "calibration": job.calibration_record.sha256,
            "seed": job.recipe.seed,
            "placement": repr(job.placement),
        }

    def expected_s(self, job: Job, pace: Pace) -> float:
        """Return half of a pruning's passes."""
        return 2.0 + method_for(job.recipe.pruning).dense_passes / 2 * pace.calibration_pass_s

    def execute(self, job: Job, context: StageContext) -> None:
        """Measure; finished curves stay in the scratch folder for a run that is killed.

        Raises:
            TargetError: the curves that are given are of another model or other texts.

        """
        identity = {
            "source_sha256": job.source_record.weights_sha256,
            "config_sha256": job.source_record.config_sha256,
            "companions_sha256": job.source_record.tokenizer_sha256,
            "texts_sha256": job.calibration_record.sha256,
            "seed": job.recipe.seed,
        }
        if job.recipe.sensitivity is not None:
            record = SensitivityRecord.read(job.recipe.sensitivity)
            for name, value in identity.items():
                if getattr(record, name) != value:
                    raise TargetError(
                        f"The sensitivity curves {job.recipe.sensitivity} are not of this run: their "
                        f"{name.replace('_', ' ')} is {getattr(record, name)}, not {value}."
                    )
        else:
            settings = job.recipe.pruning
            task = pruning_task(job, settings, context.scratch).model_copy(update={"curves_only": True})
            with helped(task):
                curves = sensitivity_of(
                    job.take_dense(),
                    job.calibration,
                    settings,
                    job.placement,
                    context.scratch,
                    context.progress,
                )
            record = SensitivityRecord(**identity, curves=curves)
        record.write(context.folder / SENSITIVITY)


class TargetedPruneStage(PruneStage):
    """Search for the widths, time trials of them, and prune to them: writes target.json, plan.json and checkpoint/."""

    title = "Searching for widths and pruning"
    outputs = (PLAN, CHECKPOINT, RECOVERY, TARGET)
    reads = (LATENCY_TABLE, SENSITIVITY)
    reproducible = False
    timed = True

    def settings(self, job: Job) -> dict[str, Any]:
        """Return what decides pruning, and the target."""
        return super().settings(job) | {
            "target": target_of(job.recipe).model_dump(),
            "align": alignment(job),
            "carried": job.recipe.table_carried,
            "timing_seconds": job.recipe.timing_seconds,
        }

    def expected_s(self, job: Job, pace: Pace) -> float:
        """Return half of a pruning's passes, twice, and some trials."""
        return 20.0 + method_for(job.recipe.pruning).dense_passes * pace.calibration_pass_s + recovery_s(job, pace)

    def execute(self, job: Job, context: StageContext) -> None:
        """Search; where this is the machine to be fast on, time what is found, before it is pruned and after.

        Raises:
            TargetError: the target is out of reach, or the dense model meets it.

        """
        table, target = LatencyTable.read(context.files(LATENCY_TABLE)), target_of(job.recipe)
        check_reachable(target, table)
        curves = SensitivityRecord.read(context.files(SENSITIVITY)).curves
        search = TimeSearch(target, table, curves, alignment(job))
        made: dict[Widths, tuple[EncoderCheckpoint, PruningPlan]] = {}

        timings: list[TimedShare] = []

        def prune_to(widths: Widths) -> tuple[EncoderCheckpoint, PruningPlan]:
            made.clear()  # one model is in memory at a time
            settings = job.recipe.pruning.model_copy(update={"widths": widths})
            progress = pruning_progress(job, context.progress)
            made[widths] = pruned(job, settings, context.scratch, progress)
            return made[widths]

        def timed_once(what: str, widths: Widths, measure: Callable[[], TimedShare]) -> float:
            timings.append(context.parts.once(f"{what}-{_key(widths)}", TimedShare, measure))
            return timings[-1].share

        variant = str(job.variants[0])
        if job.recipe.table_carried:
            record = search.run(None, variant)
        else:
            with trial_timings(models_of(job), target, job.source, job.recipe.timing) as timed:

                def time_trial(widths: Widths) -> float:
                    return timed_once("trial", widths, lambda: timed.of_widths(widths))

                def finish(widths: Widths) -> float:
                    def measure() -> TimedShare:
                        return timed.of_finished(*prune_to(widths), search.asked_share)

                    return timed_once("finished", widths, measure)

                record = search.meet(time_trial, finish, variant)
        record = record.model_copy(update={"disturbance": total(x.disturbance for x in timings)})
        taken = record.taken.widths
        save(job, *(made[taken] if taken in made else prune_to(taken)), context)
        record.write(context.folder / TARGET)


def _key(widths: Widths) -> str:
    """Return a short name for widths, by which a round's times are kept."""
    return hashlib.sha256(json.dumps(list(map(list, widths))).encode()).hexdigest()[:16]


def alignment(job: Job) -> int:
    """Return what FFN widths are multiples of."""
    return job.recipe.align or default_alignment(job.variants[0].precision)


def models_of(job: Job, batches: int | None = None) -> OnnxModels:
    """Return the dense model at any widths, in the run's one variant.

    Args:
        job: the run.
        batches: on how many batches int8 is tried; all that a variant that ships is tried on unless given.

    """
    return OnnxModels(
        job.source.reload,
        job.variants[0],
        job.threads,
        range_feeds(job.source, job, job.variants)[:batches],
        job.recipe.engine,
    )
