"""Declaration of settings: one field of a section says all that YAML, options, help and the manifest need to know."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic.fields import FieldInfo


class Use(StrEnum):
    """What a setting can decide in the result of a run; a run records the settings whose uses it has."""

    ALWAYS = "always"
    PRUNING = "pruning"
    FLOPS_BUDGET = "the FLOPs budget"
    QUANTIZATION = "int8 ranges"
    EXPORT = "export"
    ENGINES = "TensorRT engines"
    MEASUREMENT = "measurement"
    SERVING = "serving"


@dataclass(frozen=True)
class Setting:
    """What is known of a setting beside its name, type, default and range. Annotates a field of a `Section`.

    Attributes:
        help: what it does, for people.
        uses: what it decides; empty where the result does not depend on it.
        shown: its default in words, where the value alone does not say it.
        metavar: what stands for its value in help, where its type does not say it.
        values: returns the values to offer for completion, where its type does not name them.
        commas: for a setting that takes several values, whether one text may hold several.

    """

    help: str
    uses: frozenset[Use] = field(default_factory=frozenset)
    shown: str | None = None
    metavar: str | None = None
    values: Callable[[], Iterable[str]] | None = None
    commas: bool = True


class Section(BaseModel):
    """Settings about one subject. The fields of all sections together are the recipe's keys.

    Attributes:
        panel: the heading of its options in help.

    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    panel: ClassVar[str]

    @field_validator("*", mode="before")
    @classmethod
    def _several_values(cls, value: Any, validation: ValidationInfo) -> Any:
        """Take one text for several values, and none only where that is the default."""
        info = cls.model_fields[str(validation.field_name)]
        if not is_list(info):
            return value
        values = (value,) if isinstance(value, str) else value
        if isinstance(values, list | tuple) and all(isinstance(part, str) for part in values):
            parts = [part for text in values for part in (text.split(",") if setting_of(info).commas else (text,))]
            values = tuple(dict.fromkeys(part.strip() for part in parts))
        if info.default and not values and isinstance(values, list | tuple):
            raise ValueError("at least one is needed")
        return values


def setting_of(info: FieldInfo) -> Setting:
    """Return how a field of a section is declared."""
    return next(item for item in info.metadata if isinstance(item, Setting))


def value_type(info: FieldInfo) -> Any:
    """Return the type of a field's value, without None and without a tuple around it."""
    kinds = [kind for kind in get_args(info.annotation) if kind is not type(None)]
    found = kinds[0] if kinds and type(None) in get_args(info.annotation) else info.annotation
    while hasattr(found, "__metadata__"):  # Annotated
        found = get_args(found)[0]
    return get_args(found)[0] if get_origin(found) is tuple else found


def is_list(info: FieldInfo) -> bool:
    """Whether a setting takes several values."""
    return isinstance(info.default, tuple)


def values_of(info: FieldInfo) -> tuple[str, ...]:
    """Return the values that a setting can have, where they are few and known; else none."""
    declared, kind = setting_of(info).values, value_type(info)
    if declared is not None:
        return tuple(declared())
    if get_origin(kind) is Literal:
        return tuple(map(str, get_args(kind)))
    return tuple(map(str, kind)) if isinstance(kind, type) and issubclass(kind, StrEnum) else ()


def uses(*names: Use) -> frozenset[Use]:
    """Return what a setting decides."""
    return frozenset(names)
