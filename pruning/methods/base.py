"""Interface of pruning methods, and the layer-by-layer pass that the K-prune methods share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from pruning.calibration.batches import Batch
from pruning.errors import BudgetError
from pruning.families.base import EncoderAdapter, Sublayer, SublayerKind
from pruning.flops import UnitCosts, budget_flops
from pruning.memory import return_freed_memory
from pruning.methods.boundary import Boundary
from pruning.methods.disk_store import Spill
from pruning.methods.journal import Journal, TunedSublayer
from pruning.methods.placement import CPU, Placement
from pruning.methods.shards import is_first_process
from pruning.plan import EncoderShape, LayerPlan
from pruning.settings import PruningSettings

Progress = Callable[[float], None]
"""Called with the share of the work that is done, from 0 to 1."""


class Work:
    """Counts how much of a run's work is done, in passes of one batch through one sublayer.

    Args:
        total: the passes of the whole run.
        progress: called with the share that is done.

    """

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def done(self, passes: int) -> None:
        """Count some passes."""
        self._done += passes
        self._progress(min(1.0, self._done / self._total))


@dataclass(frozen=True)
class PruningRun:
    """One run of a method.

    Attributes:
        adapter: the dense model; the method cuts its sublayers and gives them new output projections.
        batches: this process's share of the calibration set.
        settings: the budget and the hyperparameters.
        placement: where and in what precision the network runs.
        journal: where finished steps are recorded and taken from; None to keep no record.
        spill: where this process's tensors rest that are needed again later.
        progress: called with how far the run is.

    """

    adapter: EncoderAdapter
    batches: Sequence[Batch]
    settings: PruningSettings
    placement: Placement = CPU
    journal: Journal | None = None
    spill: Spill = field(default_factory=Spill)
    progress: Progress = lambda _: None

    @property
    def unit_costs(self) -> UnitCosts:
        """FLOPs of one head and of one neuron."""
        return costs_of(self.adapter.shape, self.settings)

    @property
    def costs(self) -> list[int]:
        """FLOPs of one unit of each sublayer."""
        costs = self.unit_costs
        return [costs.head if x.kind is SublayerKind.ATTENTION else costs.neuron for x in self.adapter.sublayers]


class PruningMethod(ABC):
    """One way of choosing the units to keep, and the weights that they are given."""

    name: ClassVar[str]
    """What it is called on the command line."""
    summary: ClassVar[str]
    """One line on what it does and where it is from."""
    defaults: ClassVar[Mapping[str, float | None]]
    """Its hyperparameters and their values where none is given; None for one that it chooses itself."""
    dense_passes: ClassVar[float] = 1.0
    """How long it takes, roughly, in forward passes of the dense model over the calibration texts."""

    def budget(self, shape: EncoderShape, settings: PruningSettings) -> int:
        """Return the FLOPs that may be kept of a dense encoder.

        Raises:
            BudgetError: the method cannot remove as much.

        """
        return check_budget(shape, settings)

    @abstractmethod
    def prune(self, run: PruningRun) -> tuple[LayerPlan, ...]:
        """Prune a dense encoder in place and return what every layer keeps.

        Raises:
            BudgetError: the reduction is not in (0, 1), or leaves not even one neuron.
            SolveError: a least-squares problem has no finite solution.

        """

    def hyperparameter(self, run: PruningRun, name: str) -> float:
        """Return a hyperparameter's value: the one given, or the default."""
        value = run.settings.hyperparameters.get(name, self.defaults[name])
        if value is None:
            raise ValueError(f"{self.name} has no default for {name}")
        return value


def costs_of(shape: EncoderShape, settings: PruningSettings) -> UnitCosts:
    """Return the FLOPs of one head and of one neuron."""
    return shape.unit_costs(settings.sequence_length)


def check_budget(shape: EncoderShape, settings: PruningSettings) -> int:
    """Return the FLOPs that may be kept of a dense encoder.

    Raises:
        BudgetError: the reduction is not in (0, 1), or leaves not even one neuron.

    """
    if settings.flops_reduction is None:
        raise BudgetError(
            f"The method {settings.method} needs a FLOPs reduction: only kprune can be given widths, as a latency "
            "target gives them."
        )
    costs = costs_of(shape, settings)
    dense = shape.layers * (shape.heads * costs.head + shape.neurons * costs.neuron)
    left = budget_flops(dense, settings.flops_reduction)
    if left < costs.neuron:
        raise BudgetError(
            f"A FLOPs reduction of {settings.flops_reduction} leaves nothing to keep: one neuron of this encoder is "
            f"{costs.neuron / dense:.2e} of its FLOPs, so ask for at most {1 - costs.neuron / dense:.6f}."
        )
    return left


def prune_upward(
    run: PruningRun,
    boundary: Boundary,
    tune: Callable[[int, Sublayer], TunedSublayer],
    skip: Callable[[int], None],
) -> tuple[LayerPlan, ...]:
    """Prune every sublayer from the bottom to the top, and move student and teacher up.

    Args:
        run: the run; finished sublayers are taken from its journal.
        boundary: student and teacher at the embeddings.
        tune: chooses a sublayer's units and solves for their weights, given its number; it moves the
            teacher above the sublayer meanwhile.
        skip: called with the number of a sublayer that was taken from the journal.

    Returns:
        What every layer keeps.

    """
    journal = run.journal.within(settings=run.settings.model_dump()) if run.journal else None
    kept: list[Tensor] = []
    for number, sublayer in enumerate(run.adapter.sublayers):
        with run.placement.layer(sublayer):
            tuned = journal.load_sublayer(number) if journal else None
            if tuned is None:
                tuned = tune(number, sublayer)
                if journal and is_first_process():
                    journal.save_sublayer(number, tuned)
            else:
                tuned = tuned.to(sublayer.projection.weight.device)
                for batch in boundary.batches:
                    boundary.teacher.advance(batch, sublayer)
                skip(number)
            return_freed_memory()
            sublayer.shrink(tuned.kept, tuned.weight, tuned.bias)
            for batch in boundary.batches:
                boundary.student.advance(batch, sublayer)
        kept.append(tuned.kept.cpu())
    return layer_plans(run.adapter, kept)


def layer_plans(adapter: EncoderAdapter, kept: Sequence[Tensor]) -> tuple[LayerPlan, ...]:
    """Return what every layer keeps, given each sublayer's kept units, (n,), in ascending order."""
    units = {(x.layer, x.kind): tuple(indices.tolist()) for x, indices in zip(adapter.sublayers, kept, strict=True)}
    return tuple(
        LayerPlan(heads=units[layer, SublayerKind.ATTENTION], neurons=units[layer, SublayerKind.FFN])
        for layer in range(adapter.shape.layers)
    )
