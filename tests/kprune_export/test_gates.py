"""Gates about speed on quiet and on noisy machines; what they come to in words and exit codes."""

import dataclasses

import pytest

from exporters.latency import NoiseCheck
from kprune_export.cli.results import print_summary
from kprune_export.errors import ExitCode
from kprune_export.gates import GateResult, in_words, judge, verdict_of
from kprune_export.pipeline import Outcome
from kprune_export.proof import VariantProof
from kprune_export.recipe import Recipe
from kprune_export.summary import summarise


def measured(built: Outcome, speedup: float, noise: NoiseCheck | None) -> VariantProof:
    (proof,) = built.proofs
    assert proof.latency is not None
    shape = proof.latency.shapes[0].model_copy(update={"speedup": speedup, "noise": noise})
    return dataclasses.replace(proof, latency=proof.latency.model_copy(update={"shapes": (shape,)}))


def judged(built: Outcome, speedup: float, noise: NoiseCheck | None, limit: float = 1.5) -> GateResult:
    recipe = Recipe.build(None, built.manifest.recipe | {"output": built.output, "min_speedup": limit})
    (gate,) = judge(recipe, [measured(built, speedup, noise)])
    return gate


QUIET = NoiseCheck(ratio=1.01, low=0.99, high=1.03)
NOISY = NoiseCheck(ratio=0.9, low=0.8, high=0.95)
"""Ratios may be off by a quarter."""


@pytest.mark.parametrize(
    ("speedup", "noise", "held", "undecided"),
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
    built: Outcome, speedup: float, noise: NoiseCheck | None, held: bool, undecided: bool
) -> None:
    gate = judged(built, speedup, noise)
    assert (gate.held, gate.undecided, gate.broken) == (held, undecided, not held and not undecided)
    assert ("the dense model is 0.90 times as fast as itself (0.80 to 0.95)" in gate.detail) is undecided


def test_what_undecided_comes_to(built: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    undecided, broken = judged(built, 1.5, NOISY), judged(built, 1.0, QUIET)
    assert verdict_of([undecided], exported=True) == "undecided"
    assert verdict_of([undecided, broken], exported=True) == "failed"
    words = "undecided: the machine is too noisy to judge 1 of 1 gates"
    assert in_words("undecided", [undecided]) == words
    manifest = built.manifest.model_copy(update={"gates": (undecided,), "verdict": "undecided", "warnings": ()})
    summary = summarise(dataclasses.replace(built, manifest=manifest))
    assert print_summary(summary, as_json=False) is ExitCode.UNDECIDED
    assert f"Verdict: {words}" in capsys.readouterr().out


def test_a_run_checks_its_machine(built: Outcome) -> None:
    (proof,) = built.proofs
    assert proof.latency is not None
    assert all(shape.noise is not None and shape.noise.low <= shape.noise.high for shape in proof.latency.shapes)
    assert "dense, opened again" in (built.output / "report.html").read_text()
