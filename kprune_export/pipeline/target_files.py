"""Which target a run has, and whether it is to be judged."""

from kprune_export.bundle.layout import TARGET, Files
from kprune_export.latency_target.target_record import TargetRecord
from kprune_export.pipeline.job import Job


def read_target(job: Job, files: Files) -> TargetRecord | None:
    """Return a run's target, where it has one.

    Args:
        job: the run.
        files: maps target.json to where it is.

    """
    return TargetRecord.read(files(TARGET)) if job.recipe.targeted else None


def judged_target(job: Job, files: Files) -> TargetRecord | None:
    """Return a run's target where it can be judged: not while building with a table that another machine measured."""
    return None if job.prunes and job.recipe.table_carried else read_target(job, files)
