import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from exporters.errors import ParityError
from kprune_export.bundle.inputs import repeatable_settings
from kprune_export.bundle.verify import verify_bundle
from kprune_export.errors import BundleError, VerificationError
from kprune_export.pipeline.job import prepare_job
from kprune_export.pipeline.run import Outcome, export, prune, prune_and_build, validate
from kprune_export.pipeline.stages.prune import PruneStage
from kprune_export.recipe.recipe import Recipe
from pruning import load_checkpoint
from pruning.plan import PruningPlan

MakeCheckpoint = Callable[..., Path]
MakeRecipe = Callable[..., Recipe]


class Recorder:
    """A reporter that remembers what ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.reused: list[str] = []

    def stage(self, number: int, total: int, title: str) -> Any:
        from contextlib import nullcontext

        self.ran.append(title)
        return nullcontext(lambda _: None)

    def skipped(self, number: int, total: int, title: str) -> None:
        self.reused.append(title)

    def planned(self, expected: Any) -> None:
        self.expected = expected


def test_a_bundle_holds_what_it_promises(built: Outcome) -> None:
    output = built.output
    manifest, difference = verify_bundle(output)
    assert not difference
    tops = sorted(path.name for path in output.iterdir())
    assert tops == sorted(
        [
            "plan.json",
            "recovery.json",
            "checkpoint",
            "onnx",
            "parity.json",
            "fidelity.json",
            "latency.json",
            "gates.json",
            "report.html",
            "sbom.json",
            "manifest.json",
        ]
    )
    assert manifest.command == "prune-and-build"
    assert manifest.verdict == "not gated"
    assert {x.path for x in manifest.files if not x.reproducible} == {"latency.json", "gates.json", "report.html"}
    assert built.plan is not None
    assert built.plan == PruningPlan.read(output / "plan.json") == load_checkpoint(output / "checkpoint").plan
    metadata = {x.key: x.value for x in onnx.load(output / "onnx/model.onnx").metadata_props}
    assert metadata["kprune.plan_sha256"] == manifest.plan_sha256 == built.plan.sha256
    assert metadata["kprune.labels"] == "negative\npositive"
    assert metadata["version.torch"] == torch.__version__
    for name in ("parity", "fidelity", "latency", "manifest"):
        loaded = json.loads((output / f"{name}.json").read_text())
        assert loaded["version"] == 2


def test_figures_are_sane(built: Outcome) -> None:
    assert built.reports[0].parity is not None
    assert built.reports[0].fidelity is not None
    assert built.reports[0].latency is not None
    assert built.reports[0].parity.passed
    assert built.reports[0].fidelity.texts == 40
    assert 0.5 < built.reports[0].fidelity.headline.value <= 1
    assert [x.shape for x in built.reports[0].latency.shapes] == ["1x8", "2x16"]
    assert built.reports[0].latency.subject.pruned_bytes < built.reports[0].latency.subject.dense_bytes


def test_a_rerun_skips_everything(built: Outcome, classifier: Path, texts_file: Path, make_recipe: MakeRecipe) -> None:
    before = {p: p.stat().st_mtime_ns for p in built.output.rglob("*") if p.is_file() and p.name != "manifest.json"}
    recorder = Recorder()
    again = prune_and_build(make_recipe(classifier, built.output, texts_file), recorder)
    assert recorder.ran == []
    assert len(recorder.reused) == 9
    assert again.manifest == built.manifest
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_changed_settings_rerun_what_they_decide(
    classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(classifier, tmp_path / "out", texts_file)
    prune_and_build(recipe)
    recorder = Recorder()
    failed = prune_and_build(recipe.model_copy(update={"min_agreement": 1.1}), recorder)
    assert recorder.ran == ["Checking the gates", "Writing the model card", "Writing the report"]
    assert failed.manifest.verdict == "failed"
    assert not verify_bundle(recipe.output)[1]
    recorder = Recorder()
    prune_and_build(recipe.model_copy(update={"shapes": ("1x9",)}), recorder)
    assert recorder.ran == [
        "Exporting the dense baseline",
        "Checking the dense baseline's parity",
        "Measuring latency",
        "Checking the gates",
        "Writing the model card",  # without the gate of the run before
        "Writing the report",
    ]
    (recipe.output / "onnx" / "model.onnx").write_bytes(b"tampered")
    recorder = Recorder()
    prune_and_build(recipe.model_copy(update={"shapes": ("1x9",)}), recorder)
    assert recorder.ran == ["Exporting to ONNX"]
    assert not verify_bundle(recipe.output)[1]


def test_two_folders_get_the_same_bytes(
    built: Outcome, classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    again = prune_and_build(make_recipe(classifier, tmp_path / "other", texts_file))
    assert again.manifest.reproducible_hashes() == built.manifest.reproducible_hashes()
    assert len(again.manifest.reproducible_hashes()) >= 7


def test_labelled_evaluation_texts_are_held_out_whole(
    classifier: Path,
    texts_file: Path,
    make_sentences: Callable[..., list[str]],
    make_recipe: MakeRecipe,
    tmp_path: Path,
) -> None:
    data = tmp_path / "dev.tsv"
    held_out = make_sentences(30, seed=9)
    rows = (f"{text}\t{('negative', 'positive')[i % 2]}\n" for i, text in enumerate(held_out))
    data.write_text("sentence\tlabel\n" + "".join(rows))
    calibration = tmp_path / "calibration.txt"
    calibration.write_text(texts_file.read_text() + "\n" + "\n".join(held_out[:7]))
    recipe = make_recipe(classifier, tmp_path / "out", calibration, evaluation=str(data), min_metric=0.0)
    outcome = prune_and_build(recipe)
    assert outcome.reports[0].fidelity is not None
    assert outcome.reports[0].fidelity.metric is not None
    assert outcome.reports[0].fidelity.metric.examples == 30
    (gate,) = outcome.manifest.gates
    assert (gate.name, gate.passed, gate.value) == ("min_metric", True, outcome.reports[0].fidelity.metric.pruned)
    assert outcome.manifest.calibration is not None
    assert outcome.manifest.calibration.left_out == 7
    assert "7 more were left out because they are held out" in (recipe.output / "report.html").read_text()


def test_prune_then_export_then_inspect(
    classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path, built: Outcome
) -> None:
    pruned = prune(make_recipe(classifier, tmp_path / "pruned", texts_file))
    assert sorted(x.name for x in (tmp_path / "pruned").iterdir()) == [
        "checkpoint",
        "manifest.json",
        "plan.json",
        "recovery.json",
    ]
    assert pruned.plan == built.plan
    recipe = Recipe.build(
        None, {"model": str(tmp_path / "pruned" / "checkpoint"), "output": tmp_path / "out", "threads": 2}
    )
    exported = export(recipe)
    assert sorted(x.name for x in (tmp_path / "out").iterdir()) == ["manifest.json", "onnx", "parity.json"]
    assert exported.manifest.plan_sha256 == pruned.manifest.plan_sha256
    whole = built.manifest.reproducible_hashes()
    assert exported.manifest.reproducible_hashes()["onnx/model.onnx"] == whole["onnx/model.onnx"]
    dense = export(Recipe.build(None, {"model": str(classifier), "output": tmp_path / "dense", "threads": 2}))
    assert dense.manifest.plan_sha256 is None


def test_validate_repeats_the_checks_of_a_bundle(
    built: Outcome, classifier: Path, embedder: Path, tmp_path: Path
) -> None:
    recipe = Recipe.build(
        None, {**repeatable_settings(built.output), "output": tmp_path / "validation", "threads": 2, "shapes": "1x4"}
    )
    outcome = validate(built.output, recipe)
    names = sorted(x.name for x in (tmp_path / "validation").iterdir())
    assert names == ["fidelity.json", "gates.json", "latency.json", "manifest.json", "parity.json"]
    assert outcome.reports[0].fidelity == built.reports[0].fidelity
    assert outcome.reports[0].latency is not None
    assert [x.shape for x in outcome.reports[0].latency.shapes] == ["1x4"]
    other = recipe.model_copy(update={"model": str(embedder), "output": tmp_path / "other"})
    with pytest.raises(BundleError, match="is not the model that .* was made from"):
        validate(built.output, other)
    assert not (tmp_path / "other").exists()


def test_validate_refuses_what_has_changed(built: Outcome, tmp_path: Path) -> None:
    import shutil

    bundle = Path(shutil.copytree(built.output, tmp_path / "bundle"))
    (bundle / "plan.json").write_text("{}")
    with pytest.raises(VerificationError, match="has changed since it was made: ! changed plan.json"):
        validate(bundle, Recipe.build(None, {**repeatable_settings(built.output), "output": tmp_path / "x"}))


def test_a_bundle_of_a_relative_path_is_validated_from_anywhere(
    classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(classifier, tmp_path / "there" / "model")
    monkeypatch.chdir(tmp_path / "there")
    shutil.copy(texts_file, tmp_path / "there")
    made = prune_and_build(make_recipe(Path("model"), tmp_path / "out", Path(texts_file.name)))
    assert made.manifest.source.model == made.manifest.recipe["model"] == "./model"
    assert made.manifest.recipe["calibration"] == texts_file.name
    monkeypatch.chdir(tmp_path)
    moved = made.output.rename(tmp_path / "moved")
    asked = {"output": tmp_path / "again", "shapes": "1x4"}
    again = Recipe.build(None, repeatable_settings(moved) | asked)
    assert validate(moved, again).reports[0].fidelity == made.reports[0].fidelity
    shutil.rmtree(tmp_path / "there")
    with pytest.raises(BundleError, match=r"there/model, the dense model of .*, is not on this machine: .* --dense"):
        validate(moved, again)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))  # as on another machine
    with pytest.raises(BundleError, match=r"\./model, the dense model of .*, is not on this machine: .* --dense"):
        validate(moved, Recipe.build(None, repeatable_settings(moved) | asked))


def test_failed_parity_stops_the_run_and_keeps_the_report(
    classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pruned checkpoint is changed after the export, as a broken exporter would have it."""
    from kprune_export.pipeline.stages import export as stage

    real = stage.exported_graph

    def sabotage(module: torch.nn.Module, spec: Any) -> Any:
        if spec.metadata["kprune.plan_sha256"]:
            module.model.bert.encoder.layer[1].output.LayerNorm.weight.data.mul_(1.05)  # type: ignore[union-attr,operator,index]
        return real(module, spec)

    monkeypatch.setattr(stage, "exported_graph", sabotage)
    recipe = make_recipe(classifier, tmp_path / "out", texts_file)
    with pytest.raises(
        ParityError, match=r"begins at model.bert.encoder.layer.1.output.LayerNorm.* All cases are in (.*)"
    ):
        prune_and_build(recipe)
    assert not (recipe.output / "manifest.json").exists()
    assert list(recipe.output.rglob("parity.json"))
    with pytest.raises(ParityError):  # a rerun does not take the failed check for passed
        prune_and_build(recipe)


