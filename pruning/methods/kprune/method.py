"""The default method: measure every sublayer's sensitivity, allocate, then eliminate and tune upward."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from pruning.errors import BudgetError
from pruning.families.base import Sublayer
from pruning.methods.base import PruningMethod, PruningRun, Work, check_budget, prune_upward
from pruning.methods.boundary import Boundary
from pruning.methods.journal import TunedSublayer
from pruning.methods.kprune.allocation import WidthChoices, allocate, interpolate_curve
from pruning.methods.kprune.elimination import eliminate
from pruning.methods.kprune.fisher import fisher_information, metric_root
from pruning.methods.kprune.sensitivity import RIDGE, SensitivityCurve, sensitivity_curves
from pruning.methods.least_squares import NormalEquations, chosen_ridge
from pruning.methods.shards import is_first_process
from pruning.plan import EncoderShape, LayerPlan
from pruning.settings import PruningSettings

FOLDS = (slice(0, None, 2), slice(1, None, 2))
"""The texts of a batch, in two parts: what is solved on one is evaluated on the other."""


class KPrune(PruningMethod):
    """K-prune with its scores replaced by measurements.

    1. The Fisher information of the output at every sublayer says which directions of its error matter.
    2. Every sublayer of the dense model is cut to a grid of widths by backward elimination, and the
       divergence at the output is measured on texts that its weights were not solved on.
    3. Dynamic programming chooses the widths under the budget, unless they are given.
    4. From the bottom to the top, each sublayer is eliminated to its width and its projection solved
       against the teacher, with the ridge that does best on the texts left out.
    """

    name = "kprune"
    summary = "measured sensitivity, allocation by dynamic programming, elimination with re-solving (default)"
    dense_passes = 11.0
    defaults: ClassVar[Mapping[str, float | None]] = {"ridge": None}

    def budget(self, shape: EncoderShape, settings: PruningSettings) -> int:
        """Return the FLOPs that may be kept; those of the widths, where widths are given.

        Raises:
            BudgetError: the reduction is not possible, or the widths are not a dense encoder's or less.

        """
        if settings.widths is None:
            return check_budget(shape, settings)
        if len(settings.widths) != shape.layers:
            raise BudgetError(
                f"Widths are given for {len(settings.widths)} layers, but the encoder has {shape.layers}."
            )
        for layer, (heads, neurons) in enumerate(settings.widths):
            if not (0 <= heads <= shape.heads and 0 <= neurons <= shape.neurons):
                raise BudgetError(
                    f"Layer {layer} is to keep {heads} heads and {neurons} neurons, but a dense layer has "
                    f"{shape.heads} and {shape.neurons}."
                )
        costs = shape.unit_costs(settings.sequence_length)
        return sum(heads * costs.head + neurons * costs.neuron for heads, neurons in settings.widths)

    def prune(self, run: PruningRun) -> tuple[LayerPlan, ...]:
        """Prune a dense encoder in place and return what every layer keeps."""
        budget = self.budget(run.adapter.shape, run.settings)
        batches, tuning = len(run.batches), 4 * len(run.adapter.sublayers)
        given = run.settings.widths
        work = Work(max(1, batches * (tuning + _measuring_passes(run, curves=given is None))), run.progress)

        metric = _metrics(run, work)
        if given is None:
            measured = sensitivity_curves(run.adapter, run.batches, metric, run.placement, run.journal, work.done)
            widths = widths_under(measured, run.costs, budget)
        else:
            widths = [width for layer in given for width in layer]

        boundary = Boundary.at_embeddings(run.adapter, run.batches, run.placement)

        def tune(number: int, sublayer: Sublayer) -> TunedSublayer:
            problems = _problems(sublayer, boundary, work)
            return tuned_to_width(problems, sublayer, widths[number], metric(number), run.settings.ridge)

        return prune_upward(run, boundary, tune, skip=lambda _: work.done(4 * batches))


def measure_sensitivity(run: PruningRun) -> list[SensitivityCurve]:
    """Measure every sublayer's sensitivity curve and change nothing; the run's settings are not read.

    Raises:
        SolveError: a least-squares problem has no finite solution.

    """
    work = Work(max(1, len(run.batches) * _measuring_passes(run, curves=True)), run.progress)
    metric = _metrics(run, work)
    return sensitivity_curves(run.adapter, run.batches, metric, run.placement, run.journal, work.done)


def widths_under(curves: Sequence[SensitivityCurve], unit_costs: Sequence[int], budget: int) -> list[int]:
    """Return the widths that lose least of those whose units cost at most a budget, sublayer by sublayer.

    Args:
        curves: what each sublayer's widths lose.
        unit_costs: what one unit of each costs.
        budget: what all units together may cost.

    """
    losses = (interpolate_curve(curve.widths, curve.losses) for curve in curves)
    return allocate([WidthChoices.of_units(*pair) for pair in zip(losses, unit_costs, strict=True)], budget)


def _measuring_passes(run: PruningRun, *, curves: bool) -> int:
    """Return how many passes through a sublayer each batch makes before tuning."""
    sublayers = len(run.adapter.sublayers)
    return 3 * sublayers + (sum(2 + above for above in range(sublayers)) if curves else 0)


def _metrics(run: PruningRun, work: Work) -> Callable[[int], Tensor]:
    """Find a square root of every sublayer's output error's metric, (d, d), and return what reads it from disk.

    All of them are taken from the journal, or none: the pass that finds them goes through the whole network.
    """
    steps = [f"metric-{number:03d}" for number in range(len(run.adapter.sublayers))]
    if run.journal and all(map(run.journal.has, steps)):
        for number, step in enumerate(steps):
            run.spill.put(("metric", number), (run.journal.load(step) or {})["root"])
        work.done(3 * len(steps) * len(run.batches))
        return lambda number: run.placement.to_device(run.spill.get(("metric", number)))

    def done(passes: int) -> None:
        work.done(3 * passes)

    for number, information in fisher_information(run.adapter, run.batches, run.placement, run.spill, done):
        root = metric_root(information)
        run.spill.put(("metric", number), root)
        if run.journal and is_first_process():
            run.journal.save(steps[number], {"root": root})
    return lambda number: run.placement.to_device(run.spill.get(("metric", number)))


def tuned_to_width(
    problems: list[NormalEquations], sublayer: Sublayer, width: int, metric: Tensor, ridge: float | None
) -> TunedSublayer:
    """Eliminate a sublayer's units down to a width and solve for the weights of those that stay.

    Args:
        problems: the sublayer's least-squares problem with all its units, and that of half of the texts; used up.
        sublayer: the sublayer, dense.
        width: how many units to keep.
        metric: a square root of its output error's metric, (d, d).
        ridge: the ridge of the final solution; None to choose it between that half and the other.

    Raises:
        SolveError: a problem has no finite solution.

    """
    projection = sublayer.projection
    cut = eliminate(problems[0], projection.weight, RIDGE, sublayer.unit_size, [width], metric)[0]
    columns = sublayer.columns(cut.kept)
    weight, bias = projection.weight[:, columns], sublayer.bias
    half = problems.pop().of_columns(columns)
    problem = problems.pop().of_columns(columns)
    if ridge is None:
        problem -= half
        ridge = chosen_ridge((half, problem), weight, bias)
        problem += half
    solved, shifted = problem.solve(weight, bias, ridge)
    dtype = projection.weight.dtype
    return TunedSublayer(cut.kept, solved.to(dtype), None if shifted is None else shifted.to(dtype))


@torch.no_grad()
def _problems(sublayer: Sublayer, boundary: Boundary, work: Work) -> list[NormalEquations]:
    """Accumulate a sublayer's least-squares problem, and that of half of the texts; the teacher moves above it."""
    projection = sublayer.projection
    folds = [
        NormalEquations(
            projection.in_features, projection.out_features, sublayer.bias is not None, projection.weight.device
        )
        for _ in FOLDS
    ]
    for batch in boundary.batches:
        target = boundary.advance_teacher(batch, sublayer)
        features = boundary.student.features(batch, sublayer)
        for fold, texts in zip(folds, FOLDS, strict=True):
            fold.add(boundary.student.tokens(batch, features, texts), boundary.student.tokens(batch, target, texts))
        work.done(4)
    for fold in folds:
        fold.reduce()
    half, whole = folds  # a problem is as large as the widest layer squared: two are held, not three
    whole += half
    return [whole, half]
