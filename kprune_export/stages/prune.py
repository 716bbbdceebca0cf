"""Prune the dense checkpoint: the plan, and the checkpoint rebuilt from it."""

from typing import Any

from kprune_export.bundle.layout import CHECKPOINT, PLAN
from kprune_export.job import Job
from kprune_export.stages.base import Desk, Stage
from pruning.checkpoint.save import save_pruned
from pruning.prune import prune_checkpoint


class PruneStage(Stage):
    """K-prune: writes plan.json and checkpoint/."""

    name = "prune"
    title = "Pruning"
    outputs = (PLAN, CHECKPOINT)

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the source, the texts, and the method's settings."""
        return {
            "source": job.source_record.model_dump(exclude={"model"}),
            "calibration": job.calibration_record.sha256,
            "seed": job.recipe.seed,
            "method": job.recipe.pruning.model_dump(),
        }

    def execute(self, job: Job, desk: Desk) -> None:
        """Prune and save; finished sublayers stay in the scratch folder for a run that is killed."""
        checkpoint = job.take_dense()
        recipe = job.recipe
        plan = prune_checkpoint(checkpoint, job.calibration, recipe.pruning, recipe.seed, desk.scratch, desk.progress)
        (desk.folder / PLAN).write_text(plan.to_json(), encoding="utf-8")
        save_pruned(checkpoint, plan, desk.folder / CHECKPOINT)
