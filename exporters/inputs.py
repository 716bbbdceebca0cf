"""Synthetic inputs of every shape and padding pattern that a deployed model has to handle."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from exporters.spec import ModelSpec, Shape


class Padding(StrEnum):
    """Where the padding is."""

    NONE = "no padding"
    RIGHT = "right padding"
    ONE_TOKEN = "one real token"  # noqa: S105 - not a password


def synthetic_inputs(
    spec: ModelSpec,
    shape: Shape,
    padding: Padding = Padding.NONE,
    seed: int = 0,
) -> dict[str, NDArray[np.int64]]:
    """Make inputs of a shape: random token ids, padded as asked.

    With right padding every row but the first is cut to a random length; with one real token every row
    is. Token type ids are 1 in the second half of each row, where the model knows more than one type.

    Returns:
        int64 arrays of shape (batch, sequence) by input name, the same for the same arguments.

    """
    random = np.random.default_rng([seed, shape.batch, shape.sequence, list(Padding).index(padding)])
    size = (shape.batch, shape.sequence)
    lengths = np.full(shape.batch, shape.sequence)
    if padding is Padding.RIGHT:
        lengths[1:] = random.integers(1, shape.sequence + 1, shape.batch - 1)
        if shape.batch == 1:
            lengths[:] = (shape.sequence + 1) // 2
    elif padding is Padding.ONE_TOKEN:
        lengths[:] = 1
    mask = (np.arange(shape.sequence) < lengths[:, None]).astype(np.int64)
    ids = np.where(mask == 1, random.integers(0, spec.vocabulary, size), spec.pad_token_id)
    types = np.where(np.arange(shape.sequence) * 2 >= lengths[:, None], min(1, spec.token_types - 1), 0) * mask
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: np.ascontiguousarray(arrays[name], dtype=np.int64) for name in spec.inputs}
