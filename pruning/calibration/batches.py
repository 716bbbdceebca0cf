"""Examples as padded batches of tokens, sorted by length so that little is padding."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pruning.calibration.examples import Example

BATCH_SIZE = 32
MASKED_SHARE = 0.15
"""How much of a text is masked for a masked language model, as BERT was trained."""


@dataclass(frozen=True)
class Batch:
    """Some texts of like length, tokenised and padded on the right.

    Attributes:
        inputs: the model's inputs, each (texts, tokens), int64.
        counted: (texts, tokens), 1 where the task's output counts.
        rows: for each text, its index among the examples that the batches were made from.

    """

    inputs: Mapping[str, Tensor]
    counted: Tensor
    rows: tuple[int, ...]

    @property
    def attention_mask(self) -> Tensor:
        """(texts, tokens), 1 where there is a token and 0 in padding."""
        return self.inputs["attention_mask"]

    @property
    def tokens(self) -> int:
        """How many tokens are not padding."""
        return int(self.attention_mask.sum())

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with its tensors on a device."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return Batch(inputs, self.counted.to(device), self.rows)

    def texts(self, chosen: slice) -> "Batch":
        """Return some of the texts as a batch of their own."""
        return Batch(
            {name: tensor[chosen] for name, tensor in self.inputs.items()}, self.counted[chosen], self.rows[chosen]
        )

    def without(self, left_out: slice) -> "Batch":
        """Return all texts but some as a batch of their own, which may be empty."""
        kept = torch.ones(len(self.rows), dtype=torch.bool)
        kept[left_out] = False
        rows = tuple(row for row, keep in zip(self.rows, kept.tolist(), strict=True) if keep)
        return Batch({name: tensor[kept] for name, tensor in self.inputs.items()}, self.counted[kept], rows)


@dataclass(frozen=True)
class Counting:
    """At which tokens outputs count, and which tokens are masked.

    Attributes:
        special_tokens: whether [CLS], [SEP] and their like count.
        mask_seed: if given, `MASKED_SHARE` of each text's tokens, at least one and none of them special, are
            replaced by the mask token, and they alone count; the seed and the text's place in the list
            decide which.

    """

    special_tokens: bool = True
    mask_seed: int | None = None


def encode(tokenizer: Any, examples: Sequence[Example], max_tokens: int) -> Any:
    """Tokenise examples, each cut to ``max_tokens``; returns transformers' ``BatchEncoding``, not padded.

    Where the tokenizer can say it (fast ones can), also where in the text each token is: ``offset_mapping``.
    """
    texts = [example.text for example in examples]
    pairs = [example.pair or "" for example in examples] if any(x.pair is not None for x in examples) else None
    return tokenizer(
        texts,
        pairs,
        truncation=True,
        max_length=max_tokens,
        padding=False,
        return_special_tokens_mask=True,
        return_offsets_mapping=bool(tokenizer.is_fast),
    )


def distinct_inputs(tokenizer: Any, examples: Sequence[Example], max_tokens: int) -> int:
    """Return how many of the examples are different to a model: after tokenizing, and cut to ``max_tokens``."""
    return len({tuple(ids) for ids in encode(tokenizer, examples, max_tokens)["input_ids"]})


def make_batches(
    tokenizer: Any,
    examples: Sequence[Example],
    max_tokens: int,
    batch_size: int = BATCH_SIZE,
    counting: Counting | None = None,
) -> tuple[Batch, ...]:
    """Tokenise examples, cut them to ``max_tokens``, and batch those of like length together.

    Args:
        tokenizer: the checkpoint's tokenizer; it must have a mask token if tokens are to be masked.
        examples: the texts.
        max_tokens: the length that each is cut to.
        batch_size: texts in a batch.
        counting: at which tokens outputs count; all that are not padding unless given.

    """
    counting = counting or Counting()
    encoded = encode(tokenizer, examples, max_tokens)
    special = encoded["special_tokens_mask"]
    columns = {name: encoded[name] for name in ("input_ids", "token_type_ids", "attention_mask") if name in encoded}
    counted = columns["attention_mask"]
    if not counting.special_tokens:
        counted = [[1 - flag for flag in flags] for flags in special]
    if counting.mask_seed is not None:
        counted = [_masked(flags, f"{counting.mask_seed}/{row}") for row, flags in enumerate(special)]
        columns["input_ids"] = [
            [tokenizer.mask_token_id if hidden else token for token, hidden in zip(ids, flags, strict=True)]
            for ids, flags in zip(columns["input_ids"], counted, strict=True)
        ]
    padding = {"input_ids": tokenizer.pad_token_id or 0}
    lengths = [len(ids) for ids in columns["input_ids"]]
    order = sorted(range(len(examples)), key=lambda row: (lengths[row], row))
    batches = []
    for start in range(0, len(order), batch_size):
        rows = tuple(order[start : start + batch_size])
        inputs = {
            name: _padded([values[row] for row in rows], padding.get(name, 0)) for name, values in columns.items()
        }
        batches.append(Batch(inputs, _padded([counted[row] for row in rows], 0), rows))
    return tuple(batches)


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def _masked(special: Sequence[int], seed: str) -> list[int]:
    """Choose which tokens of a text are masked: 1 where they are."""
    words = [place for place, flag in enumerate(special) if not flag]
    count = min(len(words), max(1, round(MASKED_SHARE * len(words))))
    chosen = set(random.Random(seed).sample(words, count))  # noqa: S311 - a sample, not a secret
    return [int(place in chosen) for place in range(len(special))]
