"""Alignment of a text's words with a model's tokens."""

from collections.abc import Sequence
from typing import Any

from kprune_export.errors import LabelError


def check_fast(tokenizer: Any) -> None:
    """Refuse a tokenizer that does not say where in the text its tokens are.

    Raises:
        LabelError: it does not.

    """
    if not tokenizer.is_fast:
        raise LabelError(
            f"The tokenizer ({type(tokenizer).__name__}) does not say where in a text its tokens are, so tokens cannot "
            "be compared with words or answers: save the checkpoint with a fast one (tokenizer.json)."
        )


def first_tokens(words: Sequence[str], encoded: Any, row: int) -> list[int | None]:
    """Return the place of each word's first token in one text; None for words that were cut off.

    Words and tokens are matched by the characters that they cover, as the text is the words with a space
    between each two: so it does not matter how a tokenizer treats words.

    Args:
        words: the text's words.
        encoded: what `pruning.calibration.batches.encode` returned.
        row: the text's row in it.

    """
    places: list[int | None] = [None] * len(words)
    ends, start = [], 0
    for word in words:
        ends.append(start + len(word))
        start = ends[-1] + 1
    current = 0
    for place, (begin, end) in enumerate(encoded["offset_mapping"][row]):
        if encoded["special_tokens_mask"][row][place] or begin == end:
            continue
        while current < len(words) and ends[current] <= begin:
            current += 1
        if current < len(words) and places[current] is None and end > ends[current] - len(words[current]):
            places[current] = place
    return places
