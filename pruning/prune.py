"""Pruning a loaded checkpoint: from texts to a plan and a smaller model."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pruning.calibration.batches import Batch
from pruning.calibration.examples import Example, examples_sha256
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.errors import CalibrationError, CheckpointError
from pruning.memory import keep_large_blocks_apart
from pruning.methods import method_for
from pruning.methods.base import Progress, PruningRun
from pruning.methods.disk_store import Spill
from pruning.methods.journal import Journal, fingerprint
from pruning.methods.kprune.method import measure_sensitivity
from pruning.methods.kprune.sensitivity import SensitivityCurve
from pruning.methods.placement import CPU, Placement
from pruning.methods.shards import shard
from pruning.plan import CalibrationRecord, EncoderShape, MethodRecord, PruningPlan
from pruning.settings import PruningSettings

logger = logging.getLogger(__name__)


def prune_checkpoint(
    checkpoint: EncoderCheckpoint,
    examples: Sequence[Example],
    settings: PruningSettings,
    placement: Placement = CPU,
    journal_folder: Path | None = None,
    progress: Progress = lambda _: None,
) -> PruningPlan:
    """Prune a dense checkpoint's model in place and return the plan.

    Args:
        checkpoint: a dense checkpoint; its model is cut and re-tuned.
        examples: the texts to calibrate on; a sentence embedder reads the texts of a pair one by one.
        settings: the budget, the hyperparameters, and the seed that the examples were drawn with.
        placement: where and in what precision the network runs; the model is on the CPU before and after.
        journal_folder: where finished sublayers are kept, so that a killed run can resume.
        progress: called with how far the run is, from 0 to 1.

    Raises:
        CheckpointError: the checkpoint is pruned already.
        CalibrationError: the task cannot use the texts, or there are too few tokens.
        BudgetError: the reduction is not in (0, 1), or leaves nothing to keep, or the widths do not fit.
        MethodError: there is no such method, or it has no such hyperparameter.
        SolveError: a sublayer's weights could not be solved for.

    """
    method = method_for(settings)
    prepared = _prepare(checkpoint, examples, settings, placement, journal_folder, progress)
    checkpoint.model.to(placement.storage)
    with prepared.run.spill:
        layers = method.prune(prepared.run)
    checkpoint.model.to("cpu")
    chosen = {name: value for name, value in method.defaults.items() if value is not None}
    return PruningPlan(
        family=checkpoint.family.name,
        shape=prepared.run.adapter.shape,
        sequence_length=settings.sequence_length,
        requested_reduction=settings.flops_reduction,
        source_sha256=prepared.source_sha256,
        method=MethodRecord(name=method.name, parameters={**chosen, **settings.hyperparameters}),
        calibration=prepared.calibration,
        layers=layers,
    )


def sensitivity_of(
    checkpoint: EncoderCheckpoint,
    examples: Sequence[Example],
    settings: PruningSettings,
    placement: Placement = CPU,
    journal_folder: Path | None = None,
    progress: Progress = lambda _: None,
) -> tuple[SensitivityCurve, ...]:
    """Measure how far the output of a dense checkpoint's model moves when each sublayer is cut; it stays as it is.

    Pruning measures the same curves itself, unless it is given widths: this is for callers that choose those.
    Arguments and errors are those of `prune_checkpoint`; of the settings only what concerns the texts is used.
    """
    prepared = _prepare(checkpoint, examples, settings, placement, journal_folder, progress)
    checkpoint.model.to(placement.storage)
    with prepared.run.spill:
        curves = measure_sensitivity(prepared.run)
    checkpoint.model.to("cpu")
    return tuple(curves)


@dataclass(frozen=True)
class _Prepared:
    """A run, and what its plan records of it."""

    run: PruningRun
    source_sha256: str
    calibration: CalibrationRecord


def _prepare(
    checkpoint: EncoderCheckpoint,
    examples: Sequence[Example],
    settings: PruningSettings,
    placement: Placement,
    journal_folder: Path | None,
    progress: Progress,
) -> _Prepared:
    if checkpoint.plan is not None:
        raise CheckpointError(
            f"{checkpoint.folder.path} is pruned already, by {checkpoint.plan.flops_reduction:.1%}: "
            "prune the dense checkpoint that it came from."
        )
    keep_large_blocks_apart()
    examples = checkpoint.task.texts(examples)
    adapter = checkpoint.open()
    batches = checkpoint.batches(examples, settings.seed)
    tokens = check_tokens(batches, adapter.shape)
    source_sha256 = checkpoint.identity.weights_sha256
    texts_sha256 = examples_sha256(examples)
    journal = None
    if journal_folder is not None:
        decided_by = fingerprint(
            source=checkpoint.identity.model_dump(),
            texts=texts_sha256,
            seed=settings.seed,
            task=repr(checkpoint.task),
            pooling=checkpoint.pooled_by,
            placement=repr(placement),
        )
        journal = Journal(journal_folder, decided_by)
    run = PruningRun(adapter, shard(batches), settings, placement, journal, Spill(journal_folder), progress)
    calibration = CalibrationRecord(texts=len(examples), tokens=tokens, sha256=texts_sha256, seed=settings.seed)
    return _Prepared(run, source_sha256, calibration)


def check_tokens(batches: Sequence[Batch], shape: EncoderShape) -> int:
    """Return the number of calibration tokens; warn if they are few, refuse if they are far too few.

    A sublayer's least-squares problem has as many unknowns for each output as it has features, so fewer
    tokens than the widest sublayer's features cannot determine it; the ridge then decides the rest.

    Raises:
        CalibrationError: there are fewer tokens than a quarter of the widest sublayer's features.

    """
    tokens = sum(batch.tokens for batch in batches)
    needed = max(shape.neurons, shape.heads * shape.head_size)
    if tokens < needed // 4:
        raise CalibrationError(
            f"The calibration texts hold {tokens} tokens, but at least {needed // 4} are needed for this model's "
            f"{needed} features a sublayer (and ten times {needed} are better): give more text."
        )
    if tokens < needed:
        logger.warning(
            "The calibration texts hold %d tokens, fewer than the %d features of the widest sublayer: its weights are "
            "not determined by the data alone, and the ridge keeps them near the old ones. Give more text.",
            tokens,
            needed,
        )
    return tokens
