"""Gates about speed on quiet and on noisy machines; what they come to in words and exit codes."""

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from exporters.timing.noise import Disturbance, NoiseCheck
from kprune_export.bundle.manifest import Manifest, TextsRecord
from kprune_export.bundle.variant_report import VariantReport
from kprune_export.bundle.verdict import GateResult, in_words, verdict_of
from kprune_export.cli.results import _figures, print_summary
from kprune_export.errors import BundleError, ExitCode, RecipeError
from kprune_export.evaluation.metrics import TaskMetric
from kprune_export.gates.evaluate import evaluate_gates
from kprune_export.pipeline.run import Outcome
from kprune_export.pipeline.summary import summarise
from kprune_export.recipe.gates import GATE_NAMES
from kprune_export.recipe.recipe import Recipe


def measured(built: Outcome, speedup: float, noise: NoiseCheck | None) -> VariantReport:
    (report,) = built.reports
    assert report.latency is not None
    shape = report.latency.shapes[0].model_copy(update={"speedup": speedup, "noise": noise, "disturbance": None})
    return dataclasses.replace(report, latency=report.latency.model_copy(update={"shapes": (shape,)}))


def gate_at(built: Outcome, speedup: float, noise: NoiseCheck | None, limit: float = 1.5) -> GateResult:
    recipe = Recipe.build(None, built.manifest.recipe | {"output": built.output, "min_speedup": limit})
    (gate,) = evaluate_gates(recipe, [measured(built, speedup, noise)])
    return gate


QUIET = NoiseCheck(ratio=1.01, low=0.99, high=1.03)
NOISY = NoiseCheck(ratio=0.9, low=0.8, high=0.95)
"""Ratios may be off by a quarter."""


@pytest.mark.parametrize(
    ("speedup", "noise", "passed", "inconclusive"),
    [
        (1.5, None, True, False),
        (1.49, QUIET, False, False),
        (1.51, QUIET, True, False),
        (1.51, NOISY, False, True),
        (1.49, NOISY, False, True),
        (1.88, NOISY, True, False),  # 1.88 / 1.25 is still above 1.5
        (1.87, NOISY, False, True),
        (1.19, NOISY, False, False),  # and 1.19 · 1.25 below it
    ],
)
def test_noise_decides_nothing_that_it_could_turn(
    built: Outcome, speedup: float, noise: NoiseCheck | None, passed: bool, inconclusive: bool
) -> None:
    gate = gate_at(built, speedup, noise)
    assert (gate.passed, gate.inconclusive, gate.broken) == (passed, inconclusive, not passed and not inconclusive)
    assert ("too noisy" in gate.detail) is inconclusive
    assert ("a model is 0.90 times as fast as itself (0.80 to 0.95)" in gate.detail) is (noise is NOISY)


@pytest.mark.parametrize(("waiting", "inconclusive"), [(0.0, False), (0.04, False), (0.2, True), (0.5, True)])
def test_busy_processors_decide_nothing_that_they_could_turn(
    built: Outcome, waiting: float, inconclusive: bool
) -> None:
    """1.6 times as fast against 1.5 that are asked: a fifth of the time spent waiting may have made that."""
    report = measured(built, 1.6, QUIET)
    assert report.latency is not None
    disturbance = Disturbance(ran_s=1 - waiting, waited_s=waiting)
    shape = report.latency.shapes[0].model_copy(update={"disturbance": disturbance})
    report = dataclasses.replace(report, latency=report.latency.model_copy(update={"shapes": (shape,)}))
    recipe = Recipe.build(None, built.manifest.recipe | {"output": built.output, "min_speedup": 1.5})
    (gate,) = evaluate_gates(recipe, [report])
    assert (gate.passed, gate.inconclusive) == (not inconclusive, inconclusive)
    assert (f"waited for a processor {waiting:.0%} of the time" in gate.detail) is inconclusive


