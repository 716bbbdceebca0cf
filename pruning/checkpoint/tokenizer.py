"""Loading a checkpoint's tokenizer, and refusing one that is not there or does not fit the embeddings."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pruning.errors import CheckpointError

_VOCABULARIES = (
    "bpe.codes",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spm.model",
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
)
"""Names of vocabularies, of which a folder has one at least."""


@dataclass(frozen=True)
class LoadedTokenizer:
    """A checkpoint's tokenizer.

    Attributes:
        tokenizer: transformers' tokenizer.
        max_tokens: the length in tokens that it cuts texts to.

    """

    tokenizer: Any
    max_tokens: int


def load_tokenizer(path: Path) -> LoadedTokenizer:
    """Load a checkpoint's tokenizer; no code of the checkpoint's own is run.

    Raises:
        CheckpointError: its files are not there, or are damaged.

    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        loaded = LoadedTokenizer(tokenizer, int(tokenizer.model_max_length))
    except Exception as error:  # the tokenizers library raises nothing more special
        _check_files(path, _VOCABULARIES)
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"The tokenizer in {path} cannot be loaded: {reason}") from error
    _check_files(path, {"tokenizer.json", *map(str, tokenizer.vocab_files_names.values())})
    return loaded


def check_vocabulary(tokenizer: Any, rows: int, path: Path) -> None:
    """Check that every token has an embedding: an id without one would be an index out of range, on some texts only.

    Args:
        tokenizer: transformers' tokenizer.
        rows: how many embeddings the model has.
        path: the checkpoint, for the message.

    Raises:
        CheckpointError: a token has none.

    """
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    if beyond:
        token, number = max(beyond.items(), key=lambda item: item[1])
        raise CheckpointError(
            f"The tokenizer of {path} has {len(beyond)} token(s) without an embedding: {token[:80]!r} has the id "
            f"{number}, but the model embeds {rows} tokens: save the tokenizer that the model was trained with, or add "
            "the missing rows with model.resize_token_embeddings(len(tokenizer))."
        )


def _check_files(path: Path, names: Collection[str]) -> None:
    """Refuse a folder without a vocabulary, for which transformers makes a tokenizer of special tokens alone."""
    if not any((path / name).is_file() for name in names):
        raise CheckpointError(
            f"{path} has no tokenizer files (none of {', '.join(sorted(names))}): save the tokenizer that the model "
            f"was trained with there, by tokenizer.save_pretrained({str(path)!r})."
        )
