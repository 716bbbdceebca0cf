"""Optimization profiles: the shapes that an engine takes, and the one that it is tuned for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from exporters.errors import ShapeError
from exporters.spec import Shape, check_shapes

_EXAMPLE = "min=1x1,opt=8x128,max=32x512"


@dataclass(frozen=True)
class OptimizationProfile:
    """The smallest, the best served, and the largest shape, written ``min=1x1,opt=8x128,max=32x512``.

    Raises:
        ShapeError: on an axis min is above opt, or opt above max.

    """

    min: Shape
    opt: Shape
    max: Shape

    def __post_init__(self) -> None:
        for axis in ("batch", "sequence"):
            low, best, high = (getattr(shape, axis) for shape in (self.min, self.opt, self.max))
            if not low <= best <= high:
                raise ShapeError(
                    f"The profile {self} has the {axis} sizes min {low}, opt {best}, max {high}: "
                    "they must not become smaller from min to max."
                )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a profile from ``min=BxT,opt=BxT,max=BxT``, the three in any order.

        Raises:
            ShapeError: the text is malformed, or the shapes contradict each other.

        """
        parts = [part.partition("=") for part in re.split(r"\s*,\s*", text.strip())]
        if sorted(key.strip() for key, _, _ in parts) != ["max", "min", "opt"]:
            raise ShapeError(f"{text!r} is not a profile: name min, opt and max once each, as in {_EXAMPLE}.")
        return cls(**{key.strip(): Shape.parse(shape) for key, _, shape in parts})

    @classmethod
    def default(cls, max_positions: int) -> Self:
        """Return the profile from one token to 32 texts of the model's full length, tuned for 8×128."""
        return cls(Shape(1, 1), Shape(8, min(128, max_positions)), Shape(32, max_positions))

    def check(self, max_positions: int) -> None:
        """Refuse a profile with more tokens than the model reads.

        Raises:
            ShapeError: its largest shape has.

        """
        check_shapes((self.max,), max_positions)

    def admits(self, shape: Shape) -> bool:
        """Return whether a shape lies within the profile."""
        return (
            self.min.batch <= shape.batch <= self.max.batch and self.min.sequence <= shape.sequence <= self.max.sequence
        )

    def __str__(self) -> str:
        return f"min={self.min},opt={self.opt},max={self.max}"


def choose_profile(profiles: Sequence[OptimizationProfile], shape: Shape) -> int:
    """Return the index of the smallest profile that holds a shape, by the tokens of its maximum; of equals the first.

    Raises:
        ShapeError: none does; the message names them.

    """
    holding = [index for index, profile in enumerate(profiles) if profile.admits(shape)]
    if not holding:
        raise ShapeError(
            f"The shape {shape} is outside every profile of the engine ({'; '.join(map(str, profiles))}): "
            "run a shape that one of them holds, or build the engine with a profile for it."
        )
    return min(holding, key=lambda index: profiles[index].max.batch * profiles[index].max.sequence)
