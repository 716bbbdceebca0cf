"""Request of a comparison."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from kprune_export.errors import RecipeError
from kprune_export.recipe.recipe import Recipe
from pruning.flops import check_reduction
from pruning.methods import method_for
from pruning.settings import PruningSettings

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class CellRequest:
    """One run of one method: its name, the share of FLOPs to remove, and the seed."""

    method: str
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """Its name among files and in messages: ``kprune-0.5-0``."""
        return f"{self.method}-{self.rate!r}-{self.seed}"


@dataclass(frozen=True)
class ComparisonRequest:
    """All that a comparison is asked to do.

    Attributes:
        recipe: the model, the output folder, the texts, and how FLOPs are counted; its own method, rate and
            seed are not used.
        methods: the methods' names, in the order that they are shown in.
        rates: the shares of FLOPs to remove, ascending.
        seeds: the seeds, each of which draws calibration texts of its own.

    """

    recipe: Recipe
    methods: tuple[str, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]

    @classmethod
    def build(cls, methods: str, rates: str, seeds: str, settings: Mapping[str, Any]) -> Self:
        """Check what was typed: three comma-separated lists, and settings of a recipe.

        Raises:
            RecipeError: a list is empty or not of numbers, or a setting is not valid.
            MethodError: there is no such method.
            BudgetError: a rate is not above 0 and below 1.

        """
        request = cls(
            recipe=Recipe.build(None, {**settings, "shapes": "1x1"}, typed=True),  # nothing is timed
            methods=tuple(dict.fromkeys(_parts("methods", methods))),
            rates=tuple(sorted({_number("rates", part, float) for part in _parts("rates", rates)})),
            seeds=tuple(dict.fromkeys(_number("seeds", part, int) for part in _parts("seeds", seeds))),
        )
        for seed in request.seeds:
            Recipe.build(None, {**settings, "seed": seed})
        for rate in request.rates:
            check_reduction(rate)
        for method in request.methods:
            method_for(PruningSettings(flops_reduction=request.rates[0], method=method))
        return request

    def cells(self) -> Iterator[CellRequest]:
        """Name every run, those of one seed and method together, so that rates can share what does not depend on it."""
        for seed, method, rate in itertools.product(self.seeds, self.methods, self.rates):
            yield CellRequest(method, rate, seed)

    def recipe_of(self, seed: int) -> Recipe:
        """Return the recipe with one of the seeds and the lowest rate."""
        return self.recipe.model_copy(update={"seed": seed, "flops_reduction": self.rates[0]})


def _parts(name: str, text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise RecipeError(f"--{name} names nothing: give at least one, and commas between several.")
    return parts


def _number(name: str, text: str, kind: Callable[[str], Number]) -> Number:
    try:
        value = kind(text)
    except ValueError:
        kinds = "whole numbers" if name == "seeds" else "numbers"
        raise RecipeError(f"--{name} must be {kinds}, for example {_EXAMPLES[name]}, but holds {text!r}.") from None
    return value


_EXAMPLES = {"rates": "0.5,0.7", "seeds": "0,1,2"}
