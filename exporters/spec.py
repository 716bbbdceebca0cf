"""Interface of an exported model: its tensors, its limits, and what it must contain."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from exporters.errors import ShapeError

BATCH, SEQUENCE = "batch", "sequence"
"""The names of the two dynamic axes."""


@dataclass(frozen=True)
class TensorSpec:
    """A named input or output: its numpy dtype, and its shape with names for dynamic axes."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def per_token(self) -> bool:
        """Whether the second axis is the tokens, so that there are values in padding, which mean nothing."""
        return self.shape[1:2] == (SEQUENCE,)


@dataclass(frozen=True)
class ModelSpec:
    """An encoder as exporters see it.

    Attributes:
        inputs: the names of its int64 (batch, sequence) inputs, in order.
        outputs: its float outputs, in order: (batch, …), or (batch, sequence, …) where there is a value for
            each token.
        max_positions: the longest sequence in tokens that it can read.
        vocabulary: token ids are below this.
        token_types: token type ids are below this.
        pad_token_id: the id that padding has.
        attention_layers: how many layers attend; the graph must have one Attention node for each.
        metadata: what the graph's metadata says.

    """

    inputs: tuple[str, ...]
    outputs: tuple[TensorSpec, ...]
    max_positions: int
    vocabulary: int
    token_types: int
    pad_token_id: int
    attention_layers: int
    metadata: Mapping[str, str] = field(default_factory=dict)


LARGEST_BATCH, LONGEST_SEQUENCE = 2**20, 2**24
"""Texts in a batch, and tokens in a text: far above what any machine runs, far below what overflows."""


@dataclass(frozen=True, order=True)
class Shape:
    """A batch size and a sequence length in tokens, written ``8x128``."""

    batch: int
    sequence: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a shape from ``BATCHxTOKENS``.

        Raises:
            ShapeError: the text is not two positive numbers with an x between them, or these are too large.

        """
        match = re.fullmatch(r"\s*([1-9][0-9]*)\s*[x×]\s*([1-9][0-9]*)\s*", text)
        if match is None:
            raise ShapeError(f"{text[:80]!r} is not a shape: write the batch size and the tokens, as in 8x128.")
        for number, most, what in ((match[1], LARGEST_BATCH, "texts"), (match[2], LONGEST_SEQUENCE, "tokens")):
            if len(number) > len(str(most)) or int(number) > most:
                raise ShapeError(f"The shape {text[:80]} has {number[:80]} {what}, and at most {most} are accepted.")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.batch}x{self.sequence}"


def check_shapes(shapes: tuple[Shape, ...], max_positions: int) -> None:
    """Refuse a shape with more tokens than the model has positions.

    Raises:
        ShapeError: one has; the message names it and the limit.

    """
    for shape in shapes:
        if shape.sequence > max_positions:
            raise ShapeError(
                f"The shape {shape} has {shape.sequence} tokens, but the model reads at most {max_positions}: "
                "ask for a shorter shape."
            )
