"""The dense model in int8, measured beside the pruned one: what is reported of it, and where it cannot be measured."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from exporters.parity.check import Tolerance
from exporters.timing.latency import LatencyReport
from kprune_export.bundle.inputs import repeatable_settings
from kprune_export.bundle.variant_report import Reports
from kprune_export.cli.results import print_summary
from kprune_export.evaluation.fidelity import FidelityReport
from kprune_export.pipeline.run import prune_and_build, validate, validate_dense
from kprune_export.pipeline.summary import summarise
from kprune_export.recipe.recipe import Recipe

MakeRecipe = Callable[..., Recipe]
INT8 = "onnxruntime-int8"


def labelled(path: Path, texts: list[str]) -> str:
    path.write_text("text,label\n" + "".join(f"{text},{number % 2}\n" for number, text in enumerate(texts)))
    return str(path)


def test_it_is_measured_as_a_variant_is(
    classifier: Path,
    texts_file: Path,
    make_recipe: MakeRecipe,
    make_sentences: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its fidelity and metric are those of the dense model exported in int8 by itself."""
    dev = labelled(tmp_path / "dev.csv", make_sentences(40, seed=3))
    recipe = make_recipe(classifier, tmp_path / "out", texts_file, evaluation=dev)
    built = prune_and_build(recipe)
    fidelity = Reports[FidelityReport].read(built.output / "fidelity.json")
    assert (list(fidelity.variants), list(fidelity.dense)) == (["onnxruntime-fp32"], [INT8])
    alone = validate_dense(make_recipe(classifier, tmp_path / "dense", texts_file, evaluation=dev, precision="int8"))
    assert fidelity.dense[INT8].model_copy(update={"baseline_measures": ()}) == alone.reports[0].fidelity.model_copy(  # type: ignore[union-attr]
        update={"baseline_measures": ()}
    )
    latency = Reports[LatencyReport].read(built.output / "latency.json")
    assert [x.shape for x in latency.dense[INT8].shapes] == ["1x8", "2x16"]
    assert latency.dense[INT8].subject.pruned_bytes == alone.reports[0].graph.file.size_bytes

    summary = summarise(built)
    fp32, int8 = summary.dense
    assert (fp32.variant, int8.variant) == ("onnxruntime-fp32", INT8)
    assert fp32.onnx_bytes == built.reports[0].latency.subject.dense_bytes  # type: ignore[union-attr]
    assert fp32.metrics[0].value == built.reports[0].fidelity.metric.dense  # type: ignore[union-attr]
    assert int8.metrics[0].value == fidelity.dense[INT8].metric.pruned  # type: ignore[union-attr]
    assert int8.fidelity == fidelity.dense[INT8].measures
    assert json.loads(summary.model_dump_json())["dense"][1]["latency"][0]["shape"] == "1x8"

    print_summary(summary, as_json=False)
    out = capsys.readouterr().out
    assert "dense int8" in out
    accuracy = next(line for line in out.splitlines() if "accuracy" in line)
    assert [f"{x:.4f}" in accuracy for x in (fp32.metrics[0].value, int8.metrics[0].value)] == [True, True]
    report = (built.output / "report.html").read_text()
    assert f"<td>dense {INT8}</td>" in report
    assert f"{int8.latency[0].p50_ms:.2f}<br>{int8.latency[0].speedup:.2f}×" in report
    assert f"| dense {INT8.replace('-', '-')} | {int8.fidelity[0].value:.4f} |" in (
        built.output / "checkpoint" / "README.md"
    ).read_text().replace("\\", "")
    assert "onnx/model-int8.onnx" not in {file.path for file in built.manifest.files}  # it is measured, not shipped


def test_where_int8_is_exported_too_it_is_measured_once(
    classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = prune_and_build(make_recipe(classifier, tmp_path / "out", texts_file, precision="fp32,int8", shapes="1x8"))
    summary = summarise(built)
    assert [x.variant for x in summary.dense] == ["onnxruntime-fp32", INT8]
    assert [x.variant for x in summary.variants] == ["onnxruntime-fp32", INT8]
    print_summary(summary, as_json=False)
    out = capsys.readouterr().out
    assert "│ dense onnxruntime-int8 │" in out
    assert "│ dense onnxruntime-fp32 │" in out


def test_it_can_be_switched_off(classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(classifier, tmp_path / "out", texts_file, dense_int8=False, shapes="1x8")
    built = prune_and_build(recipe)
    assert built.dense_reports == ()
    assert [x.variant for x in summarise(built).dense] == ["onnxruntime-fp32"]
    assert built.manifest.recipe["dense_int8"] is False


def test_a_model_that_does_not_tolerate_int8_is_built_all_the_same(
    classifier: Path,
    texts_file: Path,
    make_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for module in ("int8", "smoothing"):
        monkeypatch.setattr(f"exporters.onnx.passes.{module}.LARGEST_ERROR", -1.0)
    built = prune_and_build(make_recipe(classifier, tmp_path / "out", texts_file, shapes="1x8"))
    (report,) = built.dense_reports
    assert (report.variant, report.fidelity, report.latency) == (INT8, None, None)
    assert report.problem is not None
    assert "no multiplication tolerates it" in report.problem
    print_summary(summarise(built), as_json=False)
    assert "Dense onnxruntime-int8 was not measured: int8 was asked for" in " ".join(capsys.readouterr().out.split())
    assert "Dense onnxruntime-int8 was not measured: int8 was asked for" in (built.output / "report.html").read_text()


def test_one_that_fails_parity_is_not_measured_and_stops_nothing(
    classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kprune_export.model_export.int8_tolerance", lambda _: Tolerance(absolute=0.0, relative=1e-9))
    built = prune_and_build(make_recipe(classifier, tmp_path / "out", texts_file, shapes="1x8"))
    (report,) = built.dense_reports
    assert report.problem is not None
    assert "differs from torch" in report.problem
    assert built.reports[0].parity is not None
    assert built.reports[0].parity.passed


def test_validating_where_the_calibration_texts_are_not(
    classifier: Path,
    texts_file: Path,
    make_recipe: MakeRecipe,
    make_sentences: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    calibration = tmp_path / "texts.txt"
    calibration.write_text(texts_file.read_text())
    dev = labelled(tmp_path / "dev.csv", make_sentences(40, seed=3))
    settings = {"evaluation": dev, "shapes": "1x8", "dense_int8": False}
    built = prune_and_build(make_recipe(classifier, tmp_path / "out", calibration, **settings))
    calibration.unlink()
    again = {**repeatable_settings(built.output), "output": tmp_path / "again", "threads": 2, "dense_int8": True}
    found = validate(built.output, Recipe.build(None, again))
    assert found.reports[0].fidelity == built.reports[0].fidelity
    (report,) = found.dense_reports
    assert report.problem == f"The text file {calibration} does not exist."
