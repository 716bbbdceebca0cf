"""The search for the widths that lose least in the time that is asked for, trial-timed before anything is pruned."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from exporters.timing.latency_table.table import LatencyTable, Widths
from kprune_export.errors import TargetError
from kprune_export.latency_target.target_record import LatencyTarget, TargetRecord, TrialTiming
from pruning.methods.kprune.allocation import WidthChoices, allocate, interpolate_curve
from pruning.methods.kprune.sensitivity import SensitivityCurve

UNITS = 10**9
"""Costs are whole numbers: billionths of the dense model's time."""
TOLERANCE = 0.01
"""A trial timing that is this near to the target is near enough."""
FINISHED_TOLERANCE = 0.02
"""A finished model that is this near is near enough: within what is accepted of it, and timing's own noise."""
CORRECTIONS = 3
"""How many times the table may be corrected by a trial timing, and by the timing of a finished model."""

TimeTrial = Callable[[Widths], float]
"""Measures the share of the dense model's time that a model of some widths takes."""
Finish = Callable[[Widths], float]
"""Makes the model of some widths, pruned and exported, and measures the share of the dense model's time it takes."""


@dataclass(frozen=True)
class TimeSearch:
    """The widths that one target allows, and what they cost and lose.

    Args:
        target: what is asked.
        table: what widths cost.
        curves: what they lose, sublayer by sublayer from the bottom.
        align: FFN widths are multiples of this, but for the full width.

    """

    target: LatencyTarget
    table: LatencyTable
    curves: Sequence[SensitivityCurve]
    align: int

    @property
    def asked_share(self) -> float:
        """The share of the dense model's time that may be taken."""
        return self.target.asked_share(self.table.shape(self.target.shapes[0].shape).dense_ms)

    @property
    def fixed_share(self) -> float:
        """The share that a model without heads and neurons takes."""
        return self.target.mean({x.shape: self.table.shape(x.shape).fixed for x in self.target.shapes})

    def predicted_share(self, widths: Widths) -> float:
        """Return the share that a model of some widths takes, by the table."""
        return self.target.mean({x.shape: self.table.shape(x.shape).share(widths) for x in self.target.shapes})

    def loss(self, widths: Widths) -> float:
        """Return the sum of what the sublayers lose at some widths, by their curves."""
        flat = [width for layer in widths for width in layer]
        curves = (interpolate_curve(curve.widths, curve.losses) for curve in self.curves)
        return float(sum(curve[width] for curve, width in zip(curves, flat, strict=True)))

    def find(self, share: float) -> tuple[tuple[int, int], ...]:
        """Return the widths that lose least of those that take at most a share, by the table.

        The dense model is never among them, whatever a correction says: it is not faster than itself.

        Raises:
            TargetError: nothing does; the message says what would.

        """
        budget = int((share - self.fixed_share) * UNITS)
        if budget <= 0:
            correction = self.asked_share / share
            fastest = 1 / (self.fixed_share * correction)
            raise TargetError(
                f"The target, {self.target}, is out of reach: what is left of the model without any head or neuron is "
                f"only {fastest:.2f} times as fast as the dense one, so ask for clearly less than that."
            )
        choices = [self._choices(number) for number in range(len(self.curves))]
        if all(len(x.widths) == 1 for x in choices):
            raise TargetError(
                "By the latency table no head and no neuron costs any time, which is noise: measure it again on a "
                "machine that does nothing else."
            )
        budget = min(budget, sum(int(x.costs[-1]) for x in choices) - 1)
        widths = allocate(choices, budget)
        return tuple(zip(widths[::2], widths[1::2], strict=True))

    def _choices(self, number: int) -> WidthChoices:
        """Return what one sublayer may be given: any number of heads, or an aligned number of neurons."""
        losses = interpolate_curve(self.curves[number].widths, self.curves[number].losses)
        units = len(losses) - 1
        attends = number % 2 == 0
        widths = np.arange(units + 1) if attends else np.append(np.arange(0, units, self.align), units)
        costs = np.zeros(len(widths))
        total = sum(x.weight for x in self.target.shapes)
        for x in self.target.shapes:
            shape = self.table.shape(x.shape)
            costs += x.weight / total * (shape.attention if attends else shape.ffn).at(widths)
        return WidthChoices.worth_having(widths, losses[widths], np.rint(costs * UNITS).astype(np.int64))

    def run(self, time_trial: TimeTrial | None, variant: str) -> TargetRecord:
        """Search, time a trial, and correct the table by it, until it is near enough.

        Args:
            time_trial: measures widths; None where this is not the machine to be fast on, so that the table is trusted.
            variant: the variant's name, for the record.

        Raises:
            TargetError: the target is out of reach.

        """
        started = time.perf_counter()
        asked, correction = self.asked_share, 1.0
        rounds: list[TrialTiming] = []
        search_s = 0.0
        while True:
            widths = self.find(asked / correction)
            search_s = search_s or time.perf_counter() - started
            if any(widths == earlier.widths for earlier in rounds):
                break
            predicted = self.predicted_share(widths)
            measured = time_trial(widths) if time_trial else None
            loss = self.loss(widths)
            rounds.append(TrialTiming(widths=widths, loss=loss, predicted_share=predicted, measured_share=measured))
            if measured is None or _off(measured, asked) <= TOLERANCE or len(rounds) > CORRECTIONS:
                break
            correction = measured / predicted
        nearest = min(range(len(rounds)), key=lambda number: _miss(rounds[number], asked))
        return TargetRecord(
            target=self.target,
            asked_share=asked,
            variant=variant,
            align=self.align,
            table_sha256=self.table.sha256,
            search_s=search_s,
            rounds=tuple(rounds),
            chosen=nearest,
        )

    def meet(self, time_trial: TimeTrial | None, finish: Finish, variant: str) -> TargetRecord:
        """Search and time trials as `run`, then make the model; if that is not near enough, correct and search again.

        Widths alone decide how long a model takes, except for how many of its products can be quantized.

        Args:
            time_trial: measures widths; None where finished models are to say how right the table is.
            finish: makes the model and measures it.
            variant: the variant's name, for the record.

        Raises:
            TargetError: the target is out of reach.

        """
        record = self.run(time_trial, variant)
        rounds, number = list(record.rounds), record.chosen
        while True:
            share = finish(rounds[number].widths)
            rounds[number] = rounds[number].model_copy(update={"finished_share": share})
            made = [x for x in rounds if x.finished_share is not None]
            if _off(share, self.asked_share) <= FINISHED_TOLERANCE or len(made) > CORRECTIONS:
                break
            widths = self.find(self.asked_share * rounds[number].predicted_share / share)
            if any(widths == x.widths for x in made):
                break
            predicted, loss = self.predicted_share(widths), self.loss(widths)
            rounds.append(TrialTiming(widths=widths, loss=loss, predicted_share=predicted, measured_share=None))
            number = len(rounds) - 1
        nearest = min(made, key=lambda x: _off(x.finished_share or 1, self.asked_share))
        return record.model_copy(update={"rounds": tuple(rounds), "chosen": rounds.index(nearest)})


def confirmed(time_once: Callable[[], float], asked_share: float) -> float:
    """Time a finished model; where it misses what was asked, twice more, and return the median.

    Believing a miss costs another pruning, and what disturbs a machine is mostly over when a model is timed again.

    Args:
        time_once: measures the share of the dense model's time that it takes.
        asked_share: the share that it should take.

    """
    share = time_once()
    if _off(share, asked_share) <= FINISHED_TOLERANCE:
        return share
    return sorted((share, time_once(), time_once()))[1]


def _off(share: float, asked: float) -> float:
    """How far a speedup is from the one asked for, both given as shares of the dense model's time."""
    return abs(asked / share - 1)


def _miss(found: TrialTiming, asked: float) -> float:
    """Distance of a trial timing from the target, without its sign."""
    return 0.0 if found.measured_share is None else _off(found.measured_share, asked)
