"""Kwon et al., "A Fast Post-Training Pruning Framework for Transformers" (NeurIPS 2022, arXiv 2204.09656)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pruning.families.base import SublayerKind
from pruning.methods.base import PruningMethod, PruningRun, Work, check_budget
from pruning.methods.kwon2022.fisher import fisher_block, fisher_diagonal, text_gradients
from pruning.methods.kwon2022.search import rearrange, search_masks
from pruning.methods.mask_tuning import PASSES, tune_masks_upward, units_once
from pruning.plan import LayerPlan


class FisherMasks(PruningMethod):
    """Three stages, all on the dense model's masks.

    1. Search: the diagonal of the Fisher information is every unit's importance; heads and neurons are
       chosen under the FLOPs constraint.
    2. Rearrangement: within each sublayer, units are exchanged by its block of the Fisher information.
    3. Tuning: from the bottom to the top, masks are solved for by least squares against the dense model's
       sublayer outputs, and folded into the weights. Projections are not solved again.

    It differs from the paper in that labels are drawn from the model's own prediction, for there are none, and
    in that least-squares problems are solved exactly.
    """

    name = "kwon2022"
    summary = "Fisher mask search, rearrangement and mask tuning (Kwon et al., NeurIPS 2022)"
    dense_passes = 6.0
    defaults: ClassVar[Mapping[str, float | None]] = {}

    def prune(self, run: PruningRun) -> tuple[LayerPlan, ...]:
        """Prune a dense encoder in place and return what every layer keeps."""
        budget = check_budget(run.adapter.shape, run.settings)
        passes = len(run.batches) * len(run.adapter.sublayers)
        work = Work(max(1, (3 + PASSES) * passes), run.progress)
        kept = units_once(run, lambda: self._chosen(run, budget, work), skip=lambda: work.done(3 * passes))
        return tune_masks_upward(run, kept, work)

    def _chosen(self, run: PruningRun, budget: int, work: Work) -> list[Tensor]:
        """Return the units that every sublayer keeps."""
        sublayers = run.adapter.sublayers
        gradients = text_gradients(
            run.adapter, run.batches, run.placement, run.spill, lambda passes: work.done(3 * passes)
        )

        importance = [fisher_diagonal(x) for x in gradients]
        by_kind = {kind: [i for i, x in enumerate(sublayers) if x.kind is kind] for kind in SublayerKind}
        heads, neurons = (torch.cat([importance[i] for i in numbers]) for numbers in by_kind.values())
        chosen = search_masks(heads, neurons, run.unit_costs, budget)
        kept = [torch.empty(0, dtype=torch.long)] * len(sublayers)
        for numbers, indices in zip(by_kind.values(), chosen, strict=True):
            start = 0
            for i in numbers:
                within = indices[(indices >= start) & (indices < start + sublayers[i].units)]
                kept[i] = within - start
                start += sublayers[i].units
        return [rearrange(fisher_block(x), units) for x, units in zip(gradients, kept, strict=True)]
