"""Pruning a loaded checkpoint: from texts to a plan and a smaller model."""

import logging
from collections.abc import Sequence
from pathlib import Path

from pruning.calibration.batches import Batch, make_batches
from pruning.calibration.examples import Example, examples_sha256, flatten_pairs
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.errors import CalibrationError, CheckpointError
from pruning.kprune.journal import Journal, fingerprint
from pruning.kprune.loop import Progress, prune_encoder
from pruning.kprune.settings import KPruneSettings
from pruning.plan import CalibrationRecord, EncoderShape, MethodRecord, PruningPlan
from pruning.tasks import TaskKind

logger = logging.getLogger(__name__)


def prune_checkpoint(
    checkpoint: EncoderCheckpoint,
    examples: Sequence[Example],
    settings: KPruneSettings,
    seed: int,
    journal_folder: Path | None = None,
    progress: Progress = lambda _: None,
) -> PruningPlan:
    """Prune a dense checkpoint's model in place and return the plan.

    Args:
        checkpoint: a dense checkpoint; its model is cut and re-tuned.
        examples: the texts to calibrate on; a sentence embedder reads the texts of a pair one by one.
        settings: the budget and the hyperparameters.
        seed: the seed that the examples were drawn with, for the record.
        journal_folder: where finished sublayers are kept, so that a killed run can go on.
        progress: told how far the run is, from 0 to 1.

    Raises:
        CheckpointError: the checkpoint is pruned already.
        CalibrationError: there are too few tokens.
        BudgetError: the reduction is not in (0, 1), or leaves nothing to keep.
        SolveError: a sublayer's weights could not be solved for.

    """
    if checkpoint.plan is not None:
        raise CheckpointError(
            f"{checkpoint.folder.path} is pruned already, by {checkpoint.plan.flops_reduction:.1%}: "
            "prune the dense checkpoint that it came from."
        )
    if checkpoint.task.kind is TaskKind.EMBEDDING:
        examples = flatten_pairs(examples)
    settings = settings.resolved(checkpoint.task.kind)
    adapter = checkpoint.open()
    batches = make_batches(checkpoint.tokenizer, examples, checkpoint.max_tokens)
    tokens = check_tokens(batches, adapter.shape)
    source_sha256 = checkpoint.folder.weights_sha256()
    texts_sha256 = examples_sha256(examples)
    journal = None
    if journal_folder is not None:
        run = fingerprint(source=source_sha256, texts=texts_sha256, settings=settings.model_dump())
        journal = Journal(journal_folder, run)
    layers = prune_encoder(adapter, batches, settings, journal, progress)
    return PruningPlan(
        family=checkpoint.family.name,
        shape=adapter.shape,
        sequence_length=settings.sequence_length,
        requested_reduction=settings.flops_reduction,
        source_sha256=source_sha256,
        method=MethodRecord(
            name="kprune", parameters=settings.model_dump(exclude={"flops_reduction", "sequence_length"})
        ),
        calibration=CalibrationRecord(texts=len(examples), tokens=tokens, sha256=texts_sha256, seed=seed),
        layers=layers,
    )


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
