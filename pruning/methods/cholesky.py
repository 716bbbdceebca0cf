"""Cholesky factors, whose failure is an error about the model's values and not of this program."""

import torch
from torch import Tensor

from pruning.errors import SolveError


def cholesky_factor(matrix: Tensor, of: str) -> Tensor:
    """Return the lower Cholesky factors of matrices, (..., n, n).

    Args:
        matrix: symmetric positive definite matrices, (..., n, n).
        of: what they are, for the message.

    Raises:
        SolveError: one is not positive definite, or holds NaN or infinite values.

    """
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(matrix)
    if bool(info.any()) or not bool(factor.isfinite().all()):
        raise SolveError(
            f"The {of} cannot be factored: some of the model's weights or activations are NaN, infinite or too large "
            "to compute with; check the checkpoint's weights."
        )
    return factor
