"""Check that a checkpoint's tokenizer has the vocabulary that the model was trained with.

Where its files are gone, transformers makes a tokenizer of the special tokens alone without an error: every word is
then unknown, and a pruned model agrees with the dense one on texts that say nothing.
"""

from pathlib import Path
from typing import Any

from pruning.errors import CheckpointError

SMALLEST_SHARE = 0.5
"""The least share of a model's embeddings that tokens must belong to. Published models are padded by a few per cent;
where half of the embeddings or more have no token, the tokenizer is another model's, or cut short."""
PADDING_ROWS = 128
"""Embeddings without a token that are accepted in any model: tables are padded to multiples of at most this."""
_FAST_FILE = "tokenizer.json"
_OPTIONAL = frozenset(("tokenizer_file", "spm_file", "emoji_file"))
"""Files of a tokenizer's class that it can do without, by transformers' keys for them."""


def vocabulary_files(tokenizer: Any) -> tuple[str, ...]:
    """Return the names of the files that a tokenizer's class reads its vocabulary from."""
    return tuple(dict.fromkeys((_FAST_FILE, *map(str, tokenizer.vocab_files_names.values()))))


def check_vocabulary_files(path: Path, tokenizer: Any) -> None:
    """Refuse a checkpoint that lacks files which its tokenizer was saved with.

    Args:
        path: the checkpoint.
        tokenizer: as transformers loaded it.

    Raises:
        CheckpointError: there is no ``tokenizer.json``, and a file is missing that is needed without one.

    """
    if (path / _FAST_FILE).is_file() or any(path.glob("tokenizer.*.json")):
        return
    needed = [str(name) for key, name in tokenizer.vocab_files_names.items() if key not in _OPTIONAL]
    missing = [name for name in needed if not (path / name).is_file()]
    if missing or not needed:
        instead = f" nor {', '.join(missing)}" if missing else ""
        raise CheckpointError(
            f"The tokenizer of {path} has no vocabulary: neither {_FAST_FILE}{instead} is there; copy the tokenizer's "
            f"files from the model that was fine-tuned, or save it there with tokenizer.save_pretrained."
        )


def check_vocabulary_size(path: Path, tokenizer: Any, rows: int) -> None:
    """Refuse a tokenizer that knows far fewer tokens than the model has embeddings.

    Args:
        path: the checkpoint.
        tokenizer: as transformers loaded it.
        rows: how many embeddings the model has.

    Raises:
        CheckpointError: most embeddings have no token.

    """
    tokens = len({number for number in tokenizer.get_vocab().values() if number < rows})
    if rows - tokens > PADDING_ROWS and tokens < SMALLEST_SHARE * rows:
        raise CheckpointError(
            f"The tokenizer of {path} knows {tokens} tokens, but the model has embeddings for {rows}: it is not the "
            "tokenizer that the model was trained with; restore that one's files."
        )
