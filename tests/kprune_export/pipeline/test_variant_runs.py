"""The product with several variants: what is in the bundle, what is reported of each, and what is refused."""

import html
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch

from exporters.errors import MissingRuntimeError, ShapeError, VariantError
from exporters.onnx.write import GraphRecord
from exporters.parity.check import ParityReport
from kprune_export.bundle.inputs import repeatable_settings
from kprune_export.bundle.layout import GRAPHS, ONNX_FOLDER, PARITY
from kprune_export.bundle.variant_report import Reports
from kprune_export.bundle.verify import verify_bundle
from kprune_export.cli.results import print_summary
from kprune_export.errors import BundleError, RecipeError
from kprune_export.pipeline.run import Outcome, export, prune_and_build, validate
from kprune_export.pipeline.summary import summarise
from kprune_export.recipe.recipe import Recipe

MakeRecipe = Callable[..., Recipe]
NAMES = ["onnxruntime-fp32", "onnxruntime-int8", "tensorrt-fp32", "tensorrt-int8"]
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")


@pytest.fixture(scope="module")
def variants(
    tensorrt: None,
    classifier: Path,
    texts_file: Path,
    make_recipe: MakeRecipe,
    tmp_path_factory: pytest.TempPathFactory,
) -> Outcome:
    recipe = make_recipe(classifier, tmp_path_factory.mktemp("variants") / "out", texts_file)
    asked = {"runtime": "onnxruntime,tensorrt", "precision": "fp32,int8", "profile": "min=1x1,opt=2x16,max=4x64"}
    return prune_and_build(Recipe.build(None, recipe.model_dump() | asked))


def test_a_bundle_holds_every_variant(variants: Outcome) -> None:
    output = variants.output
    assert not verify_bundle(output)[1]
    assert [str(report.variant) for report in variants.reports] == NAMES == list(variants.manifest.variants)
    files = {x.path: x for x in variants.manifest.files}
    for report in variants.reports:
        file = f"{ONNX_FOLDER}/{report.graph.file.name}"
        assert files[file].sha256 == report.graph.file.sha256
        assert files[file].reproducible
        metadata = {x.key: x.value for x in onnx.load(output / file).metadata_props}
        assert metadata["kprune.variant"] == str(report.variant)
        assert variants.plan is not None
        assert metadata["kprune.plan_sha256"] == variants.plan.sha256
    assert not files["engines/model-tensorrt-fp32.plan"].reproducible
    assert Reports[GraphRecord].read(output / ONNX_FOLDER / GRAPHS).variants["tensorrt-int8"].matmuls
    paths = (str(output.parent).encode(), str(Path.cwd()).encode())
    assert not [x for x in output.rglob("*") if x.is_file() and any(path in x.read_bytes() for path in paths)]


def test_every_variant_is_validated(variants: Outcome) -> None:
    for report in variants.reports:
        assert report.parity is not None
        assert report.parity.passed
        assert report.fidelity is not None
        assert report.fidelity.headline.value > 0.5
        assert bool(report.fidelity.baseline_measures) is not str(report.variant).endswith("fp32") or (
            str(report.variant) == "tensorrt-fp32"
        )
        assert (report.engine is not None) is str(report.variant).startswith("tensorrt")
    exact, quantized = (Reports[ParityReport].read(variants.output / PARITY).variants[x] for x in NAMES[:2])
    assert {case.padding for case in quantized.cases} - {case.padding for case in exact.cases} == {"calibration texts"}


@without_gpu
def test_what_cannot_run_here_says_so(variants: Outcome) -> None:
    timed = {str(report.variant): report.latency is not None for report in variants.reports}
    assert timed == {name: name.startswith("onnxruntime") for name in NAMES}
    engine = variants.reports[2]
    assert engine.fidelity is not None
    assert engine.fidelity.runtime == "the graph of tensorrt-fp32 in onnxruntime (CPU)"
    report = (variants.output / "report.html").read_text()
    assert "not timed" in report
    assert "Only variants whose runtime is on this machine are timed." in report
    assert engine.engine is not None
    assert engine.engine.gpu is None


def test_int8_is_compared_with_its_own_baseline_too(variants: Outcome) -> None:
    int8 = variants.reports[1]
    assert int8.latency is not None
    assert [x.shape for x in int8.latency.baseline_shapes] == [x.shape for x in int8.latency.shapes]
    assert int8.latency.subject.pruned_bytes == int8.graph.file.size_bytes < int8.latency.subject.dense_bytes


