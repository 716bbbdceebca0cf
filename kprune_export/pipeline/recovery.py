"""Recovery within a run: whether there is one, what decides it, and how long it takes."""

from typing import Any

from kprune_export.bundle.recovery_report import RecoveryReport
from kprune_export.pipeline.estimates import Pace
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.stages.stage import ShareDone, StageContext
from pruning.calibration.examples import examples_sha256
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.methods.placement import CPU
from pruning.recovery.settings import LEAST_TEXTS, RecoveryRecord, RecoverySettings
from pruning.recovery.train import recover

PRUNING_SHARE = 0.5
"""How much of a stage's time is pruning, for the progress display, where it recovers too."""


def reason_against(job: Job) -> str:
    """Return why a run's pruned model is not trained on the dense model's outputs; empty where it is."""
    recipe = job.recipe
    if recipe.recover == "off":
        return "--recover is off"
    if recipe.recover == "on":
        return ""
    if recipe.calibration is None and recipe.recover_texts is None:
        return "no texts were given, and the default texts may be unlike those to be served"
    if len({(x.text, x.pair) for x in job.recovery}) < LEAST_TEXTS:
        return f"there are fewer than {LEAST_TEXTS} different texts to train on"
    return ""


def pruning_progress(job: Job, progress: ShareDone) -> ShareDone:
    """Return the progress callback for the part of a stage that prunes."""
    share = 1.0 if reason_against(job) else PRUNING_SHARE
    return lambda done: progress(share * done)


def recovered(job: Job, checkpoint: EncoderCheckpoint, context: StageContext) -> RecoveryReport:
    """Train a pruned model in place, where the job asks for it, and return the report."""
    if reason := reason_against(job):
        return RecoveryReport(recovery=RecoveryRecord(reason=reason))
    record = recover(
        checkpoint,
        job.source.reload(),
        job.recovery,
        _settings(job),
        CPU if job.placement.offloads else job.placement,
        context.scratch,
        lambda done: context.progress(PRUNING_SHARE + (1 - PRUNING_SHARE) * done),
    )
    return RecoveryReport(source=job.recovery_source, recovery=record)


def recovery_key(job: Job) -> dict[str, Any]:
    """Return what decides a recovery, as JSON values."""
    if reason := reason_against(job):
        return {"reason": reason}
    return {"settings": _settings(job).model_dump(), "texts": examples_sha256(job.recovery)}


def recovery_s(job: Job, pace: Pace) -> float:
    """Return how long a recovery takes, roughly, in seconds: a step is four dense passes."""
    return 0.0 if reason_against(job) else 4.0 * pace.token_s * job.recipe.recover_tokens


def _settings(job: Job) -> RecoverySettings:
    return RecoverySettings(tokens=job.recipe.recover_tokens, seed=job.recipe.seed)
