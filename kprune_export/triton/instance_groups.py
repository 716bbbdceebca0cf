"""Places of tokens in a text: the characters that each covers and its word, which spans are checked against."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

Span = tuple[int, int]
"""The first character of a text, and the one after the last."""


@dataclass(frozen=True)
class Places:
    """Where a text's tokens are.

    Attributes:
        text: the text that answers are taken from: the second one of a pair.
        tokens: their numbers, without special tokens and spaces.
        spans: what each of them covers.
        words: the number of each one's word, from 0.

    """

    text: str
    tokens: tuple[int, ...]
    spans: tuple[Span, ...]
    words: tuple[int, ...]

    @classmethod
    def of(cls, text: str, offsets: Sequence[Span], belongs: Sequence[bool], word_ids: Sequence[int | None]) -> Self:
        """Read what a tokenizer says.

        Words are the tokenizer's, split at punctuation and symbols, which some tokenizers leave in words.

        Args:
            text: the text.
            offsets: the characters of each token, spaces included.
            belongs: whether each token is one of this text's.
            word_ids: the tokenizer's word of each.

        """
        found: list[tuple[int, Span, int]] = []
        last: tuple[int | None, int] = (None, 0)
        for token, (offset, inside, word) in enumerate(zip(offsets, belongs, word_ids, strict=True)):
            start, end = _bare(text, offset) if inside else (0, 0)
            if start == end:
                continue
            same = word == last[0] and (start < last[1] or not _marks(text[start - 1], text[start]))
            number = found[-1][2] + (not same) if found else 0
            found.append((token, (start, end), number))
            last = (word, end)
        tokens, spans, words = zip(*found, strict=True) if found else ((), (), ())
        return cls(text, tokens, spans, words)

    def word_spans(self) -> dict[int, Span]:
        """Return what each word covers, by the number of its first token."""
        spans: dict[int, Span] = {}
        by_word: dict[int, int] = {}
        for token, (start, end), word in zip(self.tokens, self.spans, self.words, strict=True):
            first = by_word.setdefault(word, token)
            spans[first] = (spans.get(first, (start, end))[0], end)
        return spans


def _bare(text: str, offset: Span) -> Span:
    start, end = offset
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _marks(*characters: str) -> bool:
    return any(unicodedata.category(x).startswith(("P", "S")) for x in characters)


def places_of(encoding: Any, text: str, sequence: int) -> Places:
    """Return the places of one of the tokenizers library's encodings, in its first or second text (0 or 1)."""
    belongs = [x == sequence for x in encoding.sequence_ids]
    return Places.of(text, encoding.offsets, belongs, encoding.word_ids)


NOWHERE = Places("", (), (), ())
"""The places of a text that nobody asks for."""
