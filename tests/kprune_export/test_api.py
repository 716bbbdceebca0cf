"""The Python interface: the same bundles as the command line's, progress, exceptions, and the examples that use it."""

import doctest
import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project_root import ROOT

import kprune_export
from kprune_export import (
    BundleError,
    Outcome,
    Progress,
    RecipeError,
    export,
    prune,
    prune_and_build,
    sweep,
    validate,
)

EXAMPLES = ROOT / "examples"
QUICK: dict[str, Any] = {
    "samples": 60,
    "held_out": 40,
    "threads": 2,
    "shapes": ("1x8",),
    "timing_seconds": 0.1,
    "dense_int8": False,
}


@pytest.fixture(scope="module")
def made(
    classifier: Path, texts_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Outcome, list[Progress]]:
    calls: list[Progress] = []
    output = tmp_path_factory.mktemp("api") / "bundle"
    outcome = prune_and_build(
        classifier, output, on_progress=calls.append, calibration=texts_file, flops_reduction=0.5, **QUICK
    )
    return outcome, calls


def test_progress_goes_from_0_to_1_stage_by_stage(made: tuple[Outcome, list[Progress]]) -> None:
    _, calls = made
    assert [x.stage for x in calls] == sorted(x.stage for x in calls)
    assert {x.stages for x in calls} == {calls[-1].stage}
    for stage in range(1, calls[-1].stage + 1):
        shares = [x.share for x in calls if x.stage == stage]
        assert (shares[0], shares[-1]) == (0, 1)
        assert all(0 <= share <= 1 for share in shares)
    assert not any(x.reused for x in calls)


def test_it_makes_the_bundle_of_the_command_line(
    made: tuple[Outcome, list[Progress]], cli: Callable[..., int], classifier: Path, texts_file: Path, tmp_path: Path
) -> None:
    options = ("--samples", 60, "--held-out", 40, "--threads", 2, "--shapes", "1x8", "--timing-seconds", 0.1)
    arguments = (classifier, "-o", tmp_path / "out", "--calibration", texts_file, "--flops-reduction", 0.5)
    assert cli("prune-and-build", *arguments, *options, "--no-dense-int8") == 0
    typed = kprune_export.Manifest.of_bundle(tmp_path / "out")
    called = made[0].manifest
    assert typed.reproducible_hashes() == called.reproducible_hashes()
    assert typed.recipe == called.recipe


def test_a_second_call_reuses_every_stage(
    made: tuple[Outcome, list[Progress]], classifier: Path, texts_file: Path
) -> None:
    calls: list[Progress] = []
    settings = {"calibration": texts_file, "flops_reduction": 0.5, **QUICK}
    again = prune_and_build(classifier, made[0].output, on_progress=calls.append, **settings)
    assert again.manifest == made[0].manifest
    assert {(x.reused, x.share) for x in calls} == {(True, 1.0)}


def test_prune_export_and_validate(
    made: tuple[Outcome, list[Progress]], classifier: Path, texts_file: Path, tmp_path: Path
) -> None:
    pruned = prune(classifier, tmp_path / "pruned", calibration=texts_file, flops_reduction=0.5, samples=60)
    assert made[0].plan is not None
    assert pruned.plan is not None
    assert pruned.plan.flops_reduction == pytest.approx(0.5, abs=0.02)
    exported = export(tmp_path / "pruned" / "checkpoint", tmp_path / "exported", threads=2)
    assert exported.reports[0].parity is not None
    assert exported.reports[0].parity.passed
    validated = validate(made[0].output, tmp_path / "validated", shapes=("1x4",), min_agreement=1.1)
    assert validated.manifest.verdict == "failed"  # a gate is a result, not an exception
    assert validated.reports[0].fidelity == made[0].reports[0].fidelity
    with pytest.raises(BundleError, match="is not a finished bundle"):
        validate(tmp_path, tmp_path / "none")


def test_a_sweep_returns_its_record(classifier: Path, texts_file: Path, tmp_path: Path) -> None:
    settings = {key: value for key, value in QUICK.items() if key != "dense_int8"}
    with pytest.raises(RecipeError, match="speedup"):
        sweep(classifier, tmp_path / "family", speedups=(0.5,), calibration=texts_file, **settings)
    assert not (tmp_path / "family").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flops_reductoin": 0.5}, r"There is no setting 'flops_reductoin' \(did you mean 'flops_reduction'\?\)"),
        ({"precision": ["fp33"]}, r"The setting 'precision' is not valid: .*fp32"),
        ({"samples": "many"}, "The setting 'samples' is not valid: .*'many' was given"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(kprune_export.ProductError, match=message):
        prune_and_build(tmp_path / "model", tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_all_names_are_there_and_importing_the_package_loads_no_torch() -> None:
    assert set(kprune_export.__all__) <= set(dir(kprune_export))
    assert all(getattr(kprune_export, name).__doc__ for name in kprune_export.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'prune_and_bild'"):
        kprune_export.prune_and_bild  # noqa: B018
    code = "import sys, kprune_export; from kprune_export import prune_and_build; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_the_example_of_the_docstring() -> None:
    assert doctest.testmod(kprune_export) == (0, 2)


def test_the_python_example(
    made: tuple[Outcome, list[Progress]],
    classifier: Path,
    texts_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(made[0].output, tmp_path / "bundle")  # finished but for what the example sets otherwise
    settings = ("samples=60", "held_out=40", "threads=2", "shapes=1x8", "timing_seconds=0.1", "flops_reduction=0.5")
    arguments = ["build.py", str(classifier), str(texts_file), str(tmp_path / "bundle"), *settings, "dense_int8=false"]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(EXAMPLES / "04-python" / "build.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert "times as fast as dense" in shown
    assert "Validated: " in shown
    monkeypatch.setattr(sys, "argv", [*arguments[:4], "samples=none"])
    with pytest.raises(SystemExit, match="RecipeError: The setting 'samples' is not valid"):
        runpy.run_path(str(EXAMPLES / "04-python" / "build.py"), run_name="__main__")


def test_the_notebook(
    made: tuple[Outcome, list[Progress]],
    classifier: Path,
    texts_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    notebook = json.loads((EXAMPLES / "05-notebook" / "prune.ipynb").read_text())
    first, *cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")
    shutil.copytree(made[0].output, tmp_path / "bundle")
    names: dict[str, Any] = {}
    exec(first, names)
    names |= {"model": classifier, "texts": texts_file, "output": tmp_path / "bundle"}
    names["settings"] = {"flops_reduction": 0.5, **QUICK}
    for cell in cells:
        exec(cell, names)
    assert "heads" in capsys.readouterr().out
