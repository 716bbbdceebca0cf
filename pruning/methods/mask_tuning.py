"""Mask tuning: one number for each kept unit, solved by least squares (Kwon et al., NeurIPS 2022, section 4.3).

Where K-prune solves a sublayer's whole output projection again, these methods scale each unit's
contribution to the sublayer's output by a mask variable m, so that the output comes near the teacher's:
``argmin_m ‖X_S + b + Σ_i m_i·A_i − Y_T‖²``, with ``A_i = Z_i·W_iᵀ`` the unit's contribution to all tokens.
The masks are folded into the projection's columns, so nothing of them is left in the model.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pruning.errors import SolveError
from pruning.families.base import Sublayer
from pruning.methods.base import PruningRun, Work, prune_upward
from pruning.methods.boundary import Boundary
from pruning.methods.journal import TunedSublayer
from pruning.methods.least_squares import NormalEquations
from pruning.methods.shards import is_first_process
from pruning.plan import LayerPlan

DAMPING = 1.0
"""The published ``damp`` of the solver: ``damp²·‖m − 1‖²`` is added to the squared error."""
LARGEST_MASK = 10.0
"""Masks outside of −10 to 10 are not used, and no sublayer above is tuned, as published."""
PASSES = 4
"""What tuning one sublayer costs a batch, in passes through a sublayer."""


def mask_equations(problem: NormalEquations, weight: Tensor, unit_size: int) -> tuple[Tensor, Tensor]:
    """Turn a projection's least-squares problem into that of the masks of its units.

    With the Gram matrix ``G = ZᵀZ`` and the cross products ``C = ZᵀT``, the masks' own are
    ``[AᵀA]_ij = Σ G_ab·[WᵀW]_ab`` and ``[Aᵀt]_i = Σ_a Σ_k C_ak·W_ka``, a being unit i's columns and b unit j's.

    Args:
        problem: of the kept units, without a bias.
        weight: the projection's weight for them, (d, units·unit_size).
        unit_size: feature columns of a unit.

    Returns:
        Both float64: the matrix (units, units) and the right-hand side (units,).

    """
    wide, units = weight.double(), weight.shape[1] // unit_size
    by_column = problem.gram * (wide.T @ wide)
    matrix = by_column.view(units, unit_size, units, unit_size).sum((1, 3))
    return matrix, (problem.cross * wide.T).sum(1).view(units, unit_size).sum(1)


def solve_masks(matrix: Tensor, right: Tensor, damping: float = DAMPING) -> Tensor:
    """Return ``argmin_m ‖A·m − t‖² + damping²·‖m − 1‖²`` from ``AᵀA`` and ``Aᵀt``.

    The paper approaches it by iterations of LSMR on the difference from 1; here it is solved exactly.

    Args:
        matrix: AᵀA, (units, units).
        right: Aᵀt, (units,).
        damping: how strongly masks are drawn to 1, above 0.

    Raises:
        SolveError: the problem has no finite solution.

    """
    ones = torch.ones_like(right)
    damped = matrix + damping**2 * torch.eye(len(right), dtype=matrix.dtype, device=matrix.device)
    factor, info = torch.linalg.cholesky_ex(damped)
    if int(info) != 0 or not bool(torch.isfinite(factor).all() and torch.isfinite(right).all()):
        raise SolveError(f"The least-squares problem of {len(right)} masks has no finite solution.")
    return ones + torch.cholesky_solve((right - matrix @ ones)[:, None], factor)[:, 0]


def units_once(run: PruningRun, choose: Callable[[], Sequence[Tensor]], skip: Callable[[], None]) -> list[Tensor]:
    """Return every sublayer's kept units, (n,) each: those that the run has chosen before, or such as it chooses now.

    Args:
        run: the run; the units are recorded in its journal.
        choose: chooses them.
        skip: called where they were chosen before.

    """
    journal = run.journal.within(settings=run.settings.model_dump()) if run.journal else None
    found = journal.load(_CHOSEN) if journal else None
    if found is not None:
        skip()
        return [found[str(number)] for number in range(len(run.adapter.sublayers))]
    chosen = list(choose())
    if journal and is_first_process():
        journal.save(_CHOSEN, {str(number): units for number, units in enumerate(chosen)})
    return chosen


def tune_masks_upward(run: PruningRun, kept: Sequence[Tensor], work: Work) -> tuple[LayerPlan, ...]:
    """Cut every sublayer to the units chosen, and tune their masks from the bottom to the top.

    Args:
        run: the run.
        kept: for each sublayer, the ascending indices of its kept units.
        work: called with `PASSES` for each batch and sublayer.

    Returns:
        What every layer keeps.

    Raises:
        SolveError: a sublayer's masks have no finite solution.

    """
    tuning = _MaskTuning(run, Boundary.at_embeddings(run.adapter, run.batches, run.placement), kept, work)
    return prune_upward(run, tuning.boundary, tuning.tune, skip=lambda _: work.done(PASSES * len(run.batches)))


class _MaskTuning:
    """The tuning of one run; it remembers, in the journal too, whether a sublayer's masks were out of bounds."""

    def __init__(self, run: PruningRun, boundary: Boundary, kept: Sequence[Tensor], work: Work) -> None:
        self.boundary = boundary
        self._kept, self._work = kept, work
        self._journal = run.journal.within(settings=run.settings.model_dump()) if run.journal else None
        self._stopped = self._journal is not None and self._journal.load(_STOPPED) is not None

    @torch.no_grad()
    def tune(self, number: int, sublayer: Sublayer) -> TunedSublayer:
        """Return one sublayer's units with the masks in their weights; the teacher moves above it."""
        projection = sublayer.projection
        kept = self._kept[number].to(projection.weight.device)
        weight = projection.weight.detach()[:, sublayer.columns(kept)]
        if self._stopped:
            for batch in self.boundary.batches:
                self.boundary.teacher.advance(batch, sublayer)
        else:
            problem = self._problem(sublayer, kept)
            masks = solve_masks(*mask_equations(problem, weight, sublayer.unit_size))
            if bool((masks.abs() <= LARGEST_MASK).all()):
                weight = weight * masks.repeat_interleave(sublayer.unit_size).to(weight.dtype)
            else:
                self._stop()
        self._work.done(PASSES * len(self.boundary.batches))
        return TunedSublayer(kept, weight, None if sublayer.bias is None else sublayer.bias.detach())

    def _problem(self, sublayer: Sublayer, kept: Tensor) -> NormalEquations:
        projection, columns = sublayer.projection, sublayer.columns(kept)
        problem = NormalEquations(len(columns), projection.out_features, bias=False, device=projection.weight.device)
        for batch in self.boundary.batches:
            target = self.boundary.advance_teacher(batch, sublayer)
            if sublayer.bias is not None:
                target = target - sublayer.bias
            features = self.boundary.student.features(batch, sublayer)[..., columns]
            problem.add(*(self.boundary.student.tokens(batch, x) for x in (features, target)))
        problem.reduce()
        return problem

    def _stop(self) -> None:
        self._stopped = True
        if self._journal and is_first_process():
            self._journal.save(_STOPPED, {"stopped": torch.ones(1)})


_STOPPED, _CHOSEN = "mask-tuning-stopped", "chosen-units"
