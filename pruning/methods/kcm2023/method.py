"""Nova, Dai and Schuurmans, "Gradient-Free Structured Pruning with Unlabeled Data" (ICML 2023, arXiv 2303.04185)."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pruning.errors import BudgetError
from pruning.families.base import Sublayer, SublayerKind
from pruning.methods.base import PruningMethod, PruningRun, Work, check_budget, costs_of
from pruning.methods.boundary import HiddenStates
from pruning.methods.kcm2023.scores import activation_norms, combined_scores, gaussian_kernel, representation
from pruning.methods.mask_tuning import PASSES, tune_masks_upward, units_once
from pruning.methods.placement import Placement
from pruning.methods.selection import select_units
from pruning.methods.shards import sum_over_processes
from pruning.methods.unit_weights import incoming_weights
from pruning.plan import EncoderShape, LayerPlan
from pruning.settings import PruningSettings


class KernelisedConvexMasking(PruningMethod):
    """Scores FFN neurons without gradients, cuts the lowest of all layers, and tunes masks.

    A neuron's score is the product of two: how far its weights are from being represented by those of the
    other neurons of its layer (representative ranking, R2), and the size of its activations on the
    calibration texts (data-driven, D2). Masks are then tuned as in `pruning.methods.mask_tuning`.

    As published it prunes FFN neurons only; every attention head stays. So it cannot remove more than the
    FFNs' share of the FLOPs, and a budget beyond that is refused rather than met by a rule that the paper
    does not have.
    """

    name = "kcm2023"
    summary = "gradient-free scores of FFN neurons, mask tuning; heads stay (Nova et al., ICML 2023)"
    dense_passes = 4.0
    defaults: ClassVar[Mapping[str, float | None]] = {}

    def budget(self, shape: EncoderShape, settings: PruningSettings) -> int:
        """Return the FLOPs that may be kept.

        Raises:
            BudgetError: the reduction is not in (0, 1), or larger than the FFNs' share of the FLOPs.

        """
        left, costs = check_budget(shape, settings), costs_of(shape, settings)
        heads, neurons = shape.layers * shape.heads * costs.head, shape.layers * shape.neurons * costs.neuron
        if left < heads:
            share = neurons / (heads + neurons)
            raise BudgetError(
                f"The method {self.name} removes FFN neurons only, which are {share:.1%} of this encoder's FLOPs: ask "
                f"for a reduction of at most {int(share * 1000) / 1000}, or choose a method that removes heads too."
            )
        return left

    def prune(self, run: PruningRun) -> tuple[LayerPlan, ...]:
        """Prune a dense encoder in place and return what every layer keeps."""
        left = self.budget(run.adapter.shape, run.settings)
        measuring = len(run.batches) * len(run.adapter.sublayers)
        work = Work(max(1, (1 + PASSES) * measuring), run.progress)
        kept = units_once(run, lambda: self._chosen(run, left, work), skip=lambda: work.done(measuring))
        return tune_masks_upward(run, kept, work)

    def _chosen(self, run: PruningRun, left: int, work: Work) -> list[Tensor]:
        """Return the units that every sublayer keeps."""
        sublayers = run.adapter.sublayers
        norms = self._activation_norms(run, work)
        ffns = [i for i, sublayer in enumerate(sublayers) if sublayer.kind is SublayerKind.FFN]
        scores = [combined_scores(_representation(sublayers[i], run.placement), norms[i]).cpu() for i in ffns]
        heads = sum(
            x.units * cost for x, cost in zip(sublayers, run.costs, strict=True) if x.kind is not SublayerKind.FFN
        )
        chosen = select_units(scores, [run.costs[i] for i in ffns], left - heads)
        kept = [torch.arange(x.units) for x in sublayers]
        for i, units in zip(ffns, chosen, strict=True):
            kept[i] = units
        return kept

    @torch.no_grad()
    def _activation_norms(self, run: PruningRun, work: Work) -> dict[int, Tensor]:
        """Return every FFN's activation norms over the calibration set of all processes, by the sublayer's number."""
        states = HiddenStates.at_embeddings(run.adapter, run.batches, run.placement)
        sums: dict[int, Tensor] = {}
        for number, sublayer in enumerate(run.adapter.sublayers):
            if sublayer.kind is SublayerKind.FFN:
                sums[number] = torch.zeros(sublayer.units, dtype=torch.float64, device=run.placement.device)
            with run.placement.layer(sublayer):
                for batch in states.batches:
                    features = states.features(batch, sublayer)
                    if number in sums:
                        mask = states.contexts[batch].attention_mask.to(features.device)
                        sums[number] += activation_norms(features, mask)
                    states.advance_from(batch, sublayer, features)
                    work.done(1)
        for total in sums.values():
            sum_over_processes(total)
        return sums


def _representation(sublayer: Sublayer, placement: Placement) -> Tensor:
    """Return the R2 scores of a sublayer's neurons, (units,), on the device."""
    return representation(gaussian_kernel(incoming_weights(sublayer).float().to(placement.device)))
