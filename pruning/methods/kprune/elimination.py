"""Backward elimination: which units a sublayer can best do without once the others' weights are re-solved.

The optimal brain surgeon's score (Hassibi and Stork, NeurIPS 1992), for whole units as in ZipLM (Kurtic,
Frantar and Alistarh, NeurIPS 2023): with ``C`` the left-hand side of the least-squares problem and ``W``
its solution, removing the columns S and re-solving all others costs exactly ``tr(W_Sᵀ ([C⁻¹]_SS)⁻¹ W_S)``
more squared error. Units go a few at a time, the lowest scores first, and inverse and weights are
brought up to date after each round.

What an error of the sublayer's output costs at the model's output is not the same in all directions; a
metric, the Fisher information of the output, weighs them (`pruning.methods.kprune.fisher`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.methods.cholesky import cholesky_factor
from pruning.methods.least_squares import NormalEquations

ROUND_SHARE = 0.08
"""The share of the units left that go in one round, at least one."""


@dataclass(frozen=True)
class Elimination:
    """A sublayer cut to some width.

    Attributes:
        kept: ascending indices of the units that stay, (n,).
        weight: their columns of the solution, (n·unit_size, d).
        bias: the bias's rows of the solution, (1, d) or (0, d).

    """

    kept: Tensor
    weight: Tensor
    bias: Tensor


def elimination_scores(inverse: Tensor, weight: Tensor, unit_size: int) -> Tensor:
    """Return what removing each unit by itself costs once the others are re-solved.

    Args:
        inverse: C⁻¹ of the units' columns, (columns, columns).
        weight: the least-squares solution, (columns, outputs).
        unit_size: feature columns of a unit.

    Returns:
        ``tr(W_Sᵀ ([C⁻¹]_SS)⁻¹ W_S)`` for every unit S, (units,).

    """
    if unit_size == 1:
        scores: Tensor = weight.square().sum(1) / inverse.diagonal()
        return scores
    units = len(weight) // unit_size
    blocks = inverse.reshape(units, unit_size, units, unit_size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    factors = cholesky_factor(blocks, "inverse of a least-squares problem")
    rows = weight.reshape(units, unit_size, -1)
    solved: Tensor = torch.linalg.solve_triangular(factors, rows, upper=False)
    return solved.square().sum((1, 2))


def eliminate(
    problem: NormalEquations,
    old: Tensor,
    ridge: float,
    unit_size: int,
    widths: Sequence[int],
    metric: Tensor | None = None,
) -> list[Elimination]:
    """Remove units down to the smallest width asked for, and return the solution at each width.

    Args:
        problem: the sublayer's least-squares problem with all its units.
        old: the weight that solutions are drawn to, (d, columns).
        ridge: how strongly.
        unit_size: feature columns of a unit.
        widths: how many units to keep, descending.
        metric: a square root M of the output error's metric ``M·Mᵀ``, (d, outputs); None for the identity.

    Raises:
        SolveError: the problem has no single finite solution.

    """
    factor, right = problem.factored(old, ridge)
    inverse = torch.cholesky_inverse(factor)
    del factor
    weight = inverse @ right
    kept = torch.arange(problem.columns // unit_size, device=weight.device)
    found = []
    for width in widths:
        while len(kept) > width:
            columns = len(kept) * unit_size
            seen = weight[:columns] if metric is None else weight[:columns] @ metric
            scores = elimination_scores(inverse[:columns, :columns], seen, unit_size)
            count = min(len(kept) - width, max(1, int(ROUND_SHARE * len(kept))))
            gone = torch.zeros(len(kept), dtype=torch.bool, device=weight.device)
            gone[scores.argsort(stable=True)[:count]] = True
            lost = torch.zeros(len(inverse), dtype=torch.bool, device=weight.device)
            lost[:columns] = gone.repeat_interleave(unit_size)
            inverse, weight = _without(inverse, weight, lost)
            kept = kept[~gone]
        columns = len(kept) * unit_size
        found.append(Elimination(kept, weight[:columns], weight[columns:]))
    return found


def _without(inverse: Tensor, weight: Tensor, lost: Tensor) -> tuple[Tensor, Tensor]:
    """Return inverse and solution of the problem without some columns (block elimination)."""
    left, lost = torch.nonzero(~lost)[:, 0], torch.nonzero(lost)[:, 0]
    across = inverse[left[:, None], lost]
    factor = cholesky_factor(inverse[lost[:, None], lost], "inverse of a least-squares problem")
    weight = weight[left] - across @ torch.cholesky_solve(weight[lost], factor)
    # gathered at once: one more matrix beside the inverse, not two
    return inverse[left[:, None], left].addmm_(across, torch.cholesky_solve(across.T, factor), alpha=-1), weight