def test_a_run_stopped_after_pruning_goes_on(
    classifier: Path,
    texts_file: Path,
    make_recipe: MakeRecipe,
    tmp_path: Path,
    built: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = make_recipe(classifier, tmp_path / "out", texts_file)
    from kprune_export.pipeline.stages.export import ExportStage

    def interrupt(self: object, job: object, context: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ExportStage, "execute", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prune_and_build(recipe)
    recorder = Recorder()
    outcome = prune_and_build(recipe, recorder)
    assert recorder.reused == [PruneStage.title]
    assert outcome.manifest.reproducible_hashes() == built.manifest.reproducible_hashes()


def test_a_stage_reads_only_what_it_declares(
    classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kprune_export.pipeline.stages.card.CardStage.reads", ())
    with pytest.raises(LookupError, match=r"The stage card reads plan\.json without declaring it"):
        prune(make_recipe(classifier, tmp_path / "out", texts_file))


def test_a_recovered_model_is_what_ships(
    classifier: Path,
    texts_file: Path,
    make_sentences: Callable[..., list[str]],
    make_recipe: MakeRecipe,
    tmp_path: Path,
) -> None:
    """The plan is the same, the weights are better, and report and card say what was done."""
    plain = prune_and_build(make_recipe(classifier, tmp_path / "plain", texts_file, recover="off"))
    settings = {"recover": "on", "recover_tokens": 8000}
    found = prune_and_build(make_recipe(classifier, tmp_path / "out", texts_file, **settings))
    assert found.plan == plain.plan
    assert found.recovery is not None
    assert plain.recovery is not None
    assert str(plain.recovery) == "Not recovered: --recover is off."
    record = found.recovery.recovery
    assert record.before is not None
    assert record.after is not None
    assert record.after < record.before
    recipe = make_recipe(classifier, tmp_path / "x", texts_file, **settings)
    job = prepare_job(recipe, prunes=True, exports=True, measures=True)
    assert not {x.text for x in job.held_out} & {x.text for x in job.recovery}
    assert str(found.recovery) in (found.output / "report.html").read_text()
    card = (found.output / "checkpoint" / "README.md").read_text()
    assert "trained on the dense model's outputs" in card
    assert str(found.recovery) in card
    mine, other = (x.reports[0].fidelity for x in (found, plain))
    assert mine is not None
    assert other is not None
    divergence = [next(x.value for x in report.measures if not x.higher_is_better) for report in (mine, other)]
    assert divergence[0] < divergence[1]
    again = prune_and_build(make_recipe(classifier, tmp_path / "again", texts_file, **settings))
    assert again.manifest.reproducible_hashes() == found.manifest.reproducible_hashes()
    other_texts = tmp_path / "other.txt"
    other_texts.write_text("\n".join(make_sentences(80, seed=5)), encoding="utf-8")
    recipe = make_recipe(classifier, tmp_path / "out", texts_file, **settings, recover_texts=str(other_texts))
    changed = prune_and_build(recipe)
    assert changed.recovery is not None
    assert changed.recovery.source == "…/other.txt"
    assert changed.manifest.recipe["recover_texts"] == "…/other.txt"
