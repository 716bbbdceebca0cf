"""Examples as padded batches of tokens, sorted by length so that little is padding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pruning.calibration.examples import Example

BATCH_SIZE = 32


@dataclass(frozen=True)
class Batch:
    """Some texts of like length, tokenised and padded on the right.

    Attributes:
        inputs: the model's inputs, each (texts, tokens), int64.
        rows: for each text, its index among the examples that the batches were made from.

    """

    inputs: Mapping[str, Tensor]
    rows: tuple[int, ...]

    @property
    def attention_mask(self) -> Tensor:
        """(texts, tokens), 1 where there is a token and 0 in padding."""
        return self.inputs["attention_mask"]

    @property
    def tokens(self) -> int:
        """How many tokens are not padding."""
        return int(self.attention_mask.sum())


def make_batches(
    tokenizer: Any, examples: Sequence[Example], max_tokens: int, batch_size: int = BATCH_SIZE
) -> tuple[Batch, ...]:
    """Tokenise examples, cut them to ``max_tokens``, and batch those of like length together."""
    texts = [example.text for example in examples]
    pairs = [example.pair or "" for example in examples] if any(x.pair is not None for x in examples) else None
    encoded = tokenizer(texts, pairs, truncation=True, max_length=max_tokens, padding=False)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    order = sorted(range(len(examples)), key=lambda row: (lengths[row], row))
    padding = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": 0, "attention_mask": 0}
    batches = []
    for start in range(0, len(order), batch_size):
        rows = tuple(order[start : start + batch_size])
        width = max(lengths[row] for row in rows)
        inputs = {
            name: torch.tensor([encoded[name][row] + [padding[name]] * (width - lengths[row]) for row in rows])
            for name in padding
            if name in encoded
        }
        batches.append(Batch(inputs, rows))
    return tuple(batches)