def test_what_an_inconclusive_gate_comes_to(built: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    inconclusive, broken = gate_at(built, 1.5, NOISY), gate_at(built, 1.0, QUIET)
    assert verdict_of([inconclusive]) == "inconclusive"
    assert verdict_of([inconclusive, broken]) == "failed"
    words = "inconclusive: the machine is too noisy to evaluate 1 of 1 gates"
    assert in_words("inconclusive", [inconclusive]) == words
    manifest = built.manifest.model_copy(update={"gates": (inconclusive,), "verdict": "inconclusive", "warnings": ()})
    summary = summarise(dataclasses.replace(built, manifest=manifest))
    assert print_summary(summary, as_json=False) is ExitCode.INCONCLUSIVE
    assert f"Verdict: {words}" in capsys.readouterr().out


def test_a_run_checks_its_machine(built: Outcome) -> None:
    (report,) = built.reports
    assert report.latency is not None
    assert all(shape.noise is not None and shape.noise.low <= shape.noise.high for shape in report.latency.shapes)
    assert "dense, opened again" in (built.output / "report.html").read_text()


PASSED = {"name": "min_agreement", "comparison": "≥", "limit": 0.9, "value": 0.95, "passed": True, "detail": ""}


@pytest.mark.parametrize(
    "changes",
    [
        {"passed": False},
        {"value": 0.8},
        {"value": math.nan, "passed": False},
        {"value": math.inf},
        {"limit": -math.inf},
        {"limit": math.nan},
        {"inconclusive": True},
        {"comparison": "≤"},
    ],
)
def test_a_gate_that_contradicts_itself_is_no_record(changes: dict[str, object]) -> None:
    assert GateResult.model_validate(PASSED).passed
    with pytest.raises(ValidationError):
        GateResult.model_validate(PASSED | changes)
    with pytest.raises(ValidationError):
        GateResult.model_validate_json(json.dumps(PASSED | changes))


@pytest.mark.parametrize(
    ("verdict", "gates"),
    [
        ("passed", ()),
        ("not gated", (PASSED,)),
        (None, (PASSED,)),
        ("passed", (PASSED, PASSED | {"value": 0.1, "passed": False})),
        ("inconclusive", (PASSED | {"value": 0.1, "passed": False},)),
        ("failed", (PASSED,)),
    ],
)
def test_a_verdict_that_is_not_its_gates_is_no_manifest(
    verdict: str | None, gates: tuple[dict[str, object], ...], built: Outcome, tmp_path: Path, cli: Callable[..., int]
) -> None:
    bundle = Path(shutil.copytree(built.output, tmp_path / "bundle"))
    content = json.loads((bundle / "manifest.json").read_text()) | {"verdict": verdict, "gates": gates}
    (bundle / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match=f"its verdict is {verdict!r}, but its gates come to"):
        Manifest.of_bundle(bundle)
    for command in (("push", bundle, "me/model", "--dry-run"), ("verify", bundle), ("validate", bundle)):
        assert cli(*command) == ExitCode.BAD_INPUT


def test_gates_are_finite() -> None:
    for name in GATE_NAMES:
        for limit in (math.nan, math.inf):
            with pytest.raises(RecipeError, match=f"{name!r} is not valid"):
                Recipe.build(None, {"model": "m", "output": "o", name: limit})


@pytest.mark.parametrize(
    ("assumed", "dense", "inconclusive"), [(True, 0.5, True), (False, 0.5, False), (True, 0.9, False)]
)
def test_labels_in_an_unknown_order_decide_nothing(
    assumed: bool, dense: float, inconclusive: bool, built: Outcome
) -> None:
    metric = TaskMetric(name="accuracy", dense=dense, pruned=0.5, examples=40, chance=0.6, order_assumed=assumed)
    (report,) = built.reports
    assert report.fidelity is not None
    report = dataclasses.replace(report, fidelity=report.fidelity.model_copy(update={"metric": metric}))
    for limit in (0.4, 0.8):
        recipe = Recipe.build(None, built.manifest.recipe | {"output": built.output, "min_metric": limit})
        (gate,) = evaluate_gates(recipe, [report])
        assert (gate.inconclusive, gate.passed) == (inconclusive, limit == 0.4 and not inconclusive)
        assert ("no better than chance (0.6000)" in gate.detail) is inconclusive
    words = in_words(verdict_of([gate]), [gate])
    assert words == ("inconclusive: what was measured does not decide 1 of 1 gates" if inconclusive else words)
    shown = [row[3] for row in _figures(summarise(dataclasses.replace(built, reports=(report,))).variants[0])]
    assert any("no better than chance (" in note for note in shown) is (dense == 0.5)


def test_a_caveat_is_part_of_the_verdict(built: Outcome) -> None:
    recipe = Recipe.build(None, built.manifest.recipe | {"output": built.output, "min_agreement": 0.0})
    gates = evaluate_gates(recipe, built.reports, caveat="it was measured on something else")
    assert in_words("passed", gates) == "passed: parity holds, and every gate; it was measured on something else"
    assert gates[0].about.endswith("; it was measured on something else")
    record = TextsRecord(source="texts.txt", texts=9, sha256="", unknown_share=0.04)
    assert record.caveat == "the tokenizer does not know 4.0% of the held-out texts' characters"
    assert record.model_copy(update={"unknown_share": 0.02}).caveat == ""
