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
FAST_FILE = "tokenizer.json"
"""What the tokenizers library reads by itself."""
_OPTIONAL = frozenset(("tokenizer_file", "spm_file", "emoji_file"))
"""Files that a tokenizer's class can do without, by transformers' keys for them."""
SMALLEST_SHARE = 0.5
"""The least share of a model's embeddings that tokens must belong to. Published models are padded by a few per cent;
where half of the embeddings or more have no token, the tokenizer is another model's, or cut short."""
PADDING_ROWS = 128
"""Embeddings without a token that are accepted in any model: tables are padded to multiples of at most this."""


@dataclass(frozen=True)
class LoadedTokenizer:
    """A checkpoint's tokenizer.

    Attributes:
        tokenizer: transformers' tokenizer.
        max_tokens: the length in tokens that it cuts texts to.
        files: the names of the files that its class reads the vocabulary from, those that are there and others.

    """

    tokenizer: Any
    max_tokens: int
    files: tuple[str, ...]


def load_tokenizer(path: Path) -> LoadedTokenizer:
    """Load a checkpoint's tokenizer; no code of the checkpoint's own is run.

    Raises:
        CheckpointError: its files are not there, or are damaged.

    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        names = tuple(dict.fromkeys((FAST_FILE, *map(str, tokenizer.vocab_files_names.values()))))
        loaded = LoadedTokenizer(tokenizer, int(tokenizer.model_max_length), names)
    except Exception as error:  # the tokenizers library raises nothing more special
        _check_some(path, _VOCABULARIES)
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"The tokenizer in {path} cannot be loaded: {reason}") from error
    _check_files(path, tokenizer, names)
    return loaded


def check_vocabulary(tokenizer: Any, rows: int, path: Path) -> None:
    """Check that every token has an embedding, and most embeddings a token.

    An id without an embedding would be an index out of range, on some texts only. A tokenizer that knows few of the
    model's tokens is not the one that the model was trained with, and reads most words as unknown.

    Args:
        tokenizer: transformers' tokenizer.
        rows: how many embeddings the model has.
        path: the checkpoint, for the message.

    Raises:
        CheckpointError: a token has none, or most embeddings have no token.

    """
    vocabulary = tokenizer.get_vocab()
    tokens = len(set(vocabulary.values()))
    if rows - tokens > PADDING_ROWS and tokens < SMALLEST_SHARE * rows:
        raise CheckpointError(
            f"The tokenizer of {path} knows {tokens} tokens, but the model has embeddings for {rows}: it is not the "
            "one that the model was trained with; restore that one's files."
        )
    beyond = {token: number for token, number in vocabulary.items() if number >= rows}
    if beyond:
        token, number = max(beyond.items(), key=lambda item: item[1])
        raise CheckpointError(
            f"The tokenizer of {path} has {len(beyond)} token(s) without an embedding: {token[:80]!r} has the id "
            f"{number}, but the model embeds {rows} tokens: save the tokenizer that the model was trained with, or add "
            "the missing rows with model.resize_token_embeddings(len(tokenizer))."
        )


def _check_files(path: Path, tokenizer: Any, names: Collection[str]) -> None:
    """Refuse a folder without the vocabulary, for which transformers makes a tokenizer of special tokens alone."""
    if (path / FAST_FILE).is_file() or any(path.glob("tokenizer.*.json")):  # the latter of named versions
        return
    _check_some(path, names)
    missing = [str(x) for key, x in tokenizer.vocab_files_names.items() if key not in _OPTIONAL]
    missing = [name for name in missing if not (path / name).is_file()]
    if missing:
        raise CheckpointError(
            f"The tokenizer of {path} is incomplete: without {FAST_FILE} it needs {', '.join(missing)}; save the "
            f"tokenizer that the model was trained with there, by tokenizer.save_pretrained({str(path)!r})."
        )


def _check_some(path: Path, names: Collection[str]) -> None:
    if not any((path / name).is_file() for name in names):
        raise CheckpointError(
            f"{path} has no tokenizer files (none of {', '.join(sorted(names))}): save the tokenizer that the model "
            f"was trained with there, by tokenizer.save_pretrained({str(path)!r})."
        )
