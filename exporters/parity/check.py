"""Parity: an artefact gives what the model it was made from gives, on every shape and padding pattern.

Names are compared first, then shapes, then values; of an output with values for each token, those that
are not in padding. All failures are collected before anything is
raised, and the first norm of the network that differs is named, so that one run is enough to find it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from exporters.errors import ParityError
from exporters.inputs import Padding, synthetic_inputs
from exporters.machine.description import instruction_sets
from exporters.onnx.passes.int8 import LARGEST_ERROR
from exporters.parts import FinishedParts
from exporters.rounding import apart
from exporters.runners.base import Array, Feeds, Runner
from exporters.spec import ModelSpec, Shape

PARITY_SHAPES = (Shape(1, 1), Shape(3, 17), Shape(8, 128))
"""Odd shapes that a wrongly specialised axis cannot survive; the longest sequence is added to them."""
TEXTS = "calibration texts"
LONGEST = 2048
"""Tokens in the longest sequence that is compared where a model reads longer ones: memory grows with its square."""


class Tolerance(BaseModel):
    """How far a value may be off: ``absolute + relative·(the largest reference value of the case)``."""

    model_config = ConfigDict(frozen=True)

    absolute: float
    relative: float

    def bound(self, reference: Array) -> float:
        """Return the largest difference that is accepted beside these reference values."""
        return self.absolute + self.relative * float(np.abs(reference).max(initial=0.0))


FLOAT32_TOLERANCE = Tolerance(absolute=1e-5, relative=1e-4)
"""For fp32 against fp32: both round each of some hundred chained operations to 2⁻²⁴, in another order.

