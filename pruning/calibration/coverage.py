"""Coverage of a set of texts by a tokenizer's vocabulary.

A word that the vocabulary lacks becomes the unknown token, or nothing. Where most of a text does, a pruned and a dense
model agree on it whatever was pruned, because both read next to nothing.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pruning.calibration.examples import Example
from pruning.errors import CalibrationError

logger = logging.getLogger(__name__)

SOME_UNKNOWN = 0.03
"""From this share of unread characters on there is a warning. Texts that a vocabulary was made for have under 0.1 %
(emoji, rare symbols); a few per cent show a mixture of languages, markup, or another normalisation."""
MOST_UNKNOWN = 0.5
"""From this share on texts are refused: most of what the model is given is then the same token, so that neither
calibration nor agreement on it says anything about texts that it can read."""
MANY_SPLIT = 0.25
"""From this share of characters that are split into several tokens on there is a warning. Byte-level vocabularies do
so with characters that they lack: nothing is lost, but the model has hardly seen such tokens."""


@dataclass(frozen=True)
class Coverage:
    """How much of some texts a tokenizer reads; shares are of characters that are not spaces.

    Attributes:
        unknown: the share that is read as the unknown token, or left out.
        split: the share that is split into several tokens a character.

    """

    unknown: float
    split: float


def measure_coverage(tokenizer: Any, examples: Sequence[Example], max_tokens: int) -> Coverage:
    """Measure how much of some texts a tokenizer reads.

    What is cut off because a text is too long for the model does not count. Where a tokenizer does not say where in
    the text its tokens are (one without ``tokenizer.json``), tokens are counted and not characters.

    Args:
        tokenizer: transformers' tokenizer.
        examples: the texts; the two of a pair are read one by one.
        max_tokens: the length in tokens that each is cut to.

    """
    texts = list(dict.fromkeys(text for example in examples for text in (example.text, example.pair) if text))
    if not texts:
        return Coverage(0.0, 0.0)
    fast = bool(tokenizer.is_fast)
    encoded = tokenizer(
        texts, add_special_tokens=False, truncation=True, max_length=max_tokens, return_offsets_mapping=fast
    )
    if not fast:
        return _of_tokens(encoded["input_ids"], tokenizer.unk_token_id)
    unread = split = total = 0
    unknown = tokenizer.unk_token_id
    for text, ids, offsets in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        known = [(start, end) for token, (start, end) in zip(ids, offsets, strict=True) if token != unknown]
        seen = max((end for _, end in offsets), default=0) if len(ids) >= max_tokens else len(text)
        rest = list(text[:seen])
        for start, end in known:
            rest[start:end] = " " * (end - start)
        unread += len("".join("".join(rest).split()))
        total += len("".join(text[:seen].split()))
        split += sum(n > 1 for (start, end), n in Counter(known).items() if end - start == 1)
    return Coverage(unread / total, split / total) if total else Coverage(0.0, 0.0)


def check_coverage(tokenizer: Any, examples: Sequence[Example], max_tokens: int, kind: str) -> Coverage:
    """Measure how much of some texts a tokenizer reads; warn where that is not all, refuse where it is little.

    Args:
        tokenizer: transformers' tokenizer.
        examples: the texts.
        max_tokens: the length in tokens that each is cut to.
        kind: what the texts are called in messages, as "calibration".

    Raises:
        CalibrationError: the share of unknown characters is `MOST_UNKNOWN` or more.

    """
    found = measure_coverage(tokenizer, examples, max_tokens)
    if found.unknown >= MOST_UNKNOWN:
        raise CalibrationError(
            f"The tokenizer does not know {found.unknown:.0%} of the {kind} texts' characters, so that results on them "
            "would mean nothing: give texts in the model's language and script, or check that the tokenizer's files "
            "are those that the model was trained with."
        )
    if found.unknown >= SOME_UNKNOWN:
        logger.warning(
            "The tokenizer does not know %.1f %% of the %s texts' characters: results are about what is left of them.",
            100 * found.unknown,
            kind,
        )
    if found.split >= MANY_SPLIT:
        logger.warning(
            "The tokenizer splits %.0f %% of the %s texts' characters into bytes, as it does with scripts that its "
            "vocabulary lacks: the model may not have been trained on such texts.",
            100 * found.split,
            kind,
        )
    return found


def _of_tokens(ids: Sequence[Sequence[int]], unknown: int | None) -> Coverage:
    empty = sum(not text for text in ids)
    unread = sum(token == unknown for text in ids for token in text)
    return Coverage((unread + empty) / (sum(map(len, ids)) + empty), 0.0)
