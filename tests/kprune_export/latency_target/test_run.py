"""Runs with a latency target, from the dense model to the verdict."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from exporters.timing.latency_table.table import LatencyTable
from kprune_export.bundle.inputs import repeatable_settings
from kprune_export.bundle.manifest import Manifest
from kprune_export.bundle.verify import verify_bundle
from kprune_export.gates.evaluate import evaluate_gates
from kprune_export.latency_target.search import TimeSearch
from kprune_export.latency_target.target_record import SensitivityRecord, TargetRecord
from kprune_export.pipeline.run import Outcome, SilentReporter, prune_and_build
from kprune_export.recipe.recipe import Recipe
from pruning.plan import PruningPlan

SETTINGS: dict[str, Any] = {"shapes": "4x32", "target_speedup": 1.3, "align": 128, "timing_seconds": 0.3}
NAMES = {"latency_table": "latency_table.json", "sensitivity": "sensitivity.json"}


@pytest.fixture(scope="module")
def wide(make_checkpoint: Callable[..., Path]) -> Path:
    """A model that spends most of its time in its FFNs."""
    return make_checkpoint(hidden_size=64, intermediate_size=768, num_hidden_layers=2)


@pytest.fixture(scope="module")
def targeted(wide: Path, texts_file: Path, make_recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    output = tmp_path_factory.mktemp("targeted") / "bundle"
    return prune_and_build(make_recipe(wide, output, texts_file, **SETTINGS))


def test_what_was_found_is_what_was_pruned(targeted: Outcome) -> None:
    folder = targeted.output
    record, plan = TargetRecord.read(folder / "target.json"), PruningPlan.read(folder / "plan.json")
    assert tuple((len(x.heads), len(x.neurons)) for x in plan.layers) == record.taken.widths
    assert plan.requested_reduction is None
    assert 0 < plan.flops_reduction < 1  # how much is the machine's doing
    assert record.table_sha256 == LatencyTable.read(folder / "latency_table.json").sha256
    assert len(SensitivityRecord.read(folder / "sensitivity.json").curves) == 4
    assert all(neurons % 128 == 0 for _, neurons in record.taken.widths)
    assert record.rounds[0].measured_share is not None
    assert record.taken.finished_share is not None
    assert verify_bundle(folder)[1].lines() == []


def test_the_target_is_a_gate(targeted: Outcome) -> None:
    assert targeted.target is not None
    assert targeted.target.measured_speedup is not None
    (gate,) = targeted.manifest.gates
    assert (gate.name, gate.limit) == ("target_speedup", pytest.approx(1.3 * 0.97))
    assert gate.value == targeted.target.measured_speedup
    assert targeted.manifest.verdict in ("passed", "failed", "inconclusive")  # the machine's doing


@pytest.mark.parametrize(("speedup", "passed"), [(1.27, True), (1.25, False)])
def test_three_percent_off_is_accepted(targeted: Outcome, speedup: float, passed: bool) -> None:
    (report,) = targeted.reports
    assert report.latency is not None
    (shape,) = (x for x in report.latency.shapes if x.shape == "4x32")
    latency = report.latency.model_copy(
        update={"shapes": (shape.model_copy(update={"speedup": speedup, "noise": None, "disturbance": None}),)}
    )
    recipe = Recipe.build(None, targeted.manifest.recipe | {"output": targeted.output})
    record = TargetRecord.read(targeted.output / "target.json")
    (gate,) = evaluate_gates(recipe, [report.__class__(**{**vars(report), "latency": latency})], record)
    assert gate.passed is passed


def test_the_report_tells_of_it(targeted: Outcome) -> None:
    page = (targeted.output / "report.html").read_text()
    assert "<h2>Latency target</h2>" in page
    assert "1.3 times as fast at 4x32" in page
    assert ">finished<" in page
    assert ">validation<" in page


class Counting(SilentReporter):
    def __init__(self) -> None:
        self.ran: list[str] = []

    def stage(self, number: int, total: int, title: str) -> Any:
        self.ran.append(title)
        return super().stage(number, total, title)


def test_a_finished_run_is_not_run_again(targeted: Outcome, wide: Path, texts_file: Path, make_recipe: Any) -> None:
    reporter = Counting()
    again = prune_and_build(make_recipe(wide, targeted.output, texts_file, **SETTINGS), reporter)
    assert reporter.ran == []
    assert again.manifest == targeted.manifest


@pytest.fixture(scope="module")
def carried(
    targeted: Outcome, wide: Path, texts_file: Path, make_recipe: Any, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    given = {key: targeted.output / name for key, name in NAMES.items()}
    output = tmp_path_factory.mktemp("carried") / "bundle"
    return prune_and_build(make_recipe(wide, output, texts_file, **SETTINGS, **given, table_carried=True))


def test_tables_and_curves_are_used_again(targeted: Outcome, carried: Outcome) -> None:
    for name in NAMES.values():
        assert (carried.output / name).read_bytes() == (targeted.output / name).read_bytes()
    record = TargetRecord.read(carried.output / "target.json")
    assert len(record.rounds) == 1
    assert record.taken.measured_share is None
    assert 0 < record.taken.predicted_share <= 1 / 1.3  # how much less is the table's doing, and so the machine's
    curves = SensitivityRecord.read(carried.output / "sensitivity.json").curves
    search = TimeSearch(record.target, LatencyTable.read(carried.output / "latency_table.json"), curves, 128)
    allowed = product(product(range(5), range(0, 769, 128)), repeat=2)
    faster = [x for x in allowed if search.predicted_share(x) <= 0.99 / 1.3]  # costs are rounded up in the search
    assert record.taken.loss <= min(search.loss(x) for x in faster) + 1e-9
    assert carried.manifest.gates == ()  # this is not the deployment machine
    assert "that another machine measured, and were not timed here" in (carried.output / "report.html").read_text()


def test_two_processes_measure_and_prune_what_one_does(carried: Outcome, tmp_path: Path) -> None:
    settings = {**repeatable_settings(carried.output), "output": str(tmp_path / "two")}
    del settings["sensitivity"]
    (tmp_path / "recipe.json").write_text(json.dumps(settings))
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "kprune_export"]
    command = [sys.executable, "-m", *torchrun, "prune-and-build", "--recipe", str(tmp_path / "recipe.json")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    plans = [PruningPlan.read(folder / "plan.json") for folder in (carried.output, tmp_path / "two")]
    assert plans[0] == plans[1]


def test_validation_evaluates_the_target(targeted: Outcome, cli: Callable[..., int], tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(targeted.output, bundle)
    code = cli("validate", bundle, "-o", tmp_path / "validated", "--timing-seconds", 0.2)
    (gate,) = Manifest.of_bundle(tmp_path / "validated").gates
    assert gate.name == "target_speedup"
    assert code in (0, 3, 6)


def test_curves_of_other_texts_are_refused(
    targeted: Outcome,
    wide: Path,
    texts_file: Path,
    cli: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--target-speedup", 1.3, "--shapes", "4x32", "--threads", 2, "--calibration", texts_file, "--samples", 60]
    given = ["--latency-table", targeted.output / "latency_table.json"]
    given += ["--sensitivity", targeted.output / "sensitivity.json", "--held-out", 20]
    assert cli("prune-and-build", wide, "-o", tmp_path / "out", *flags, *given) == 2
    assert "are not of this run: their texts sha256 is" in " ".join(capsys.readouterr().err.split())


def test_profile_target_writes_a_table_and_a_picture(
    wide: Path, cli: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, plot = tmp_path / "table.json", tmp_path / "table.svg"
    arguments = ["profile-target", wide, "-o", table, "--shapes", "1x8", "--threads", 2, "--align", 256, "--plot", plot]
    assert cli(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(table.read_text())
    found = LatencyTable.read(table)
    assert (found.runtime, found.precision, found.shapes[0].shape) == ("onnxruntime", "fp32", "1x8")
    assert found.shapes[0].attention.widths == (0, 1, 2, 3, 4)
    assert found.shapes[0].ffn.widths == (0, 256, 512, 768)
    assert "proportional to FLOPs" in plot.read_text()
    assert cli(*arguments) == 2  # it is there already
    assert "is there already" in capsys.readouterr().err
    assert cli("profile-target", wide, "-o", tmp_path / "t.json", "--shapes", "1x8", "--runtime", "tensorrt") in (2, 5)
    assert cli("profile-target", wide, "-o", tmp_path / "t.json", "--runtime", "torch", "--precision", "fp16") == 2
    assert not (tmp_path / "t.json").exists()
