"""Latency tables: measured from models whose times are known, kept, and refused where they do not fit."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from exporters.errors import TableError
from exporters.machine.description import describe_machine
from exporters.machine.gpu import GpuClock, GpuRecord
from exporters.runners.base import Array, Feeds, Runner
from exporters.spec import ModelSpec, Shape, TensorSpec
from exporters.timing.latency_table.measure import TableRequest, cost_curve, ffn_widths, head_counts, measure_table
from exporters.timing.latency_table.table import (
    CostCurve,
    EncoderDimensions,
    LatencyTable,
    ShapeTable,
    Widths,
    fingerprint,
)
from exporters.timing.timers import Calls

SIZES = EncoderDimensions(family="bert", layers=3, hidden_size=64, heads=4, head_size=16, neurons=100)


def test_costs_by_hand() -> None:
    # three layers; the dip at width 3 is noise, and is shared with its neighbour: (0.2 + 0.1) / 2
    curve = cost_curve([0, 2, 3, 4], [0.1, 0.7, 0.4, 1.0], layers=3)
    assert curve.measured == pytest.approx((0, 0.2, 0.1, 0.3))
    assert curve.smoothed == pytest.approx((0, 0.15, 0.15, 0.3))
    assert curve.at(1) == pytest.approx(0.075)


def test_a_noisy_emptied_sublayer_still_costs_nothing() -> None:
    # slower emptied than with one head: the costs of both are drawn together, and then start at 0
    assert cost_curve([0, 1, 2], [0.4, 0.2, 1.0], layers=1).smoothed == pytest.approx((0, 0, 0.6))


def test_the_sum_of_the_costs_by_hand() -> None:
    attention = CostCurve(widths=(0, 4), measured=(0, 0.2), smoothed=(0, 0.2))
    ffn = CostCurve(widths=(0, 50, 100), measured=(0, 0.1, 0.1), smoothed=(0, 0.1, 0.1))
    table = ShapeTable(shape="1x8", dense_ms=2.0, fixed=0.1, attention=attention, ffn=ffn)
    assert table.share([(4, 100), (2, 25), (0, 0)]) == pytest.approx(0.1 + (0.2 + 0.1) + (0.1 + 0.05))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"widths": (0, 2)}, "a cost, measured and smoothed, at each of its widths"),
        ({"widths": (1, 2, 4)}, "the first of which is 0"),
        ({"widths": (0, 4, 4)}, "widths ascend"),
        ({"smoothed": (0.0, 0.2, 0.1)}, "smoothed costs ascend"),
        ({"measured": (0.0, 0.1, float("nan"))}, "finite number"),
    ],
)
def test_curves_that_contradict_themselves_are_refused(changes: dict[str, Any], problem: str) -> None:
    whole = {"widths": (0, 2, 4), "measured": (0.0, 0.1, 0.2), "smoothed": (0.0, 0.1, 0.2)}
    assert CostCurve.model_validate(whole)
    with pytest.raises(ValidationError, match=problem):
        CostCurve.model_validate(whole | changes)


def test_what_is_measured() -> None:
    assert head_counts(4) == [0, 1, 2, 3, 4]
    assert head_counts(64)[:5] == [0, 1, 2, 3, 4]
    assert head_counts(64)[-1] == 64
    assert len(head_counts(64)) <= 17
    widths = ffn_widths(1536, 32)
    assert (widths[0], widths[1], widths[-1]) == (0, 32, 1536)
    assert all(width % 32 == 0 for width in widths)
    assert ffn_widths(100, 16)[-2:] == [80, 100]


class Pretended(Runner):
    """A model that takes a given time."""

    name = "pretended"

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = seconds

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return ()

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return ()

    def close(self) -> None:
        pass

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        raise AssertionError("only the clock looks at it")


class Clock:
    """Returns given times of models."""

    description = "pretended times"

    def __init__(self) -> None:
        self.shape = ""

    def prepare(self, runner: Runner, feeds: Feeds) -> None:
        self.shape = "x".join(map(str, feeds["input_ids"].shape))

    def block(self, runner: Runner, feeds: Feeds, calls: int) -> Calls:
        assert isinstance(runner, Pretended)
        return Calls((runner.seconds[self.shape],) * calls)

    def clock(self) -> GpuClock | None:
        return None

    def gpu(self) -> GpuRecord | None:
        return None


def measured(
    seconds: Callable[[int, int], float], interaction: float = 0.0, first: float = 1.0
) -> tuple[ShapeTable, ...]:
    """Measure models that take 1 ms and what their sublayers take, 2x16 three times as long; the first is special."""
    spec, opened = ModelSpec(("input_ids",), (), 64, 10, 1, 0, 3), count()

    @contextlib.contextmanager
    def open_at(widths: Widths) -> Iterator[Runner]:
        uneven = len(set(widths)) > 1
        total = 0.001 + sum(seconds(*pair) for pair in widths) * (1 + interaction * uneven)
        total *= first if next(opened) == 1 else 1  # the one before it is the reference
        yield Pretended({"1x8": total, "2x16": 3 * total})

    shapes = (Shape(1, 8), Shape(2, 16))
    tables = measure_table(TableRequest(SIZES, spec, shapes, 16, Clock()), open_at)
    assert all(table.disturbance is not None for table in tables)  # of this process, which pretends only times
    return tuple(table.model_copy(update={"disturbance": None}) for table in tables)


def test_known_costs_are_found_again() -> None:
    def seconds(heads: int, neurons: int) -> float:
        return 1e-4 * heads + (5e-5 if heads else 0) + 2e-5 * neurons

    dense = 0.001 + 3 * seconds(4, 100)
    for table, scale in zip(measured(seconds), (1, 3), strict=True):
        assert table.dense_ms == pytest.approx(1000 * scale * dense)
        assert table.fixed == pytest.approx(0.001 / dense)
        assert table.attention.at(3) == pytest.approx(3.5e-4 / dense)
        assert table.ffn.at(50) == pytest.approx(1e-3 / dense)  # between two that were measured
        assert table.share([(4, 100)] * 3) == pytest.approx(1)
        assert table.largest_error == pytest.approx(0, abs=1e-9)
        assert table.noise is not None
        assert table.noise.quiet


def test_one_bad_moment_of_the_dense_model_changes_nothing() -> None:
    def seconds(heads: int, neurons: int) -> float:
        return 1e-4 * heads + 2e-5 * neurons

    assert measured(seconds, first=0.8) == measured(seconds)


def test_checks_tell_where_sums_are_wrong() -> None:
    (table, _) = measured(lambda heads, neurons: 1e-4 * heads + 2e-5 * neurons, interaction=0.5)
    assert table.largest_error is not None
    assert table.largest_error > 0.1
    assert all(check.error < 0 for check in table.checks)  # uneven models are slower than the table says


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    return LatencyTable(
        runtime="onnxruntime",
        precision="fp32",
        dimensions=SIZES,
        threads=2,
        machine=describe_machine(),
        method="pretended",
        shapes=measured(lambda heads, neurons: 1e-4 * heads + 2e-5 * neurons),
    ).sealed()


def test_a_table_is_read_as_it_was_written(table: LatencyTable, tmp_path: Path) -> None:
    table.write(tmp_path / "table.json")
    assert LatencyTable.read(tmp_path / "table.json") == table


def test_a_table_changed_by_hand_is_refused(table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    table.write(path)
    content = json.loads(path.read_text())
    content["shapes"][0]["fixed"] *= 0.99
    path.write_text(json.dumps(content))
    with pytest.raises(TableError, match="was changed after it was measured"):
        LatencyTable.read(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{", "Invalid JSON"), ("{}", "runtime: Field required"), ('{"version": 2}', "version: Input should be 1")],
)
def test_what_is_no_table_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(TableError, match=problem):
        LatencyTable.read(tmp_path / "table.json")
    with pytest.raises(TableError, match="cannot be read"):
        LatencyTable.read(tmp_path / "nowhere.json")


def test_a_table_speaks_of_what_it_was_measured_for(table: LatencyTable) -> None:
    table.check_model(SIZES, "onnxruntime", "fp32")
    with pytest.raises(TableError, match="another neurons: it was measured for 100, and this run has 200"):
        table.check_model(SIZES.model_copy(update={"neurons": 200}), "onnxruntime", "fp32")
    with pytest.raises(TableError, match="another precision: it was measured for fp32, and this run has int8"):
        table.check_model(SIZES, "onnxruntime", "int8")
    with pytest.raises(TableError, match="has no shape 4x4, only 1x8, 2x16"):
        table.shape("4x4")


def test_a_table_speaks_of_its_machine(table: LatencyTable) -> None:
    here = describe_machine()
    table.check_machine(here, 2)
    with pytest.raises(TableError, match="another threads: it was measured for 2, and here it is 1"):
        table.check_machine(here, 1)
    with pytest.raises(TableError, match="another processor.*--table-carried"):
        table.check_machine(here.model_copy(update={"cpu_model": "Z80"}), 2)
    with pytest.raises(TableError, match="another instruction set: it was measured for .*, and here it is avx2"):
        table.check_machine(here.model_copy(update={"instruction_sets": ("avx2",)}), 2)
    versions = here.versions | {"onnxruntime-gpu": "0.1"}
    with pytest.raises(TableError, match="another onnxruntime-gpu"):
        table.check_machine(here.model_copy(update={"versions": versions}), 2)
    assert "torch" not in fingerprint(here, 2, "onnxruntime")  # which does not run it
