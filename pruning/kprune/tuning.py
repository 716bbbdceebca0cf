"""Weight tuning: the kept units' output projection, solved again by least squares (K-prune, section 3.4)."""

import torch
from torch import Tensor

from pruning.errors import SolveError


class NormalEquations:
    """The least-squares problem of one sublayer, accumulated batch by batch in float64.

    Rows are tokens. ``Z`` holds the kept units' features with a column of ones for the bias; the target
    ``T = Y_T − X_S`` is the teacher's sublayer output before the norm less the student's input. Only
    the Gram matrix ``ZᵀZ`` and the cross products ``ZᵀT`` are kept, so memory does not depend on the
    number of tokens.

    Args:
        columns: the kept units' feature columns.
        hidden_size: d.

    """

    def __init__(self, columns: int, hidden_size: int) -> None:
        self.gram = torch.zeros(columns + 1, columns + 1, dtype=torch.float64)
        self.cross = torch.zeros(columns + 1, hidden_size, dtype=torch.float64)
        self.tokens = 0

    def add(self, features: Tensor, target: Tensor) -> None:
        """Add tokens: features (tokens, columns) and their targets (tokens, d)."""
        rows = torch.cat((features.double(), torch.ones(len(features), 1, dtype=torch.float64)), dim=1)
        self.gram.addmm_(rows.T, rows)
        self.cross.addmm_(rows.T, target.double())
        self.tokens += len(features)

    def solve(self, weight: Tensor, bias: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        """Return the weight and the bias that fit the targets best, drawn a little toward the old weight.

        Minimises ``‖T − Z·W − b‖² + ρ·‖W − W_old‖²`` with ``ρ = ridge·mean(diag ZᵀZ)``: with the ridge the
        problem has one solution even where the tokens do not determine it, and directions that they
        say nothing about stay as they were. The bias is not drawn.

        Args:
            weight: the old weight's columns of the kept units, (d, columns).
            bias: the old bias, (d,); it only matters where no unit is kept and there are no tokens.
            ridge: the ridge's strength relative to the features' mean energy, at least 0.

        Returns:
            The new weight (d, columns) and bias (d,), float64.

        Raises:
            SolveError: the Gram matrix is singular (possible only without a ridge) or not finite.

        """
        columns = len(self.gram) - 1
        if self.tokens == 0:
            return weight.double(), bias.double()
        penalty = torch.zeros(columns + 1, dtype=torch.float64)
        if columns:
            penalty[:-1] = ridge * self.gram.diagonal()[:-1].mean()
        right = self.cross.clone()
        right[:-1] += penalty[:-1, None] * weight.double().T
        left = self.gram + penalty.diag()
        factor, info = torch.linalg.cholesky_ex(left)
        solution = torch.cholesky_solve(right, factor)
        # a pivot is what a column adds to those before it; at rounding's size it adds nothing
        pivots = factor.diagonal().square()
        dependent = pivots <= len(left) * torch.finfo(torch.float64).eps * left.diagonal()
        if int(info) != 0 or bool(dependent.any()) or not bool(torch.isfinite(solution).all()):
            raise SolveError(
                f"The least-squares problem of {columns} features over {self.tokens} tokens has no single "
                "finite solution: give more calibration text, or a ridge above 0."
            )
        return solution[:-1].T, solution[-1]
