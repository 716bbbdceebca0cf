"""Advice where gates failed, the best variant, and its headline."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from kprune_export.bundle.headline import headline_of, mean_speedup
from kprune_export.bundle.verdict import GateResult
from kprune_export.gates.advice import advice
from kprune_export.gates.evaluate import best_variant
from kprune_export.pipeline.run import Outcome
from kprune_export.recipe.recipe import Recipe


def failed(name: str, limit: float, value: float, comparison: str = "≥", **more: Any) -> GateResult:
    return GateResult(
        name=name,
        comparison=comparison,
        limit=limit,
        value=value,
        passed=False,
        detail="",
        **more,  # type: ignore[arg-type]
    )


def recipe(**settings: Any) -> Recipe:
    return Recipe.build(None, {"model": "m", "output": Path("o"), "calibration": "t.txt", **settings})


@pytest.mark.parametrize(
    ("gate", "settings", "words"),
    [
        (failed("min_agreement", 0.95, 0.9), {"flops_reduction": 0.6}, ["--flops-reduction below 0.6", "--samples"]),
        (failed("min_metric", 0.9, 0.8), {"target_speedup": 3.0}, ["--target-speedup below 3"]),
        (failed("min_speedup", 2.0, 1.5), {}, ["--flops-reduction above 0.5", "--precision fp32,int8"]),
        (failed("min_speedup", 2.0, 1.5), {"precision": "int8"}, ["--flops-reduction above 0.5", "--target-speedup"]),
        (failed("max_size_mib", 20.0, 40.0, "≤"), {}, ["--precision int8"]),
        (failed("target_speedup", 2.0, 1.8), {"target_speedup": 2.0}, ["idle machine"]),
        (failed("min_agreement", 0.95, 0.9495), {}, ["--min-agreement missed by less than 0.5%", "--held-out"]),
        (failed("min_speedup", 2.0, 2.1, inconclusive=True), {}, ["run the same command again on an idle machine"]),
    ],
)
def test_each_kind_of_gate_names_a_setting_and_a_direction(
    gate: GateResult, settings: dict[str, Any], words: list[str]
) -> None:
    text = " ".join(advice([gate], recipe(**settings)))
    assert all(word in text for word in words), text


def test_nothing_is_advised_where_all_gates_passed() -> None:
    assert advice([], recipe()) == ()
    passed = GateResult(name="min_agreement", comparison="≥", limit=0.9, value=0.95, passed=True, detail="")
    assert advice([passed], recipe()) == ()


def test_the_best_variant_is_the_fastest_of_those_that_pass(built: Outcome) -> None:
    (slow,) = built.reports
    assert slow.latency is not None
    assert slow.fidelity is not None
    shapes = tuple(shape.model_copy(update={"speedup": 2 * shape.speedup}) for shape in slow.latency.shapes)
    headline = slow.fidelity.headline.model_copy(update={"value": 0.1})
    fast = dataclasses.replace(
        slow,
        latency=slow.latency.model_copy(update={"shapes": shapes}),
        fidelity=slow.fidelity.model_copy(update={"measures": (headline, *slow.fidelity.measures[1:])}),
    )
    assert mean_speedup(fast) == pytest.approx(2 * mean_speedup(slow))
    settings = {**built.manifest.recipe, "output": built.output}
    assert best_variant(Recipe.build(None, settings), [slow, fast]) is fast  # no gates
    assert best_variant(Recipe.build(None, settings | {"min_agreement": 0.2}), [slow, fast]) is slow
    assert best_variant(Recipe.build(None, settings | {"min_agreement": 1.1}), [slow, fast]) is None


def test_the_headline_has_the_figures_of_the_largest_shape(built: Outcome) -> None:
    (report,) = built.reports
    assert report.latency is not None
    assert report.fidelity is not None
    found = headline_of(report)
    last = report.latency.shapes[-1]
    assert (found.shape, found.speedup, found.p50_ms) == (last.shape, last.speedup, last.pruned.p50_ms)
    assert found.size_share == report.graph.file.size_bytes / report.latency.subject.dense_bytes
    assert f"agreement {100 * report.fidelity.headline.value:.1f} %" in str(found)
    untimed = headline_of(dataclasses.replace(report, latency=None))
    assert (untimed.speedup, untimed.size_share) == (None, None)
    assert "times as fast" not in str(untimed)
