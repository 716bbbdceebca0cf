"""Request of a sweep."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from exporters.variant import Variant
from kprune_export.errors import RecipeError
from kprune_export.experiments.sweep.folder import sensitivity_file, table_file, trial_folder
from kprune_export.pipeline.job import thread_count
from kprune_export.recipe.gates import GATE_NAMES
from kprune_export.recipe.recipe import Recipe
from kprune_export.recipe.target import BUDGET


@dataclass(frozen=True)
class TrialRequest:
    """One model of the family: a variant, and how many times as fast as the dense one; None for the dense one."""

    variant: Variant
    speedup: float | None

    @property
    def name(self) -> str:
        """Its name among files and in messages: ``onnxruntime-fp32-1.5x``, ``onnxruntime-int8-dense``."""
        return f"{self.variant}-{'dense' if self.speedup is None else f'{self.speedup:.10g}x'}"


@dataclass(frozen=True)
class SweepRequest:
    """All that a sweep is asked to do.

    Attributes:
        recipe: the model, the sweep's folder, the variants, the texts, how latency is measured, and the gates.
        speedups: over the dense model in the same runtime and precision, ascending.

    """

    recipe: Recipe
    speedups: tuple[float, ...]

    @classmethod
    def build(cls, file: Path | None, settings: Mapping[str, Any], speedups: str, gates: Path | None = None) -> Self:
        """Check what was typed.

        Args:
            file: a recipe file, if one was given.
            settings: what goes over it.
            speedups: numbers separated by commas.
            gates: a gates file, if one was given.

        Raises:
            RecipeError: a setting is not valid, or not for a sweep; the speedups are not numbers above 1.

        """
        recipe = Recipe.build(file, settings, gates=gates, typed=True)
        for name in BUDGET:
            if name in recipe.model_fields_set:
                raise RecipeError(f"{name!r} is not for a sweep, which gives each trial its own: use --speedups.")
        numbers = tuple(sorted({_speedup(part) for part in speedups.split(",") if part.strip()}))
        if not numbers:
            raise RecipeError("--speedups names nothing: give at least one, and commas between several.")
        return cls(recipe.model_copy(update={"threads": thread_count(recipe)}), numbers)

    def trials(self) -> tuple[TrialRequest, ...]:
        """Name every trial: for each variant the dense model, then the speedups; at last dense int8 if it is missing.

        What int8 alone does can then be recommended too.
        """
        asked = self.recipe.variants
        pruned = [TrialRequest(variant, speedup) for variant in asked for speedup in (None, *self.speedups)]
        return (*pruned, *(TrialRequest(x, None) for x in self.recipe.dense_int8_variants if x not in asked))

    def recipe_of(self, trial: TrialRequest) -> Recipe:
        """Return the recipe that makes a trial's bundle."""
        output = self.recipe.output
        own: dict[str, Any] = {"output": trial_folder(output, trial.name)}
        if trial.speedup is None:  # gates are about pruned models
            own |= dict.fromkeys(GATE_NAMES) | {"triton": False, "target_shapes": ()}
            own |= {"shapes": tuple(str(shape) for shape in self.recipe.parsed_shapes)}
        else:
            own |= {
                "target_speedup": trial.speedup,
                "latency_table": table_file(output, trial.variant),
                "sensitivity": sensitivity_file(output),
            }
        return self._of_variant(trial.variant, own)

    def measuring_recipe(self, variant: Variant, output: Path) -> Recipe:
        """Return the recipe by which what the trials share is measured into a folder."""
        return self._of_variant(variant, {"output": output, "target_speedup": self.speedups[0]})

    def _of_variant(self, variant: Variant, own: Mapping[str, Any]) -> Recipe:
        single = {"runtime": (variant.runtime,), "precision": (variant.precision,)}
        return self.recipe.model_copy(update={**single, "dense_int8": False, **own})  # dense int8 is a trial of its own


def _speedup(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 < value < float("inf"):
        raise RecipeError(f"--speedups must be numbers above 1, for example 1.5,2,3, but holds {text.strip()!r}.")
    return value
