"""Targets that cannot be searched for are refused before anything is done."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporters.errors import ShapeError
from exporters.machine.description import describe_machine
from exporters.timing.latency_table.table import CostCurve, LatencyTable, ShapeTable
from kprune_export.errors import TargetError
from kprune_export.latency_target.request import check_reachable, dimensions_of, target_of
from kprune_export.latency_target.target_record import LatencyTarget, TargetShape
from kprune_export.pipeline.job import prepare_job
from kprune_export.pipeline.run import prune
from kprune_export.recipe.recipe import Recipe
from pruning import load_checkpoint


def test_targets_are_read_with_their_weights() -> None:
    recipe = Recipe.build(None, {"model": "m", "output": "o", "target_speedup": 2, "target_shapes": "1x8=3, 2x16"})
    weighed = (TargetShape(shape="1x8", weight=3.0), TargetShape(shape="2x16", weight=1.0))
    assert target_of(recipe) == LatencyTarget(speedup=2.0, latency_ms=None, shapes=weighed)
    assert str(target_of(recipe)) == "2 times as fast at 1x8 (weight 3), 2x16 (weight 1)"
    assert [str(shape) for shape in recipe.parsed_shapes] == ["1x128", "8x128", "1x8", "2x16"]  # and those are timed
    plain = Recipe.build(None, {"model": "m", "output": "o", "target_latency_ms": 3.5, "shapes": "1x8"})
    assert str(target_of(plain)) == "3.5 ms at 1x8"


def test_a_weighted_mean_by_hand() -> None:
    target = LatencyTarget(
        speedup=2.0, latency_ms=None, shapes=(TargetShape(shape="a", weight=3), TargetShape(shape="b", weight=1))
    )
    assert target.mean({"a": 0.4, "b": 0.8}) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("settings", "error", "problem"),
    [
        ({"target_latency_ms": 1.0}, TargetError, "A speedup and a latency are both given"),
        ({"target_shapes": "1x8=0"}, TargetError, "must be above 0, but is 0 in '1x8=0'"),
        ({"target_shapes": "1x8=much"}, TargetError, "'1x8=much' is no shape with a weight"),
        ({"target_shapes": "8"}, ShapeError, "'8' is not a shape"),
        ({"target_shapes": "1x9999"}, ShapeError, "9999 tokens"),
        (
            {"flops_reduction": 0.5},
            TargetError,
            r"A FLOPs reduction and a latency target \(2 times as fast at 1x8\) are",
        ),
        ({"method": "kwon2022"}, TargetError, "needs the method kprune, but kwon2022"),
        ({"precision": "fp32,int8"}, TargetError, "but 2 variants are asked for"),
        ({"table_carried": True}, TargetError, "name it with --latency-table"),
    ],
)
def test_what_does_not_go_together_is_refused(
    settings: dict[str, Any],
    error: type[Exception],
    problem: str,
    classifier: Path,
    texts_file: Path,
    tmp_path: Path,
    make_recipe: Callable[..., Recipe],
) -> None:
    recipe = make_recipe(classifier, tmp_path / "out", texts_file, **{"target_speedup": 2, "shapes": "1x8"} | settings)
    with pytest.raises(error, match=problem):
        prepare_job(recipe, prunes=True, exports=True, measures=True)
    assert not (tmp_path / "out").exists()


def test_a_latency_is_at_one_shape(classifier: Path, texts_file: Path, tmp_path: Path, make_recipe: Any) -> None:
    recipe = make_recipe(classifier, tmp_path / "out", texts_file, target_latency_ms=1.0)
    with pytest.raises(TargetError, match=r"is at one shape, but there are 2 \(1x8, 2x16\)"):
        prepare_job(recipe, prunes=True, exports=True, measures=True)
    with pytest.raises(TargetError, match="prune exports nothing"):
        prune(recipe)


def table_of(classifier: Path, **changes: Any) -> LatencyTable:
    dimensions = dimensions_of(load_checkpoint(classifier)).model_copy(update=changes.pop("dimensions", {}))
    attention, ffn = (
        CostCurve(widths=(0, units), measured=(0.0, 0.1), smoothed=(0.0, 0.1))
        for units in (dimensions.heads, dimensions.neurons)
    )
    shape = ShapeTable(shape="1x8", dense_ms=2.0, fixed=0.1, attention=attention, ffn=ffn)
    values = {"runtime": "onnxruntime", "precision": "fp32", "threads": 2, "machine": describe_machine()} | changes
    return LatencyTable(dimensions=dimensions, method="by hand", shapes=(shape,), **values).sealed()


def test_a_target_that_the_dense_model_meets_is_refused(classifier: Path) -> None:
    target = LatencyTarget(speedup=None, latency_ms=2.5, shapes=(TargetShape(shape="1x8", weight=1),))
    with pytest.raises(TargetError, match=r"takes 2\.00 ms at 1x8, which is within the 2\.5 ms asked for"):
        check_reachable(target, table_of(classifier))


@pytest.mark.parametrize(
    ("changes", "carried", "problem"),
    [
        ({"dimensions": {"layers": 7}}, False, "another layers: it was measured for 7, and this run has 2"),
        ({"precision": "int8"}, True, "another precision"),
        ({"runtime": "tensorrt"}, False, "another runtime: it was measured for tensorrt, and this run has onnxruntime"),
        ({"threads": 64}, False, "another threads: .*--table-carried"),
        ({"threads": 64}, True, None),
    ],
)
def test_tables_of_something_else_are_refused(
    changes: dict[str, Any],
    carried: bool,
    problem: str | None,
    classifier: Path,
    texts_file: Path,
    tmp_path: Path,
    make_recipe: Any,
    cli: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    table_of(classifier, **changes).write(tmp_path / "table.json")
    settings = {"target_speedup": 2, "latency_table": tmp_path / "table.json", "table_carried": carried}
    recipe = make_recipe(classifier, tmp_path / "out", texts_file, shapes="1x8", **settings)
    if problem is None:
        prepare_job(recipe, prunes=True, exports=True, measures=True)
        return
    flags = ["--threads", 2, "--latency-table", tmp_path / "table.json", *(["--table-carried"] if carried else [])]
    assert (
        cli("prune-and-build", classifier, "-o", tmp_path / "out", "--target-speedup", 2, "--shapes", "1x8", *flags)
        == 2
    )
    error = " ".join(capsys.readouterr().err.split())
    assert re.search(problem, error), error
    assert not (tmp_path / "out").exists()


def test_speedups_of_one_or_less_are_refused(tmp_path: Path, classifier: Path, cli: Callable[..., int]) -> None:
    assert cli("prune-and-build", classifier, "-o", tmp_path / "out", "--target-speedup", 1) == 2