def test_the_terminal_names_every_variant_in_80_columns(
    variants: Outcome, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    summary = summarise(variants)
    print_summary(summary, as_json=False)
    shown = capsys.readouterr().out
    assert all(f"│ {name} " in shown for name in NAMES)
    without = summary.model_copy(update={"variants": summary.variants[:2]})
    print_summary(without, as_json=False)
    assert "engine" not in capsys.readouterr().out


def test_how_trtexec_measures_the_engines(variants: Outcome) -> None:
    commands = [x.trtexec for x in summarise(variants).variants]
    assert commands[:2] == [(), ()]
    for name, found in zip(NAMES[2:], commands[2:], strict=True):
        assert [shlex.split(command)[1] for command in found] == [f"--loadEngine=engines/model-{name}.plan"] * 2
        assert "--shapes=input_ids:1x8,attention_mask:1x8,token_type_ids:1x8" in found[0]
    assert html.escape(commands[2][0], quote=False) in html.unescape((variants.output / "report.html").read_text())


def test_a_shape_outside_every_profile_is_found_before_anything_is_done(
    tensorrt: None, classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(classifier, tmp_path / "out", texts_file)
    asked = {"runtime": "tensorrt", "profile": "min=1x1,opt=1x8,max=1x16"}
    with pytest.raises(ShapeError, match=r"The shape 2x16 is outside every profile of the engine \(min=1x1,opt=1x8"):
        prune_and_build(Recipe.build(None, recipe.model_dump() | asked))
    assert not recipe.output.exists()


def test_gates_evaluate_the_worst_variant(variants: Outcome, tmp_path: Path) -> None:
    settings = {**repeatable_settings(variants.output), "output": tmp_path / "out", "max_size_mib": 1e-6}
    gates = validate(variants.output, Recipe.build(None, settings)).manifest.gates
    largest = max((report.graph.file for report in variants.reports), key=lambda file: file.size_bytes)
    assert [(gate.name, gate.passed, gate.detail) for gate in gates] == [("max_size_mib", False, largest.name)]


def test_a_variant_can_be_validated_alone(variants: Outcome, tmp_path: Path) -> None:
    settings = {
        **repeatable_settings(variants.output),
        "output": tmp_path / "out",
        "runtime": "onnxruntime",
        "precision": "int8",
    }
    found = validate(variants.output, Recipe.build(None, settings))
    assert [str(report.variant) for report in found.reports] == ["onnxruntime-int8"]
    fidelity = variants.reports[1].fidelity
    assert fidelity is not None
    again = found.reports[0].fidelity
    assert again is not None
    assert again.headline.value == pytest.approx(fidelity.headline.value, abs=0.05)  # other batches, other ranges
    with pytest.raises(BundleError, match="has no onnxruntime-fp16: its variants are onnxruntime-fp32"):
        validate(variants.output, Recipe.build(None, settings | {"precision": "fp16"}))


def test_exporting_alone_quantizes_by_the_embedded_texts(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pruning.calibration.coverage.MOST_UNKNOWN", 1.0)  # a tiny tokenizer knows little of them
    asked = {"model": str(classifier), "output": tmp_path / "out", "precision": "int8", "samples": 40, "threads": 2}
    (report,) = export(Recipe.build(None, asked)).reports
    assert report.parity is not None
    assert report.parity.passed
    assert any(x.quantized for x in report.graph.matmuls)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["calibration"]["texts"] == 40


@without_gpu
def test_a_speedup_cannot_be_evaluated_where_nothing_is_timed(
    tensorrt: None, classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(classifier, tmp_path / "out", texts_file)
    asked = Recipe.build(None, recipe.model_dump() | {"runtime": "tensorrt", "min_speedup": 1.5})
    with pytest.raises(
        RecipeError, match="--min-speedup cannot be evaluated for tensorrt-fp32: torch finds no GPU here"
    ):
        prune_and_build(asked)
    assert not recipe.output.exists()


def test_a_precision_that_the_cpu_does_not_have(classifier: Path, tmp_path: Path) -> None:
    recipe = Recipe.build(None, {"model": str(classifier), "output": tmp_path / "out", "precision": "bf16"})
    with pytest.raises(VariantError, match="CPU provider has no bf16 kernels: ask for fp32, fp16 or int8"):
        export(recipe)
    assert not (tmp_path / "out").exists()


def test_tensorrt_that_is_not_installed(classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)  # what an import finds where it is missing
    recipe = Recipe.build(None, {"model": str(classifier), "output": tmp_path / "out", "runtime": "tensorrt"})
    with pytest.raises(MissingRuntimeError, match=r"pip install .*kprune-export\[tensorrt\]"):
        export(recipe)
    assert not (tmp_path / "out").exists()