Differences of 1e-6 to 1e-5 of the output's size are what that gives; ten times as much is accepted.
"""


FLOAT16_TOLERANCE = Tolerance(absolute=2**-9, relative=2**-6)
"""For fp16: values are rounded to 2⁻¹¹ after each of some hundred operations, whose errors add up like a random walk,
to ten to twenty roundings; 32 are accepted."""
BFLOAT16_TOLERANCE = Tolerance(absolute=2**-6, relative=2**-3)
"""For bf16, which rounds to 2⁻⁸: eight times that of fp16."""


def int8_tolerance(multiplications: int) -> Tolerance:
    """Return the tolerance for int8: each quantized multiplication may be off by `LARGEST_ERROR`, independently.

    Args:
        multiplications: how many are quantized.

    """
    return Tolerance(absolute=0.02, relative=LARGEST_ERROR * float(np.sqrt(max(1, multiplications))))


class ParityCase(BaseModel):
    """One input and what came of it."""

    model_config = ConfigDict(frozen=True)

    shape: str
    padding: str
    max_abs_error: float | None
    tolerance: float | None
    problem: str | None
    """What is wrong, in words; None where the outputs agree."""

    @property
    def severity(self) -> float:
        """The error as a multiple of the tolerance; infinite where values could not be compared."""
        if self.problem is None and self.max_abs_error is None:
            return 0.0  # no values were compared, by intent
        if self.max_abs_error is None or self.tolerance is None or not np.isfinite(self.max_abs_error):
            return float("inf")
        return self.max_abs_error / self.tolerance


class ParityReport(BaseModel):
    """The outcome of comparing one artefact with its reference."""

    model_config = ConfigDict(frozen=True)

    format: Literal["kprune-parity"] = "kprune-parity"
    version: Literal[1] = 1
    reference: str
    candidate: str
    tolerance: Tolerance
    cases: tuple[ParityCase, ...]
    instruction_sets: tuple[str, ...] = ()
    """Those of the processor that the comparison ran on (`exporters.machine.description.INSTRUCTION_SETS`)."""
    first_difference: str | None = None
    """The lowest norm of the network whose output differs, where values failed and it was found."""

    @property
    def worst(self) -> ParityCase:
        """The case with the largest error for its tolerance."""
        return max(self.cases, key=lambda case: case.severity)

    @property
    def failures(self) -> tuple[ParityCase, ...]:
        """The cases that do not agree."""
        return tuple(case for case in self.cases if case.problem)

    @property
    def passed(self) -> bool:
        """Whether all cases agree."""
        return not self.failures

    def raise_if_failed(self) -> None:
        """Raise if any case failed.

        Raises:
            ParityError: names the number of failures, the worst case, and where the difference begins.

        """
        if self.passed:
            return
        begins = f"; the difference begins at {self.first_difference}" if self.first_difference else ""
        raise ParityError(
            f"{self.candidate} differs from {self.reference} in {len(self.failures)} of {len(self.cases)} cases, most "
            f"at {self.worst.shape} with {self.worst.padding}: {self.worst.problem}{begins}."
        )


def check_parity(
    reference: Runner,
    candidate: Runner,
    spec: ModelSpec,
    shapes: Sequence[Shape] = PARITY_SHAPES,
    tolerance: Tolerance = FLOAT32_TOLERANCE,
    locate: Callable[[Feeds], str | None] = lambda _: None,
    progress: Callable[[float], None] = lambda _: None,
    texts: Sequence[Feeds] = (),
    admits: Callable[[Shape], bool] = lambda _: True,
    parts: FinishedParts | None = None,
) -> ParityReport:
    """Compare two runners on all shapes and padding patterns; the model's longest sequence is added, up to `LONGEST`.

    Shapes longer than the model reads are cut.

    Args:
        reference: what is right.
        candidate: what is checked.
        spec: the inputs to make.
        shapes: the shapes to run.
        tolerance: how far a value may be off.
        locate: given the worst failing input, says where in the network the difference begins.
        progress: called with how far the comparison is.
        texts: batches of real texts. Where they are given, values are compared on them alone, and on synthetic inputs
            only names, shapes, and that all values are finite: the ranges of int8 were measured on real texts, and
            noise goes beyond them.
        admits: whether the candidate takes a shape, as an engine's profiles decide; others are left out.
        parts: where finished cases are kept and taken from.

    """
    parts = parts or FinishedParts()
    cut = [Shape(shape.batch, min(shape.sequence, spec.max_positions)) for shape in shapes]
    wanted = dict.fromkeys((*cut, Shape(1, min(spec.max_positions, LONGEST))))
    cases = [
        _Input(str(shape), str(padding), synthetic_inputs(spec, shape, padding), None if texts else tolerance)
        for shape in filter(admits, wanted)
        for padding in Padding
    ]
    cases += [_Input(str(_shape(feeds)), TEXTS, feeds, tolerance) for feeds in texts if admits(_shape(feeds))]
    results = []
    for done, case in enumerate(cases, start=1):
        compare = partial(_compare, case, reference, candidate, spec)
        results.append(parts.once(f"case-{done:03d}", ParityCase, compare))
        progress(done / len(cases))
    report = ParityReport(
        reference=reference.name,
        candidate=candidate.name,
        tolerance=tolerance,
        cases=tuple(results),
        instruction_sets=instruction_sets(),
    )
    if report.passed:
        return report
    return report.model_copy(update={"first_difference": locate(cases[results.index(report.worst)].feeds)})


class _Input(NamedTuple):
    """One input, and how far values may be off on it; they only have to be finite where there is no tolerance."""

    shape: str
    padding: str
    feeds: Feeds
    tolerance: Tolerance | None


def _shape(feeds: Feeds) -> Shape:
    batch, tokens = feeds["input_ids"].shape
    return Shape(batch, tokens)


def _compare(case: _Input, reference: Runner, candidate: Runner, spec: ModelSpec) -> ParityCase:
    """Run both on one input and compare the outputs."""
    feeds, tolerance = case.feeds, case.tolerance
    expected, actual = reference.run(feeds), candidate.run(feeds)
    problems: list[str] = []
    error = bound = None
    per_token = {output.name for output in spec.outputs if output.per_token}
    if list(expected) != list(actual):
        problems.append(f"its outputs are {', '.join(actual)}, not {', '.join(expected)}")
    for name in [name for name in expected if name in actual]:
        right, given = expected[name], actual[name]
        if right.shape != given.shape:
            problems.append(f"{name} has the shape {given.shape}, not {right.shape}")
            continue
        if name in per_token:
            real = feeds["attention_mask"].astype(bool)
            right, given = right[real], given[real]
        if tolerance is None:
            if not np.isfinite(given).all():
                problems.append(f"{name} has values that are not finite")
            continue
        off = _largest_difference(right, given)
        limit = tolerance.bound(right)
        if error is None or bound is None or not off / limit <= error / bound:
            error, bound = off, limit
        if not off <= limit:
            shown, accepted = apart(off, limit)
            problems.append(f"{name} is off by {shown}, more than the {accepted} that is accepted")
    return ParityCase(
        shape=case.shape,
        padding=case.padding,
        max_abs_error=error if error is None or np.isfinite(error) else None,
        tolerance=bound,
        problem="; ".join(problems) or None,
    )


def _largest_difference(right: Array, given: Array) -> float:
    """Return the largest absolute difference, NaN if there is a NaN; row by row, as a vocabulary is wide."""
    rows = [
        np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0) for a, b in zip(right, given, strict=True)
    ]
    return float(np.max(rows, initial=0.0))
