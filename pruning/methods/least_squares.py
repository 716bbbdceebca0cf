"""Weight tuning: an output projection, solved again by least squares (K-prune, section 3.4)."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from pruning.errors import SolveError
from pruning.methods.shards import sum_over_processes

RIDGES = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""The ridge strengths that `chosen_ridge` tries."""


class NormalEquations:
    """The least-squares problem of one sublayer, accumulated batch by batch in float64.

    Rows are tokens. ``Z`` holds units' features, with a column of ones where there is a bias; the target
    ``T = Y_T − X_S`` is the teacher's sublayer output before the norm less the student's input. Only
    the Gram matrix ``ZᵀZ`` and the cross products ``ZᵀT`` are kept, so memory does not depend on the
    number of tokens. A batch's products are taken in the features' precision, float32 at least: their
    error of 1e-6 is far below any ridge, and float64 would take twice the time.

    Args:
        columns: the units' feature columns.
        hidden_size: d.
        bias: whether the projection has a bias to solve for.
        device: where the sums are.

    """

    def __init__(self, columns: int, hidden_size: int, bias: bool = True, device: torch.device | str = "cpu") -> None:
        self.columns = columns
        self.gram = torch.zeros(columns + bias, columns + bias, dtype=torch.float64, device=device)
        self.cross = torch.zeros(columns + bias, hidden_size, dtype=torch.float64, device=device)
        self.tokens = 0

    def add(self, features: Tensor, target: Tensor) -> None:
        """Add tokens: features (tokens, columns) and their targets (tokens, d)."""
        dtype = torch.promote_types(features.dtype, torch.float32)
        ones = torch.ones(len(features), len(self.gram) - self.columns, dtype=dtype, device=features.device)
        rows = torch.cat((features.to(dtype), ones), dim=1)
        self.gram += rows.T @ rows
        self.cross += rows.T @ target.to(dtype)
        self.tokens += len(features)

    def reduce(self) -> None:
        """Sum over the processes that share the calibration set, if there are several."""
        tokens = torch.tensor(self.tokens, device=self.gram.device)
        for part in (self.gram, self.cross, tokens):
            sum_over_processes(part)
        self.tokens = int(tokens)

    def __iadd__(self, other: "NormalEquations") -> Self:
        """Add another problem's tokens."""
        self.gram += other.gram
        self.cross += other.cross
        self.tokens += other.tokens
        return self

    def __isub__(self, other: "NormalEquations") -> Self:
        """Leave out tokens that were added as another problem's."""
        self.gram -= other.gram
        self.cross -= other.cross
        self.tokens -= other.tokens
        return self

    def of_columns(self, columns: Tensor) -> "NormalEquations":
        """Return the problem of some of the feature columns, (n,), and the bias."""
        bias = torch.arange(self.columns, len(self.gram), device=columns.device)
        index = torch.cat((columns, bias))
        return self._with(len(columns), self.gram[index[:, None], index], self.cross[index], self.tokens)

    def drawn(self, weight: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        """Return both sides of the equations with the solution drawn toward an old weight.

        Adds ``Σ_j ρ_j·‖W_j − W_old,j‖²`` with ``ρ_j = ridge·[ZᵀZ]_jj``: each column is drawn in proportion
        to its energy, so that scaling a column changes nothing. The bias is not drawn.

        Args:
            weight: the old weight, (d, columns).
            ridge: the strength, at least 0.

        Returns:
            The left-hand side, (columns + 1, columns + 1), and the right-hand side, (columns + 1, d).

        """
        energy = self.gram.diagonal()[: self.columns]
        # a unit that is silent on all tokens keeps its old weight; where all are, any penalty does that
        silent = torch.finfo(torch.float64).eps * float(energy.mean()) if len(energy) else 0.0
        penalty = ridge * energy.clamp_min(silent or 1.0)
        left, right = self.gram.clone(), self.cross.clone()
        left.diagonal()[: self.columns] += penalty
        right[: self.columns] += penalty[:, None] * weight.double().T
        return left, right

    def solve(self, weight: Tensor, bias: Tensor | None, ridge: float) -> tuple[Tensor, Tensor | None]:
        """Return the weight and the bias that fit the targets best, drawn toward the old weight as in `drawn`.

        With a ridge the problem has one solution even where the tokens do not determine it, and directions
        that they say nothing about stay as they were.

        Args:
            weight: the old weight's columns of the kept units, (d, columns).
            bias: the old bias, (d,), or None where there is none; its values only matter without tokens.
            ridge: the ridge's strength relative to each feature's energy, at least 0.

        Returns:
            The new weight (d, columns) and bias (d,), float64; no bias where there was none.

        Raises:
            SolveError: the problem is singular, or not finite.

        """
        if (bias is None) != (len(self.gram) == self.columns):
            raise ValueError("The problem was made with a bias and solved without, or the other way round")
        if self.tokens == 0 or len(self.gram) == 0:
            return weight.double(), None if bias is None else bias.double()
        factor, right = self.factored(weight, ridge)
        solution = torch.cholesky_solve(right, factor)
        return solution[: self.columns].T, None if bias is None else solution[-1]

    def factored(self, weight: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        """Return the left-hand side's Cholesky factor, lower, and the right-hand side, both as in `drawn`.

        Raises:
            SolveError: the left-hand side is singular or not finite, or the right-hand side is not finite.

        """
        left, right = self.drawn(weight, ridge)
        factor, info = torch.linalg.cholesky_ex(left)
        # a pivot is what a column adds to those before it; at rounding's size it adds nothing
        pivots = factor.diagonal().square()
        dependent = pivots <= len(left) * torch.finfo(torch.float64).eps * left.diagonal()
        if not bool(torch.isfinite(self.gram).all() and torch.isfinite(self.cross).all()):
            raise SolveError(
                f"The least-squares problem of {self.columns} features over {self.tokens} tokens holds values that are "
                "NaN or infinite: the model's activations are too large to compute with on these texts."
            )
        if int(info) != 0 or bool(dependent.any()) or not bool(factor.isfinite().all()):
            remedy = "give more calibration text, or a ridge above 0"
            if ridge > 0:
                remedy = "give a smaller ridge" if ridge > 1 else "give a larger ridge"
            raise SolveError(
                f"The least-squares problem of {self.columns} features over {self.tokens} tokens has no single "
                f"solution with a ridge of {ridge:g}: {remedy}."
            )
        return factor, right

    def squared_error(self, weight: Tensor, bias: Tensor | None) -> float:
        """Return ``‖T − Z·W − b‖²`` less ``‖T‖²``, which no solution changes."""
        rows = (weight.T if bias is None else torch.cat((weight.T, bias[None]))).double()
        return float((rows * (self.gram @ rows - 2 * self.cross)).sum())

    def _with(self, columns: int, gram: Tensor, cross: Tensor, tokens: int) -> "NormalEquations":
        problem = NormalEquations(0, 0, bias=False, device=gram.device)
        problem.columns, problem.gram, problem.cross, problem.tokens = columns, gram, cross, tokens
        return problem


def chosen_ridge(
    folds: Sequence[NormalEquations], weight: Tensor, bias: Tensor | None, ridges: Sequence[float] = RIDGES
) -> float:
    """Choose the ridge by the squared error on tokens that were not solved with.

    Each fold is solved by itself and evaluated on the others; ties go to the weaker ridge.

    Args:
        folds: the problem, its texts divided into parts; those without tokens are left out.
        weight: the old weight, (d, columns).
        bias: the old bias, (d,), or None.
        ridges: the strengths to choose from, ascending.

    Raises:
        SolveError: a fold has no finite solution.

    """
    folds = [fold for fold in folds if fold.tokens]
    if len(folds) < 2:
        return max(ridges)  # nothing to evaluate on: stay as near to the old weights as is ever chosen
    errors = [
        sum(
            other.squared_error(*solution)
            for i, fold in enumerate(folds)
            for solution in [fold.solve(weight, bias, ridge)]
            for j, other in enumerate(folds)
            if j != i
        )
        for ridge in ridges
    ]
    return ridges[errors.index(min(errors))]
