"""A latency table: what heads and neurons cost, in a runtime and a precision, on one machine."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, model_validator

from exporters.documents import Document, Record
from exporters.errors import TableError
from exporters.machine.description import MachineRecord
from exporters.timing.noise import Disturbance, NoiseCheck, noise_reason

Widths = Sequence[tuple[int, int]]
"""How many heads and neurons each layer has, from the bottom."""


class EncoderDimensions(Record):
    """A dense encoder's dimensions, by which tables and models are matched."""

    family: str
    layers: int
    hidden_size: int
    heads: int
    head_size: int
    neurons: int


class CostCurve(Record):
    """What one sublayer costs beyond an emptied one, as a share of the dense model's time.

    Attributes:
        widths: ascending, from 0.
        measured: the cost at each, as it was measured.
        smoothed: the same, never falling with the width: the nearest such numbers by least squares.

    """

    widths: tuple[int, ...]
    measured: tuple[FiniteFloat, ...]
    smoothed: tuple[FiniteFloat, ...]

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if not len(self.widths) == len(self.measured) == len(self.smoothed) > 1 or self.widths[0] != 0:
            raise ValueError(
                "a curve has a cost, measured and smoothed, at each of its widths, the first of which is 0"
            )
        for name, ascends in (("widths", _ascends(self.widths, least=1)), ("smoothed costs", _ascends(self.smoothed))):
            if not ascends:
                raise ValueError(f"a curve's {name} ascend")
        return self

    def at(self, widths: NDArray[np.int64] | int) -> NDArray[np.float64]:
        """Return the smoothed cost at any widths, linear between those that were measured."""
        return np.asarray(np.interp(widths, self.widths, self.smoothed))


class CheckedWidths(Record):
    """A model with layers of unequal widths: what the table says it takes, and what it took.

    Attributes:
        widths: heads and neurons of each layer.
        predicted: share of the dense model's time, by the table.
        measured: the same, measured.

    """

    widths: tuple[tuple[int, int], ...]
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """How much too long the prediction is, relative to what was measured."""
        return self.predicted / self.measured - 1


class ShapeTable(Record):
    """The costs at one shape.

    Attributes:
        shape: batch size and tokens, ``8x128``.
        dense_ms: median time of the dense model.
        fixed: the share of it that a model without heads and neurons takes.
        attention: what an attention sublayer costs.
        ffn: what an FFN sublayer costs.
        checks: how right the sum of these is for layers of unequal widths, drawn at random.
        noise: the check of the machine.
        disturbance: what kept the threads from the processors while it was measured; None where a GPU was timed.

    """

    shape: str
    dense_ms: float = Field(gt=0, allow_inf_nan=False)
    fixed: float = Field(gt=0, allow_inf_nan=False)
    attention: CostCurve
    ffn: CostCurve
    checks: tuple[CheckedWidths, ...] = ()
    noise: NoiseCheck | None = None
    disturbance: Disturbance | None = None

    @property
    def noise_reason(self) -> str | None:
        """Why these costs cannot be trusted, in words; None where nothing speaks against them."""
        return noise_reason(self.noise, self.disturbance)

    def share(self, widths: Widths) -> float:
        """Return the share of the dense model's time that a model of these widths takes, by the additive model."""
        heads, neurons = (np.asarray(x, dtype=np.int64) for x in zip(*widths, strict=True))
        return float(self.fixed + self.attention.at(heads).sum() + self.ffn.at(neurons).sum())

    @property
    def largest_error(self) -> float | None:
        """The largest error of the checks, whatever its sign; None where none was made."""
        return max((abs(check.error) for check in self.checks), default=None)


