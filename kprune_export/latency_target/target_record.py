"""Record of a latency target: asked, predicted, trial-timed."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from exporters.documents import Document, Record
from exporters.timing.latency_table.table import EncoderDimensions
from exporters.timing.noise import Disturbance
from kprune_export.errors import TargetError
from pruning.methods.kprune.sensitivity import SensitivityCurve

MISS = 0.03
"""How far, relatively, a measured speedup may fall short of the one that was asked for."""

Share = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A share of the dense model's time."""


class SensitivityRecord(Document):
    """The sensitivity curves of a model, and what they were measured on.

    Attributes:
        source_sha256: hash of the dense checkpoint's weights.
        config_sha256: hash of its config.json.
        companions_sha256: hash of its tokenizer's and its pooling's files.
        texts_sha256: hash of the calibration texts.
        seed: the seed of the run.
        curves: from the bottom, attention then FFN in each layer.

    """

    noun, error, indent = "record of sensitivity curves", TargetError, 1
    format: Literal["kprune-sensitivity"] = "kprune-sensitivity"
    version: Literal[1] = 1
    source_sha256: str
    config_sha256: str = ""
    companions_sha256: str = ""
    texts_sha256: str
    seed: int
    curves: tuple[SensitivityCurve, ...]

    def check_model(self, dimensions: EncoderDimensions) -> None:
        """Refuse curves that are not one for each sublayer of a model, from all of its units to none.

        Raises:
            TargetError: what differs.

        """
        units = (dimensions.heads, dimensions.neurons) * dimensions.layers
        found = tuple(curve.widths[0] for curve in self.curves)
        if found != units:
            raise TargetError(
                f"The sensitivity curves are not of this model: they are of {len(found)} sublayers with "
                f"{_listed(found)} units, and it has {len(units)} with {_listed(units)}."
            )


def _listed(units: tuple[int, ...]) -> str:
    """Return the first of some numbers in words."""
    return ", ".join(map(str, units[:4])) + (", …" if len(units) > 4 else "")


class TargetShape(Record):
    """A shape that is to be fast, and its weight among several."""

    shape: str
    weight: float


class LatencyTarget(Record):
    """What is asked for, at which shapes: a speedup, or a latency at the one shape.

    Attributes:
        speedup: how many times as fast as the dense model in the same runtime and precision.
        latency_ms: how long a call may take.
        shapes: where; with several, their weighted mean time, each relative to the dense model's, counts.

    """

    speedup: float | None
    latency_ms: float | None
    shapes: tuple[TargetShape, ...]

    def asked_share(self, dense_ms: float) -> float:
        """Return the share of the dense model's time that may be taken.

        Args:
            dense_ms: the dense model's time, which a latency is relative to.

        """
        return 1 / self.speedup if self.speedup is not None else (self.latency_ms or 0.0) / dense_ms

    def mean(self, by_shape: dict[str, float]) -> float:
        """Return the weighted mean over the shapes of shares of the dense model's time."""
        total = sum(x.weight for x in self.shapes)
        return sum(x.weight * by_shape[x.shape] for x in self.shapes) / total

    def __str__(self) -> str:
        """Return what is asked for in words."""
        what = f"{self.speedup:g} times as fast" if self.speedup is not None else f"{self.latency_ms:g} ms"
        weights = {x.weight for x in self.shapes}
        shapes = (x.shape if len(weights) == 1 else f"{x.shape} (weight {x.weight:g})" for x in self.shapes)
        return f"{what} at {', '.join(shapes)}"


class TrialTiming(Record):
    """Widths that the search found, and how fast the dense model cut to them is.

    Attributes:
        widths: heads and neurons of each layer.
        loss: the sum of the sublayers' losses at these widths, by the sensitivity curves.
        predicted_share: of the dense model's time, by the table.
        measured_share: the same, measured; None where this is not the machine to be fast on, or where a finished
            model has said how the table is to be corrected.
        finished_share: the same of the finished model, where one was made with these widths: pruned and exported.

    """

    widths: tuple[tuple[int, int], ...]
    loss: float
    predicted_share: Share
    measured_share: Share | None
    finished_share: Share | None = None


class TargetRecord(Document):
    """A latency target and how the search met it.

    Attributes:
        target: what was asked.
        asked_share: the share of the dense model's time that it comes to.
        variant: the variant that is to be fast.
        align: FFN widths are multiples of this.
        table_sha256: the latency table's hash.
        search_s: how long the first search took, in seconds.
        rounds: what was found and timed, in order; after the first the table was corrected by what was seen.
        chosen: the number of the round whose widths were taken.
        disturbance: what kept the threads from the processors while the rounds were timed; None where none was, or on
            a GPU.

    """

    noun, error, indent = "record of a latency target", TargetError, 1
    format: Literal["kprune-target"] = "kprune-target"
    version: Literal[1] = 1
    target: LatencyTarget
    asked_share: Share
    variant: str
    align: int
    table_sha256: str
    search_s: float
    rounds: tuple[TrialTiming, ...]
    chosen: int
    disturbance: Disturbance | None = None

    @model_validator(mode="after")
    def _chosen_among_the_rounds(self) -> Self:
        if not 0 <= self.chosen < len(self.rounds):
            raise ValueError(f"there are {len(self.rounds)} rounds, and number {self.chosen} was chosen")
        return self

    @property
    def taken(self) -> TrialTiming:
        """The round whose widths were taken."""
        return self.rounds[self.chosen]

    @property
    def asked_speedup(self) -> float:
        """The speedup that was asked for, or that the latency asked for comes to."""
        return 1 / self.asked_share
