"""Which of an engine's optimization profiles a shape runs in."""

from collections.abc import Sequence
from dataclasses import dataclass

from exporters.errors import RunnerError
from exporters.spec import Shape


@dataclass(frozen=True)
class EngineProfile:
    """The shapes that an engine was built for, as one of its profiles.

    Attributes:
        index: its number in the engine.
        minimum: the smallest batch and sequence.
        optimum: what its kernels were chosen for.
        maximum: the largest.

    """

    index: int
    minimum: Shape
    optimum: Shape
    maximum: Shape

    def holds(self, shape: Shape) -> bool:
        """Tell whether both the batch and the sequence are within the limits."""
        return (
            self.minimum.batch <= shape.batch <= self.maximum.batch
            and self.minimum.sequence <= shape.sequence <= self.maximum.sequence
        )

    def __str__(self) -> str:
        return f"{self.index}: {self.minimum} to {self.maximum}"


def choose_profile(profiles: Sequence[EngineProfile], shape: Shape) -> EngineProfile:
    """Return the smallest profile that holds a shape, by the tokens of its maximum; of equals the first.

    Raises:
        RunnerError: none does; the message names them.

    """
    holding = [profile for profile in profiles if profile.holds(shape)]
    if not holding:
        raise RunnerError(
            f"The shape {shape} is outside every profile of the engine ({'; '.join(map(str, profiles))}): "
            "run a shape that one of them holds, or build the engine with a profile for it."
        )
    return min(holding, key=lambda profile: (profile.maximum.batch * profile.maximum.sequence, profile.index))