class LatencyTable(Document):
    """The costs at all shapes, and on what they were measured.

    Attributes:
        runtime: the runtime's name, or ``torch``.
        precision: the precision's name.
        dimensions: the encoder's.
        threads: how many everything ran with.
        machine: where it was measured.
        method: how, in words.
        shapes: the costs at each shape.
        sha256: hash of all the rest; empty until `sealed`.

    """

    noun, error, indent = "latency table", TableError, 1
    format: Literal["kprune-latency-table"] = "kprune-latency-table"
    version: Literal[1] = 1
    runtime: str
    precision: str
    dimensions: EncoderDimensions
    threads: int
    machine: MachineRecord
    method: str
    shapes: tuple[ShapeTable, ...] = Field(min_length=1)
    sha256: str = ""

    @model_validator(mode="after")
    def _curves_of_the_model(self) -> Self:
        units = (self.dimensions.heads, self.dimensions.neurons)
        for found in self.shapes:
            if (found.attention.widths[-1], found.ffn.widths[-1]) != units:
                raise ValueError(
                    f"the curves at {found.shape} do not end at the model's {units[0]} heads and {units[1]} neurons"
                )
        return self

    def sealed(self) -> Self:
        """Return the table with the hash of its content."""
        return self.model_copy(update={"sha256": _hash_of(json.loads(self.model_dump_json()))})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a table that `write` wrote.

        Raises:
            TableError: it cannot be read, is no table of this version, or was changed since it was measured.

        """
        table = super().read(path)
        text = path.read_text(encoding="utf-8")
        if table.sha256 != _file_hash(text):
            raise TableError(
                f"{path} was changed after it was measured: its hash is not that of its content. Measure it again with "
                "kprune-export profile-target."
            )
        return table

    def shape(self, shape: str) -> ShapeTable:
        """Return the costs at a shape.

        Raises:
            TableError: it was not measured there.

        """
        for found in self.shapes:
            if found.shape == shape:
                return found
        measured = ", ".join(table.shape for table in self.shapes)
        raise TableError(f"The latency table has no shape {shape}, only {measured}: measure it with --shapes {shape}.")

    def check_model(self, dimensions: EncoderDimensions, runtime: str, precision: str) -> None:
        """Refuse to speak of another model, runtime or precision.

        Raises:
            TableError: the first thing that differs.

        """
        wanted = {"runtime": runtime, "precision": precision, **dimensions.model_dump()}
        mine = {"runtime": self.runtime, "precision": self.precision, **self.dimensions.model_dump()}
        _refuse_differences(mine, wanted, "this run has")

    def check_machine(self, machine: MachineRecord, threads: int) -> None:
        """Refuse to speak of another machine, or of other versions of what runs the model.

        Raises:
            TableError: the first thing that differs.

        """
        _refuse_differences(
            fingerprint(self.machine, self.threads, self.runtime),
            fingerprint(machine, threads, self.runtime),
            "here it is",
            " Measure one here, or say with --table-carried that this is not the machine to be fast on.",
        )


def _file_hash(text: str) -> str | None:
    """Return the hash of a table's file as it is, since a later version's records may hold more; None if it has none.

    Numbers of thousands of digits have none, which may stand where nobody reads them.
    """
    try:
        return _hash_of(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _hash_of(content: dict[str, Any]) -> str:
    """Return the hash of a table's content as JSON values, but for the hash itself."""
    hashed = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _ascends(numbers: Sequence[float], least: float = 0) -> bool:
    return all(after - before >= least for before, after in pairwise(numbers))


_PACKAGES = {
    "onnxruntime": ("onnxruntime-gpu",),
    "onnxruntime-cuda": ("onnxruntime-gpu",),
    "tensorrt": ("tensorrt",),
    "openvino": ("openvino",),
    "torch": ("torch",),
}


def fingerprint(machine: MachineRecord, threads: int, runtime: str) -> dict[str, str]:
    """Return what of a machine decides how long a runtime's kernels take, by name."""
    found = {
        "processor": machine.cpu_model,
        "instruction set": ", ".join(machine.instruction_sets) or "none known",
        "processors": str(machine.cpus),
        "CPU quota": "none" if machine.cpu_quota is None else f"{machine.cpu_quota:g}",
        "threads": str(threads),
        "GPU": machine.gpu.name if machine.gpu else "none",
    }
    return found | {package: machine.versions.get(package, "none") for package in _PACKAGES.get(runtime, ())}


def _refuse_differences(mine: Mapping[str, object], wanted: Mapping[str, object], owner: str, advice: str = "") -> None:
    for name, value in mine.items():
        if value != wanted[name]:
            raise TableError(
                f"The latency table is for another {name.replace('_', ' ')}: it was measured for {value}, and {owner} "
                f"{wanted[name]}.{advice}"
            )
