"""Baseline methods: units chosen by the size of their weights, or at random, and nothing tuned."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pruning.methods.base import PruningMethod, PruningRun, check_budget, layer_plans
from pruning.methods.selection import select_units
from pruning.methods.unit_weights import incoming_weights, outgoing_weights
from pruning.plan import LayerPlan


class Baseline(PruningMethod):
    """Scores all units once and cuts the lowest; what stays keeps its weights. Calibration texts are not read."""

    defaults: ClassVar[Mapping[str, float | None]] = {}

    @abstractmethod
    def scores(self, run: PruningRun) -> list[Tensor]:
        """Return each sublayer's scores for each FLOP, (units,)."""

    def prune(self, run: PruningRun) -> tuple[LayerPlan, ...]:
        """Cut a dense encoder in place and return what every layer keeps."""
        budget = check_budget(run.adapter.shape, run.settings)
        kept = select_units(self.scores(run), run.costs, budget)
        for sublayer, units in zip(run.adapter.sublayers, kept, strict=True):
            units = units.to(run.placement.storage)
            columns = sublayer.columns(units)
            bias = None if sublayer.bias is None else sublayer.bias.detach()
            sublayer.shrink(units, sublayer.projection.weight.detach()[:, columns], bias)
        run.progress(1.0)
        return layer_plans(run.adapter, kept)


class Magnitude(Baseline):
    """Keeps the units with the largest weights.

    A unit's score is the sum of its squared weights over all its matrices, biases left out, for each FLOP
    that it costs; all sublayers compete. So what goes is what takes the least from the sum of all squared
    weights under the budget.
    """

    name = "magnitude"
    summary = "the smallest weights for each FLOP go, nothing is tuned (a baseline)"

    def scores(self, run: PruningRun) -> list[Tensor]:
        """Return the squared norms of the units' weights for each FLOP."""
        return [
            weight_energy(incoming_weights(x), outgoing_weights(x)).cpu() / cost
            for x, cost in zip(run.adapter.sublayers, run.costs, strict=True)
        ]


class Random(Baseline):
    """Keeps units in random order, for as long as they fit; the seed decides the order."""

    name = "random"
    summary = "units are removed at random (seeded), nothing is tuned (a baseline)"

    def scores(self, run: PruningRun) -> list[Tensor]:
        """Return a random number for every unit."""
        generator = torch.Generator().manual_seed(run.settings.seed)
        return [torch.rand(x.units, generator=generator, dtype=torch.float64) for x in run.adapter.sublayers]


def weight_energy(incoming: Tensor, outgoing: Tensor) -> Tensor:
    """Sum each unit's squared weights: of (units, n) and (units, m), to float64 (units,)."""
    return incoming.double().square().sum(1) + outgoing.double().square().sum(1)
