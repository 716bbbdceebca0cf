"""The recipe: everything that a run is asked to do, from flags, a YAML file, or both."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml
from pydantic import ValidationError

from exporters.variant import Precision, Runtime, Variant
from kprune_export.errors import RecipeError
from kprune_export.output_folder.inputs import Place
from kprune_export.recipe.engine import EngineSection
from kprune_export.recipe.export import ExportSection
from kprune_export.recipe.file_names import check_names
from kprune_export.recipe.gates import GATE_NAMES, GatesSection
from kprune_export.recipe.input_names import shipped_settings
from kprune_export.recipe.measurement import MeasurementSection
from kprune_export.recipe.model import ModelSection
from kprune_export.recipe.pruning import PruningSection
from kprune_export.recipe.recovery import RecoverySection
from kprune_export.recipe.serving import ServingSection
from kprune_export.recipe.settings import Section, Use, setting_of
from kprune_export.recipe.target import TargetSection
from kprune_export.recipe.texts import TextsSection
from kprune_export.recipe.yaml_file import read_settings, with_suggestion
from pruning.settings import PruningSettings

if TYPE_CHECKING:
    from exporters.spec import Shape

SECTIONS: tuple[type[Section], ...] = (
    ModelSection,
    TextsSection,
    PruningSection,
    RecoverySection,
    TargetSection,
    ExportSection,
    EngineSection,
    MeasurementSection,
    GatesSection,
    ServingSection,
)
"""In the order of help."""


class Recipe(
    ServingSection,
    GatesSection,
    MeasurementSection,
    EngineSection,
    ExportSection,
    TargetSection,
    RecoverySection,
    PruningSection,
    TextsSection,
    ModelSection,
):
    """All settings of a run. The keys of a recipe file are these names, those of the flags with ``_``."""

    @classmethod
    def build(
        cls,
        file: Path | None,
        overrides: Mapping[str, Any],
        *,
        gates: Path | None = None,
        typed: bool = False,
        defaults: Mapping[str, Any] | None = None,
    ) -> Self:
        """Read a recipe file and a gates file, where there are any, and put the settings given explicitly over them.

        Args:
            file: the recipe file.
            overrides: the settings given explicitly.
            gates: the gates file; it goes over the recipe file.
            typed: whether those given explicitly are options of the command line, which errors then name.
            defaults: settings that all others go over, such as those that a bundle was made with.

        Raises:
            RecipeError: a file is not YAML or has unknown keys, or a value is not valid.
            SurroundingsError: a name in a file cannot be written as UTF-8.

        """
        values = dict(defaults or {})
        values |= read_settings(file, "recipe", tuple(cls.model_fields)) if file else {}
        if unknown := sorted(overrides.keys() - cls.model_fields.keys()):
            known = tuple(cls.model_fields)
            raise RecipeError(f"There is no setting {', '.join(with_suggestion(name, known) for name in unknown)}.")
        check_names(values.values())
        values |= read_gates(gates)
        try:
            return cls.model_validate({**values, **overrides})
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            name = str(problem["loc"][0]) if problem["loc"] else "the recipe"
            shown = option_name(name) if typed and name in overrides else name
            if problem["type"] == "missing":
                how = "after the command's name" if name == "model" else f"with {option_name(name)}"
                raise RecipeError(f"The setting {name!r} is missing: give it {how}, or in a recipe.") from error
            given = reprlib.repr(problem["input"])
            raise RecipeError(
                f"The setting {shown!r} is not valid: {problem['msg']}, but {given} was given."
            ) from error

    @property
    def inputs(self) -> tuple[Place, ...]:
        """The files and folders that a run reads; ids on the Hugging Face hub among them."""
        return (
            ("model", self.model),
            ("calibration texts", self.calibration),
            ("evaluation texts", self.evaluation),
            ("recovery texts", self.recover_texts),
            ("latency table", self.latency_table),
            ("sensitivity curves", self.sensitivity),
            ("timing cache", self.timing_cache),
        )

    @property
    def pruning(self) -> PruningSettings:
        """The settings of the pruning method; with a latency target there is no budget in them."""
        return PruningSettings(
            flops_reduction=None if self.targeted else self.flops_reduction,
            sequence_length=self.sequence_length,
            method=self.method,
            seed=self.seed,
            temperature=self.temperature,
            balance=self.balance,
            head_weight=self.head_weight,
            ridge=self.ridge,
        )

    @property
    def dense_int8_variants(self) -> tuple[Variant, ...]:
        """The int8 variants of the dense model that are measured beside the pruned ones.

        In every runtime that is exported to in int8, and in ONNX Runtime on the CPU also where int8 is not asked for:
        whether int8 alone would do is then known before pruning is chosen.
        """
        if not self.dense_int8:
            return ()
        return tuple(
            Variant(runtime, Precision.INT8)
            for runtime in self.runtime
            if self.quantizes or runtime is Runtime.ONNXRUNTIME
        )

    @property
    def parsed_shapes(self) -> "tuple[Shape, ...]":
        """The shapes that latency is measured at, those of a target among them.

        Raises:
            ShapeError: one is malformed.

        """
        from exporters.spec import Shape

        targets = (text.partition("=")[0] for text in self.target_shapes)
        return tuple(dict.fromkeys(Shape.parse(text) for text in (*self.shapes, *targets)))

    def for_record(self, *, prunes: bool, exports: bool, measures: bool) -> dict[str, Any]:
        """Return the settings that decide a run's result, as JSON values, for the manifest."""
        quantizes = self.quantizes or (measures and bool(self.dense_int8_variants))
        active = {
            Use.ALWAYS: True,
            Use.PRUNING: prunes,
            Use.FLOPS_BUDGET: prunes and not self.targeted,
            Use.QUANTIZATION: exports and quantizes,
            Use.EXPORT: exports,
            Use.ENGINES: exports and Runtime.TENSORRT in self.runtime,
            Use.MEASUREMENT: measures,
            Use.SERVING: prunes and exports,
        }
        recorded = {
            name for name, info in type(self).model_fields.items() if any(active[use] for use in setting_of(info).uses)
        }
        return self.model_dump(mode="json", include=recorded)

    def to_yaml(self) -> str:
        """Return the settings that differ from the defaults, as a recipe file without the output folder.

        Inputs are called as in a manifest: those that lie elsewhere have to be named again.
        """
        neutral = {name for name, info in type(self).model_fields.items() if not setting_of(info).uses}
        values = self.model_dump(mode="json", exclude=neutral, exclude_defaults=True)
        text: str = yaml.safe_dump(shipped_settings(values), sort_keys=False, allow_unicode=True)
        return text.strip()


def option_name(setting: str) -> str:
    """Return the option of the command line that gives a setting."""
    return f"--{setting.replace('_', '-')}"


def read_gates(file: Path | None) -> dict[str, Any]:
    """Read a file of gates, if there is one: a YAML mapping with `GATE_NAMES` as keys, checked as a recipe's are.

    Raises:
        RecipeError: it cannot be read, is not a YAML mapping, or has unknown keys.

    """
    return read_settings(file, "gates file", GATE_NAMES) if file else {}
