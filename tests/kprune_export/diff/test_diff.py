"""Two bundles compared: figures whose differences are known, and the three ways to print them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from exporters.timing.latency import NoiseCheck
from kprune_export.bundle.manifest import Manifest
from kprune_export.diff.compute import compare_contents, diff_bundles, figure_change
from kprune_export.diff.read import BundleContent, read_bundle
from kprune_export.diff.sections import markdown
from kprune_export.errors import BundleError, VerificationError
from kprune_export.pipeline.run import Outcome, prune, prune_and_build
from kprune_export.recipe.recipe import Recipe
from kprune_export.tables import Section, markdown_table
from pruning.plan import LayerPlan

Cli = Callable[..., int]
MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="module")
def content(built: Outcome) -> BundleContent:
    found = read_bundle(built.output)  # whose notes must not depend on how busy the machine is
    [(variant, report)] = found.latency.items()
    shapes = tuple(shape.model_copy(update={"noise": None, "disturbance": None}) for shape in report.shapes)
    return replace(found, latency={variant: report.model_copy(update={"shapes": shapes})})


@pytest.fixture(scope="module")
def embedding(
    embedder: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    output = tmp_path_factory.mktemp("embedding") / "bundle"
    return prune_and_build(make_recipe(embedder, output, texts_file, flops_reduction=0.3, min_speedup=1000))


def with_manifest(content: BundleContent, **changes: object) -> BundleContent:
    return replace(content, manifest=content.manifest.model_copy(update=changes))


@pytest.mark.parametrize(
    ("before", "after", "higher", "old", "new", "effect"),
    [
        (0.9, 0.9, True, None, None, "equal"),
        (0.9, 0.95, True, None, None, "better"),
        (0.9, 0.95, False, None, None, "worse"),
        (0.9, 0.95, None, None, None, "changed"),
        (0.95, 0.9, True, None, None, "worse"),
        (1.5, 1.6, True, (1.4, 1.6), (1.55, 1.7), "within the intervals"),
        (1.5, 1.6, True, (1.4, 1.6), (1.6, 1.7), "within the intervals"),
        (1.5, 1.7, True, (1.4, 1.6), (1.61, 1.8), "better"),
        (1.7, 1.5, True, (1.61, 1.8), (1.4, 1.6), "worse"),
        (None, 1.0, True, None, None, "only after"),
        (1.0, None, True, None, None, "only before"),
    ],
)
def test_what_a_change_means(
    before: float | None, after: float | None, higher: bool | None, old: object, new: object, effect: str
) -> None:
    assert figure_change("x", before, after, higher, old, new).effect == effect  # type: ignore[arg-type]


def test_a_bundle_is_equal_to_itself(built: Outcome) -> None:
    diff = diff_bundles(built.output, built.output)
    assert diff.same_plan
    assert (*diff.layers, *diff.inputs, *diff.settings, *diff.versions) == ()
    effects = {figure.effect for variant in diff.variants for figure in variant.figures}
    assert effects == {"equal"}
    names = {figure.name for figure in diff.variants[0].figures}
    assert {"agreement", "speedup at 1x8", "p50 at 2x16, ms", "ONNX file, MiB"} <= names


def test_layers_that_differ_are_counted(content: BundleContent) -> None:
    plan = content.plan
    assert plan is not None
    first = plan.model_copy(update={"layers": (LayerPlan(heads=(0, 1), neurons=(1, 2, 3)), plan.layers[1])})
    second = plan.model_copy(update={"layers": (LayerPlan(heads=(1, 2, 3), neurons=(3, 9)), plan.layers[1])})
    found = compare_contents(replace(content, plan=first), replace(content, plan=second))
    assert found.same_plan is False
    [layer] = found.layers
    assert layer.model_dump() == {
        "layer": 0, "heads_before": 2, "heads_after": 3, "heads_shared": 1,
        "neurons_before": 3, "neurons_after": 2, "neurons_shared": 1,
    }  # fmt: skip
    shorter = plan.model_copy(update={"layers": plan.layers[:1]})
    [gone] = compare_contents(replace(content, plan=plan), replace(content, plan=shorter)).layers
    assert (gone.layer, gone.heads_before, gone.heads_after) == (1, len(plan.layers[1].heads), None)


def test_settings_versions_and_inputs_that_differ(content: BundleContent) -> None:
    manifest = content.manifest
    changed = with_manifest(
        content,
        recipe=manifest.recipe | {"seed": 7, "min_speedup": 1.5, "shapes": ["1x8"]},
        versions={**manifest.versions, "torch": "9.9", "new": "1"},
        held_out=manifest.held_out.model_copy(update={"sha256": "0" * 64}) if manifest.held_out else None,
    )
    found = compare_contents(content, changed)
    assert [(x.name, x.before, x.after) for x in found.settings] == [
        ("seed", "0", "7"), ("shapes", '["1x8", "2x16"]', '["1x8"]'), ("min_speedup", None, "1.5"),
    ]  # fmt: skip
    assert [(x.name, x.after) for x in found.versions] == [("torch", "9.9"), ("new", "1")]
    assert [(x.name, x.after) for x in found.inputs] == [("held-out texts", "40, 000000000000")]
    assert found.notes == ("Fidelity and metrics were measured on different texts.",)


def test_latency_counts_only_beyond_the_intervals(content: BundleContent) -> None:
    def timed(speedup: float, low: float, high: float) -> BundleContent:
        [(variant, report)] = content.latency.items()
        shape = report.shapes[0].model_copy(update={"speedup": speedup, "speedup_low": low, "speedup_high": high})
        return replace(content, latency={variant: report.model_copy(update={"shapes": (shape,)})})

    def effect(before: BundleContent, after: BundleContent) -> str:
        figures = compare_contents(before, after).variants[0].figures
        return next(x.effect for x in figures if x.name == "speedup at 1x8")

    slow, fast, unclear = timed(1.2, 1.1, 1.3), timed(1.5, 1.4, 1.6), timed(1.35, 1.2, 1.45)
    assert effect(slow, fast) == "better"
    assert effect(fast, slow) == "worse"
    assert effect(slow, unclear) == effect(unclear, fast) == "within the intervals"


def test_a_noisy_machine_is_noted(content: BundleContent) -> None:
    def timed(low: float, high: float) -> BundleContent:
        [(variant, report)] = content.latency.items()
        shape = report.shapes[0].model_copy(update={"noise": NoiseCheck(ratio=low, low=low, high=high)})
        return replace(content, latency={variant: report.model_copy(update={"shapes": (shape,)})})

    assert compare_contents(timed(0.99, 1.01), timed(0.99, 1.01)).notes == ()
    [note] = compare_contents(timed(0.99, 1.01), replace(timed(1.1, 1.2), path=Path("second"))).notes
    assert note.startswith("The machine was noisy when second was timed")


def test_other_models_and_tasks_are_noted(built: Outcome, embedding: Outcome) -> None:
    found = diff_bundles(built.output, embedding.output)
    assert any(note.startswith("They were made from different models") for note in found.notes)
    assert any("Their tasks differ: " in note for note in found.notes)
    figures = {figure.name: figure.effect for figure in found.variants[0].figures}
    assert figures["agreement"] == "only before"
    assert figures["mean cosine"] == "only after"
    [gate] = found.gates
    assert (gate.name, gate.before) == ("min_speedup", None)
    assert gate.after is not None
    assert not gate.after.passed
    assert found.verdict.after is not None
    assert found.verdict.after.startswith("failed: 1 of 1 gates did not hold")
    bundles = ((x.output, warning) for x in (built, embedding) for warning in x.manifest.warnings)
    assert found.warnings == tuple(f"{output}: {warning.message}" for output, warning in bundles)
    assert found.warnings


def test_what_prune_and_validate_write_is_compared_as_far_as_it_goes(
    built: Outcome, classifier: Path, texts_file: Path, make_recipe: MakeRecipe, cli: Cli, tmp_path: Path
) -> None:
    pruned = prune(make_recipe(classifier, tmp_path / "pruned", texts_file))
    found = diff_bundles(built.output, pruned.output)
    assert found.same_plan
    assert "prune-and-build and prune" in found.notes[0]
    assert {x.effect for variant in found.variants for x in variant.figures} == {"only before"}
    again = tmp_path / "again"
    assert cli("validate", built.output, "-o", again, "--threads", 2) == 0
    found = diff_bundles(built.output, again)
    effects = {x.name: x.effect for x in found.variants[0].figures}
    assert effects["agreement"] == "equal"
    assert effects["ONNX file, MiB"] == "only before"


def test_changed_and_old_bundles_are_refused(built: Outcome, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(built.output, tmp_path / "bundle"))
    (bundle / "fidelity.json").write_text("{}")
    with pytest.raises(VerificationError, match="! changed fidelity.json"):
        diff_bundles(built.output, bundle)
    with pytest.raises(BundleError, match="is not a finished bundle"):
        diff_bundles(tmp_path, bundle)


def test_a_report_of_another_version_is_refused(built: Outcome, tmp_path: Path) -> None:
    from kprune_export.bundle.manifest import record_files

    bundle = Path(shutil.copytree(built.output, tmp_path / "bundle"))
    (bundle / "parity.json").write_text('{"format": "kprune-parity", "version": 1}')
    [record] = record_files(bundle, ["parity.json"], reproducible=True)
    manifest = Manifest.of_bundle(bundle)
    files = tuple(record if file.path == record.path else file for file in manifest.files)
    (bundle / "manifest.json").write_text(manifest.model_copy(update={"files": files}).to_json())
    with pytest.raises(BundleError, match="parity.json is not a valid file of reports"):
        diff_bundles(bundle, built.output)


def test_markdown_stays_text(content: BundleContent) -> None:
    evil = "<img src=x> | `a` *b* [c](http://d) @someone\n# title"
    changed = with_manifest(content, recipe=content.manifest.recipe | {"calibration": evil})
    text = markdown(compare_contents(content, changed))
    html = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    assert "<img" not in html
    assert "<em>" not in html
    assert "<a " not in html
    assert "<code>" not in html
    assert "@someone" not in text  # nobody is notified
    assert html.count("<h2>") == 1
    assert "&lt;img src=x&gt; | `a` *b* [c](http://d) @someone # title</td>" in html


def test_a_markdown_table() -> None:
    section = Section("T", ("", "a"), (("x", "1|2"),))
    assert markdown_table(section) == "### T\n\n|  | a |\n|---|---|\n| x | 1\\|2 |"


def test_the_command_prints_a_table_json_and_markdown(
    cli: Cli, built: Outcome, embedding: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("diff", built.output, embedding.output) == 0
    out = capsys.readouterr().out
    assert "Note: They were made from different models" in out
    assert "onnxruntime-fp32" in out
    assert cli("diff", built.output, embedding.output, "--json") == 0
    assert json.loads(capsys.readouterr().out)["flops_reduction"]["effect"] == "changed"
    assert cli("diff", built.output, embedding.output, "--markdown") == 0
    assert "### Verdict and gates" in capsys.readouterr().out
    assert cli("diff", built.output, embedding.output, "--markdown", "--json") == 2
    assert "exclude each other" in capsys.readouterr().err
    assert cli("diff", built.output, tmp_path) == 2
