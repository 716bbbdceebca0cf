"""K-prune from the bottom sublayer to the top: measure, search, tune, move up."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pruning.calibration.batches import Batch
from pruning.errors import BudgetError
from pruning.families.base import EncoderAdapter, Sublayer, SublayerKind
from pruning.flops import UnitCosts, budget_flops, unit_costs
from pruning.kprune import knowledge
from pruning.kprune.boundary import Boundary
from pruning.kprune.journal import Journal, TunedSublayer
from pruning.kprune.search import select_units
from pruning.kprune.settings import KPruneSettings
from pruning.kprune.tuning import NormalEquations
from pruning.plan import EncoderShape, LayerPlan
from pruning.tasks import divergence

Progress = Callable[[float], None]
"""Called with the share of the work that is done, from 0 to 1."""


def prune_encoder(
    adapter: EncoderAdapter,
    batches: Sequence[Batch],
    settings: KPruneSettings,
    journal: Journal | None = None,
    progress: Progress = lambda _: None,
) -> tuple[LayerPlan, ...]:
    """Prune a dense encoder in place and return what every layer keeps.

    Args:
        adapter: the dense model; its sublayers are cut and given new output projections.
        batches: the calibration set.
        settings: the budget and the hyperparameters.
        journal: where finished sublayers are recorded and taken from; None to keep no record.
        progress: told how far the run is.

    Raises:
        BudgetError: the reduction is not in (0, 1), or leaves not even one neuron.
        SolveError: a least-squares problem has no finite solution.

    """
    settings = settings.resolved(adapter.task.kind)
    shape = adapter.shape
    costs, left = check_budget(shape, settings)
    work = _Work(len(adapter.sublayers), len(batches), progress)
    boundary = Boundary.at_embeddings(adapter, batches)
    kept: dict[tuple[int, SublayerKind], tuple[int, ...]] = {}
    for number, sublayer in enumerate(adapter.sublayers):
        tuned = journal.load(number) if journal else None
        if tuned is None:
            scores = _scores(adapter, boundary, number, settings, costs, work)
            above = [_cost(x, costs) for x in adapter.sublayers[number:]]
            tuned = _tune(sublayer, boundary, select_units(scores, above, left)[0], settings.ridge, work)
            if journal:
                journal.save(number, tuned)
        else:
            for batch in boundary.batches:
                boundary.advance_teacher(batch, sublayer)
            work.skip(number)
        sublayer.shrink(tuned.kept, tuned.weight, tuned.bias)
        for batch in boundary.batches:
            boundary.advance_student(batch, sublayer)
        left -= len(tuned.kept) * _cost(sublayer, costs)
        kept[sublayer.layer, sublayer.kind] = tuple(tuned.kept.tolist())
    return tuple(
        LayerPlan(heads=kept[layer, SublayerKind.ATTENTION], neurons=kept[layer, SublayerKind.FFN])
        for layer in range(shape.layers)
    )


def check_budget(shape: EncoderShape, settings: KPruneSettings) -> tuple[UnitCosts, int]:
    """Return what units cost, and the FLOPs that may be kept of a dense encoder.

    Raises:
        BudgetError: the reduction is not in (0, 1), or leaves not even one neuron.

    """
    costs = unit_costs(shape.hidden_size, shape.head_size, shape.ffn_matrices, settings.sequence_length)
    dense = shape.layers * (shape.heads * costs.head + shape.neurons * costs.neuron)
    left = budget_flops(dense, settings.flops_reduction)
    if left < costs.neuron:
        raise BudgetError(
            f"A FLOPs reduction of {settings.flops_reduction} leaves nothing to keep: one neuron of this encoder is "
            f"{costs.neuron / dense:.2e} of its FLOPs, so ask for at most {1 - costs.neuron / dense:.6f}."
        )
    return costs, left


def _cost(sublayer: Sublayer, costs: UnitCosts) -> int:
    return costs.head if sublayer.kind is SublayerKind.ATTENTION else costs.neuron


def _scores(
    adapter: EncoderAdapter,
    boundary: Boundary,
    start: int,
    settings: KPruneSettings,
    costs: UnitCosts,
    work: "_Work",
) -> list[Tensor]:
    """Measure the knowledge of the sublayers from ``start`` up, in one pass forward and backward."""
    sublayers = adapter.sublayers[start:]
    predictive = [knowledge.zeros(x.units) for x in sublayers]
    energy = [knowledge.zeros(x.units * x.unit_size) for x in sublayers]
    for batch in boundary.batches:
        context = boundary.contexts[batch]
        hidden = boundary.student[batch]
        for i, sublayer in enumerate(sublayers):
            features = sublayer.features(hidden, context)
            if i == 0:  # everything below is constant: the backward pass ends here
                features = features.detach().requires_grad_()
            values = features.detach()
            energy[i] += knowledge.feature_energy(values, context.attention_mask)

            def accumulate(gradient: Tensor, i: int = i, values: Tensor = values) -> None:
                size = sublayers[i].unit_size
                predictive[i] += knowledge.predictive_knowledge(values, gradient, size)

            features.register_hook(accumulate)  # type: ignore[no-untyped-call]
            hidden = sublayer.finish(hidden + sublayer.projection(features))
        student = adapter.output(hidden, context)
        moved = divergence(adapter.task.kind, student, boundary.targets[batch], settings.temperature)
        moved.sum().backward()  # type: ignore[no-untyped-call]
        work.scored(len(sublayers))
    return [
        knowledge.importance(
            predictive[i],
            knowledge.representational_knowledge(energy[i], sublayer.projection.weight, sublayer.unit_size),
            settings.balance or 0.0,
            settings.head_weight if sublayer.kind is SublayerKind.ATTENTION else 1.0,
            _cost(sublayer, costs),
        )
        for i, sublayer in enumerate(sublayers)
    ]


@torch.no_grad()
def _tune(sublayer: Sublayer, boundary: Boundary, kept: Tensor, ridge: float, work: "_Work") -> TunedSublayer:
    """Solve the kept units' output projection anew; the teacher moves above the sublayer meanwhile."""
    columns = sublayer.columns(kept)
    projection = sublayer.projection
    equations = NormalEquations(len(columns), projection.out_features)
    for batch in boundary.batches:
        target = boundary.advance_teacher(batch, sublayer) - boundary.student[batch]
        features = sublayer.features(boundary.student[batch], boundary.contexts[batch])[..., columns]
        equations.add(boundary.tokens(batch, features), boundary.tokens(batch, target))
        work.tuned()
    weight, bias = equations.solve(projection.weight[:, columns], projection.bias, ridge)
    dtype = projection.weight.dtype
    return TunedSublayer(kept, weight.to(dtype), bias.to(dtype))


class _Work:
    """Counts sublayer passes, so that progress goes on evenly: a score pass over n costs about 2n."""

    def __init__(self, sublayers: int, batches: int, progress: Progress) -> None:
        self._sublayers, self._batches, self._progress = sublayers, batches, progress
        self._total = batches * sum(2 * (sublayers - i) + 3 for i in range(sublayers))
        self._done = 0

    def scored(self, sublayers: int) -> None:
        """Count one batch that has been scored through some sublayers."""
        self._add(2 * sublayers)

    def tuned(self) -> None:
        """Count one batch that has passed the sublayer that is tuned."""
        self._add(3)

    def skip(self, number: int) -> None:
        """Count a sublayer that was taken from the journal."""
        self._add(self._batches * (2 * (self._sublayers - number) + 3))

    def _add(self, passes: int) -> None:
        self._done += passes
        self._progress(self._done / self._total)
