"""Text models of a repository: which tasks have one, and whether tokenizer.json alone gives the checkpoint's tokens."""

from collections.abc import Sequence
from pathlib import Path

import tokenizers

from kprune_export.errors import BundleError
from kprune_export.evaluation import EVALUATIONS, evaluation_of
from kprune_export.evaluation.serving import TextServing
from kprune_export.triton.postprocessing import POSTPROCESSINGS
from kprune_export.triton.repository_record import EncoderRecord, TextRecord
from kprune_export.triton.tensors import STRING, ServedTensor
from pruning.calibration.batches import encode
from pruning.calibration.examples import Example
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.tasks import Task

TOKENIZER = "tokenizer.json"
_WITHOUT = "serve the encoder alone with --no-text (in prune-and-build --no-triton-text)"
_PROBES = (
    Example("a good film"),
    Example("Don't PANIC: naïve cafés cost 3.50 €, don't they?  Über-\tlong words, 漢字 and 🙂."),
    Example("the plot " * 2000),
    Example("", ""),
    Example("who wrote it?", "The story was written by an actor."),
    Example("good " * 1000, "bad " * 1500),
)
"""Texts on which tokenizers are compared: accents, other scripts, nothing, too much, pairs."""


def text_record(checkpoint: EncoderCheckpoint, encoders: Sequence[EncoderRecord], name: str, pairs: bool) -> TextRecord:
    """Decide what clients send and get.

    Args:
        checkpoint: the pruned checkpoint, with its tokenizer.
        encoders: the encoders that the texts are for.
        name: the beginning of the models' names.
        pairs: whether clients send pairs; rerankers always read them.

    Raises:
        BundleError: there is nothing of that for the task, or the tokenizer is not in one file.

    """
    serving = check_texts(checkpoint, pairs)
    names, postprocessing = serving.inputs(pairs), POSTPROCESSINGS[serving.activation]
    limits = [x.max_tokens for x in encoders]
    return TextRecord(
        ensembles={x.name: f"{x.name}-text" for x in encoders},
        tokenizer=f"{name}-tokenizer",
        answers=f"{name}-answers" if postprocessing.model_file else None,
        inputs=tuple(ServedTensor(name=field, dtype=STRING, dims=(1,)) for field in names),
        outputs=postprocessing.outputs(encoders[0].outputs),
        activation=serving.activation,
        max_batch=min(x.max_batch for x in encoders),
        min_tokens=max(x.min_tokens for x in encoders),
        max_tokens=min(checkpoint.max_tokens, *limits),
        places=postprocessing.places,
        read=names[1:] if postprocessing.reads_text else (),
    )


def check_texts(checkpoint: EncoderCheckpoint, pairs: bool) -> TextServing:
    """Check that a server can take texts for a checkpoint, which may be the dense one, and return how it does.

    Raises:
        BundleError: as `text_record`.

    """
    serving = _serving(checkpoint.task)
    if pairs and serving.pair is None:
        raise BundleError(
            f"A model for {checkpoint.task.name} reads one text at a time: leave out --pairs (in prune-and-build "
            "--triton-pairs)."
        )
    check_tokenizer(checkpoint)
    return serving


def _serving(task: Task) -> TextServing:
    serving = evaluation_of(task).serving(task.labels)
    if serving is None:
        known = ", ".join(name for name, evaluation in EVALUATIONS.items() if evaluation.serving(()) is not None)
        raise BundleError(f"Texts in and answers out is not there for {task.name}, only for {known}: {_WITHOUT}.")
    return serving


def check_tokenizer(checkpoint: EncoderCheckpoint) -> None:
    """Check that the checkpoint's tokenizer.json, read by the tokenizers library alone, gives the tokenizer's tokens.

    Raises:
        BundleError: there is none, or it gives others.

    """
    path = checkpoint.folder.path / TOKENIZER
    if not path.is_file():
        raise BundleError(f"{path} is missing, which a server reads texts with: {_WITHOUT}.")
    alone = read_tokenizer(path, checkpoint.max_tokens)
    for probe in _PROBES:
        expected = encode(checkpoint.tokenizer, [probe], checkpoint.max_tokens)
        found = alone.encode(probe.text, probe.pair)
        columns = {"input_ids": found.ids, "token_type_ids": found.type_ids, "attention_mask": found.attention_mask}
        for name in checkpoint.inputs:
            if list(expected[name][0]) != columns[name]:
                raise BundleError(
                    f"{path} gives other {name} than the checkpoint's tokenizer for the text {probe.text[:40]!r}: "
                    f"{_WITHOUT}."
                )


def read_tokenizer(path: Path, max_tokens: int) -> tokenizers.Tokenizer:
    """Read a tokenizer as the server's model.py does: cut to a number of tokens, and not padded."""
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer
