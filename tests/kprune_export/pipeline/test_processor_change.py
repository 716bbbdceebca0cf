"""Bundles that are built on one class of processor and validated on another."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from exporters.machine.description import describe_machine, instruction_sets
from kprune_export.bundle.inputs import repeatable_settings
from kprune_export.cli.results import print_summary
from kprune_export.pipeline.run import Outcome, prune_and_build, validate
from kprune_export.pipeline.summary import summarise
from kprune_export.recipe.recipe import Recipe

OLDER = ("avx2",)


@pytest.fixture
def elsewhere(
    classifier: Path,
    texts_file: Path,
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Outcome:
    """A bundle whose reports name another processor's instruction sets."""
    if instruction_sets() in ((), OLDER):
        pytest.skip("needs a processor with more instruction sets than AVX2, on a system that lists them")
    with monkeypatch.context() as patch:
        patch.setattr("exporters.machine.description.instruction_sets", lambda: OLDER)
        return prune_and_build(make_recipe(classifier, tmp_path / "bundle", texts_file, shapes="1x8"))


def test_validating_says_what_changed(
    elsewhere: Outcome, built: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**repeatable_settings(elsewhere.output), "output": tmp_path / "again", "threads": 2}
    summary = summarise(validate(elsewhere.output, Recipe.build(None, settings)))
    (sentence,) = summary.processor_changes
    (report,) = elsewhere.reports
    assert report.fidelity is not None
    here = ", ".join(describe_machine().instruction_sets)
    assert sentence.startswith(
        f"onnxruntime-fp32 was measured on a processor with avx2; this one has {here}: "
        f"agreement {report.fidelity.headline.value:.4f} there, "
    )
    assert "speedup at 1x8 " in sentence
    print_summary(summary, as_json=False)
    assert "was measured on a processor with avx2" in " ".join(capsys.readouterr().out.split())
    print_summary(summary, as_json=True)
    assert json.loads(capsys.readouterr().out)["processor_changes"] == [sentence]


def test_nothing_is_said_on_the_same_processor(built: Outcome, tmp_path: Path) -> None:
    settings = {**repeatable_settings(built.output), "output": tmp_path / "again", "threads": 2}
    assert validate(built.output, Recipe.build(None, settings)).processor_changes == ()


def test_another_processor_measures_again(elsewhere: Outcome, tmp_path: Path) -> None:
    """Parity, fidelity and latency do not hold for it; what was pruned and exported does."""
    before = {stage.name: stage.key for stage in elsewhere.manifest.stages}
    settings = {**repeatable_settings(elsewhere.output), "output": elsewhere.output, "threads": 2}
    after = {stage.name: stage.key for stage in prune_and_build(Recipe.build(None, settings)).manifest.stages}
    assert [before[x] == after[x] for x in ("prune", "export", "parity", "fidelity", "latency")] == [
        *(True, True),
        *(False, False, False),
    ]
