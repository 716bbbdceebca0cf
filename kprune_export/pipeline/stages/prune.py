"""Prune the dense checkpoint: the plan, and the checkpoint rebuilt from it."""

from pathlib import Path
from typing import Any

from kprune_export.bundle.layout import CHECKPOINT, PLAN, RECOVERY
from kprune_export.pipeline.distributed import PruningTask, helped
from kprune_export.pipeline.estimates import Pace
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.recovery import pruning_progress, recovered, recovery_key, recovery_s
from kprune_export.pipeline.stages.stage import ShareDone, Stage, StageContext
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.checkpoint.save import save_pruned
from pruning.methods import method_for
from pruning.plan import PruningPlan
from pruning.prune import prune_checkpoint
from pruning.settings import PruningSettings


class PruneStage(Stage):
    """Prune, and recover where there are texts enough: writes plan.json, checkpoint/ and recovery.json."""

    name = "prune"
    title = "Pruning"
    outputs: tuple[str, ...] = (PLAN, CHECKPOINT, RECOVERY)

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the source, the texts, and the method's settings."""
        return {
            "source": job.source_record.model_dump(exclude={"model"}),
            "calibration": job.calibration_record.sha256,
            "seed": job.recipe.seed,
            "method": job.recipe.pruning.model_dump(),
            "placement": repr(job.placement),
            "recovery": recovery_key(job),
        }

    def expected_s(self, job: Job, pace: Pace) -> float:
        """Return the method's passes over the calibration texts, and the training's steps."""
        return 2.0 + method_for(job.recipe.pruning).dense_passes * pace.calibration_pass_s + recovery_s(job, pace)

    def execute(self, job: Job, context: StageContext) -> None:
        """Prune and save; finished sublayers stay in the scratch folder for a run that is killed."""
        progress = pruning_progress(job, context.progress)
        save(job, *pruned(job, job.recipe.pruning, context.scratch, progress), context)


def pruned(
    job: Job, settings: PruningSettings, journal: Path, progress: ShareDone
) -> tuple[EncoderCheckpoint, PruningPlan]:
    """Prune a job's model, and return it with its plan.

    Args:
        job: the model and the texts.
        settings: the method and its budget, or widths.
        journal: where finished steps are kept.
        progress: called with the share that is done.

    """
    checkpoint = job.take_dense()
    with helped(pruning_task(job, settings, journal)):
        plan = prune_checkpoint(checkpoint, job.calibration, settings, job.placement, journal, progress)
    return checkpoint, plan


def save(job: Job, checkpoint: EncoderCheckpoint, plan: PruningPlan, context: StageContext) -> None:
    """Recover a pruned model where the job asks for it, and write its plan, its checkpoint and the report of that."""
    report = recovered(job, checkpoint, context)
    folder = context.folder
    (folder / PLAN).write_text(plan.to_json(), encoding="utf-8")
    report.write(folder / RECOVERY)
    save_pruned(checkpoint, plan, folder / CHECKPOINT)


def pruning_task(job: Job, settings: PruningSettings, journal: Path) -> PruningTask:
    """Return what a job prunes, in the form that other processes receive.

    Args:
        job: the model and the texts.
        settings: the method, its budget and its seed, which is the one that the texts were drawn with.
        journal: where finished steps are kept.

    """
    return PruningTask(
        model=str(job.source.folder.path.resolve()),
        source=job.source.identity,
        allow_pickle=job.recipe.allow_pickle,
        pooling=job.source.pooling,
        texts=tuple((x.text, x.pair) for x in job.calibration),
        settings=settings,
        device=job.recipe.device,
        offload=job.recipe.offload,
        journal=str(journal.resolve()),
    )
