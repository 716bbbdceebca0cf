"""The pruning plan: which attention heads and FFN neurons each layer keeps.

The plan is the artefact that everything else is rebuilt from. It is frozen, versioned, holds plain
integers only, and is written as JSON with one line for each layer's indices, so that a person can
read it and two plans can be compared line by line.
"""

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pruning.errors import PlanError
from pruning.flops import UnitCosts, unit_costs

MOST_LAYERS = 10_000
"""Layers that an encoder may have: a hostile file could ask for any number."""
Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EncoderShape(_Record):
    """The dense encoder's dimensions. All layers of a dense encoder are alike."""

    layers: Annotated[int, Field(ge=1, le=MOST_LAYERS)]
    hidden_size: Count
    heads: Count
    head_size: Count
    neurons: Count
    ffn_matrices: Literal[2, 3] = 2
    position_rows: Index = 0
    """Rows of positions that each head compares each token with, beside the other tokens."""

    def unit_costs(self, sequence_length: int) -> UnitCosts:
        """Return the FLOPs of one head and of one neuron for a sequence of that many tokens."""
        return unit_costs(self.hidden_size, self.head_size, self.ffn_matrices, sequence_length, self.position_rows)


class LayerPlan(_Record):
    """The units that one layer keeps, as ascending indices into the dense layer."""

    heads: tuple[Index, ...]
    neurons: tuple[Index, ...]

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        for name, indices in (("heads", self.heads), ("neurons", self.neurons)):
            if any(a >= b for a, b in pairwise(indices)):
                raise ValueError(f"{name} must be ascending, without repeats")
        return self


class MethodRecord(_Record):
    """The pruning method that chose the units, with every hyperparameter that it ran with."""

    name: str
    parameters: dict[str, float | int | str | bool]


class CalibrationRecord(_Record):
    """What the method saw: how many texts and tokens, and the hash of the texts themselves."""

    texts: Count
    tokens: Count
    sha256: Sha256
    seed: int


class PruningPlan(_Record):
    """The kept heads and neurons of every layer, and where they came from."""

    format: Literal["kprune-plan"] = "kprune-plan"
    version: Literal[1] = 1
    family: str
    shape: EncoderShape
    sequence_length: Count
    """Tokens in the sequence that FLOPs are counted at."""
    requested_reduction: Annotated[float, Field(gt=0, lt=1)] | None
    """The share of FLOPs that was asked to be removed; None where widths were asked for."""
    source_sha256: Sha256
    """Hash of the dense checkpoint's weights."""
    method: MethodRecord
    calibration: CalibrationRecord
    layers: tuple[LayerPlan, ...]

    @model_validator(mode="after")
    def _fits_its_shape(self) -> Self:
        if len(self.layers) != self.shape.layers:
            raise ValueError(f"{len(self.layers)} layers are planned for an encoder of {self.shape.layers}")
        for number, layer in enumerate(self.layers):
            for name, indices, limit in (
                ("head", layer.heads, self.shape.heads),
                ("neuron", layer.neurons, self.shape.neurons),
            ):
                if indices and indices[-1] >= limit:
                    raise ValueError(f"layer {number} keeps {name} {indices[-1]}, but has only {limit}")
        return self

    @property
    def costs(self) -> UnitCosts:
        """FLOPs of one head and of one neuron at the plan's sequence length."""
        return self.shape.unit_costs(self.sequence_length)

    @property
    def dense_flops(self) -> int:
        """FLOPs of the dense encoder's prunable units for one sequence."""
        shape, costs = self.shape, self.costs
        return shape.layers * (shape.heads * costs.head + shape.neurons * costs.neuron)

    @property
    def kept_flops(self) -> int:
        """FLOPs of the units that are kept, for one sequence."""
        costs = self.costs
        return sum(len(x.heads) * costs.head + len(x.neurons) * costs.neuron for x in self.layers)

    @property
    def flops_reduction(self) -> float:
        """The share of the encoder's FLOPs that the plan removes, from 0 to 1."""
        return 1 - self.kept_flops / self.dense_flops

    @property
    def attention_layers(self) -> int:
        """How many layers still have an attention head."""
        return sum(bool(layer.heads) for layer in self.layers)

    @property
    def sha256(self) -> str:
        """Hash of the plan's content: of its JSON with sorted keys and no spaces."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> str:
        """Return the plan as JSON text with one line for each layer's heads and neurons."""
        data = self.model_dump(mode="json")
        layers = ",\n".join(
            f'    {{"heads": {json.dumps(x["heads"])},\n     "neurons": {json.dumps(x["neurons"])}}}'
            for x in data.pop("layers")
        )
        head = json.dumps(data, indent=2, ensure_ascii=False).removesuffix("\n}")
        return f'{head},\n  "layers": [\n{layers}\n  ]\n}}\n'

    @classmethod
    def from_json(cls, text: str, origin: str = "the plan") -> Self:
        """Read a plan that `to_json` wrote; ``origin`` names it in errors.

        Raises:
            PlanError: the text is not JSON, or not a plan of this version.

        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise PlanError(f"{origin} is not a valid pruning plan: {first_problem(error)}.") from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a plan from a file.

        Raises:
            PlanError: the file is missing, not UTF-8, or not a plan of this version.

        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError(f"The plan {path} cannot be read: {error}.") from error
        return cls.from_json(text, origin=str(path))


def first_problem(error: ValidationError) -> str:
    """Return the first problem of a pydantic error as ``where: what``."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "the whole"
    return f"{where}: {problem['msg']}"
