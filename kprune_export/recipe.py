"""The recipe: everything that a run is asked to do, from flags, a YAML file, or both."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from exporters.latency import TimingSettings
from exporters.spec import Shape
from kprune_export.errors import RecipeError
from pruning.calibration.examples import Columns
from pruning.methods.settings import DEFAULT_METHOD, PruningSettings

Pooling = Literal["mean", "cls", "pooler", "none"]
_RESULT_NEUTRAL = {"output", "threads"}
_PRUNING = {
    "flops_reduction",
    "calibration",
    "samples",
    "seed",
    "sequence_length",
    "device",
    "offload",
    "method",
    "temperature",
    "balance",
    "head_weight",
    "ridge",
}
_MEASURING = {
    "held_out",
    "evaluation",
    "label_column",
    "shapes",
    "timing_seconds",
    "min_speedup",
    "min_agreement",
    "min_metric",
    "max_size_mib",
}
_HOLDING_OUT = {"held_out", "evaluation"}
"""What is held out decides what can be calibrated on, whether or not it is measured on."""


class Recipe(BaseModel):
    """All settings of a run. The keys of a recipe file are these names, those of the flags with ``_``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    output: Path
    flops_reduction: float = 0.5
    calibration: str | None = None
    text_column: str | None = None
    pair_column: str | None = None
    label_column: str | None = None
    samples: Annotated[int, Field(ge=1)] = 1000
    held_out: Annotated[int, Field(ge=1)] = 200
    evaluation: str | None = None
    seed: int = 0
    sequence_length: Annotated[int, Field(ge=1)] = 128
    method: str = DEFAULT_METHOD
    temperature: Annotated[float, Field(gt=0)] | None = None
    balance: Annotated[float, Field(ge=0)] | None = None
    head_weight: Annotated[float, Field(gt=0)] | None = None
    ridge: Annotated[float, Field(ge=0)] | None = None
    device: str = "auto"
    offload: bool = False
    shapes: tuple[str, ...] = ("1x128", "8x128")
    threads: Annotated[int, Field(ge=1)] | None = None
    timing_seconds: Annotated[float, Field(gt=0, le=600)] = 3.0
    allow_pickle: bool = False
    pooling: Pooling | None = None
    min_speedup: Annotated[float, Field(gt=0)] | None = None
    min_agreement: float | None = None
    min_metric: float | None = None
    max_size_mib: Annotated[float, Field(gt=0)] | None = None

    @field_validator("shapes", mode="before")
    @classmethod
    def _split_shapes(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("shapes")
    @classmethod
    def _some_shape(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("at least one shape is needed")
        return value

    @classmethod
    def build(cls, file: Path | None, overrides: Mapping[str, Any]) -> Self:
        """Read a recipe file, if there is one, and put the settings given explicitly over it.

        Raises:
            RecipeError: the file is not YAML or has unknown keys, or a value is not valid.

        """
        values = _read_recipe(file) if file else {}
        if unknown := sorted(set(values) - set(cls.model_fields)):
            found = ", ".join(_with_suggestion(key, tuple(cls.model_fields)) for key in unknown)
            word = "the unknown key" if len(unknown) == 1 else "unknown keys,"
            raise RecipeError(f"The recipe {file} has {word} {found}: known are {', '.join(cls.model_fields)}.")
        try:
            return cls.model_validate({**values, **overrides})
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "missing":
                how = "after the command's name" if name == "model" else f"with --{name}"
                raise RecipeError(f"The setting {name!r} is missing: give it {how}, or in a recipe.") from error
            raise RecipeError(
                f"The setting {name!r} is not valid: {problem['msg']}, but {problem['input']!r} was given."
            ) from error

    @property
    def pruning(self) -> PruningSettings:
        """The settings of the pruning method."""
        return PruningSettings(
            flops_reduction=self.flops_reduction,
            sequence_length=self.sequence_length,
            method=self.method,
            seed=self.seed,
            temperature=self.temperature,
            balance=self.balance,
            head_weight=self.head_weight,
            ridge=self.ridge,
        )

    @property
    def columns(self) -> Columns:
        """The columns of the calibration and evaluation files that were named."""
        return Columns(self.text_column, self.pair_column, self.label_column)

    @property
    def timing(self) -> TimingSettings:
        """How long latency is measured."""
        return TimingSettings(seconds=self.timing_seconds)

    @property
    def parsed_shapes(self) -> tuple[Shape, ...]:
        """The shapes that latency is measured at.

        Raises:
            ShapeError: one is malformed.

        """
        return tuple(dict.fromkeys(Shape.parse(text) for text in self.shapes))

    def for_record(self, *, prunes: bool, measures: bool) -> dict[str, Any]:
        """Return the settings that decide a run's result, as JSON values, for the manifest."""
        unused = (set() if prunes else _PRUNING) | (set() if measures else _MEASURING)
        unused -= _HOLDING_OUT if prunes else set()
        return self.model_dump(mode="json", exclude=_RESULT_NEUTRAL | unused)

    def to_yaml(self) -> str:
        """Return the settings that differ from the defaults, as a recipe file without the output folder."""
        values = self.model_dump(mode="json", exclude=_RESULT_NEUTRAL, exclude_defaults=True)
        text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        return text.strip()


def _with_suggestion(key: str, known: tuple[str, ...]) -> str:
    """Return an unknown key, quoted, with the known one that it is most like."""
    typed = key.replace("-", "_")
    longer = [name for name in known if name.startswith(typed)]  # cut short is likelier than misspelt
    likely = longer or difflib.get_close_matches(typed, known, n=1, cutoff=0.5)
    return repr(key) + (f" (did you mean {likely[0]!r}?)" if likely else "")


def _read_recipe(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"The recipe {file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"The recipe {file} is not YAML: {' '.join(str(error).split())}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise RecipeError(f"The recipe {file} is not a mapping of settings to values.")
    return values
