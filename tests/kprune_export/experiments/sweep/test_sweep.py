"""Sweeps of a tiny classifier: what is written, what is shared, what is kept when they are killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from command_line import run_cli

from exporters.timing.latency_table.table import LatencyTable
from kprune_export.bundle.manifest import Manifest
from kprune_export.bundle.verify import verify_bundle
from kprune_export.experiments.sweep.exclusive_timing import TimingLock
from kprune_export.experiments.sweep.launch import LocalTrials
from kprune_export.experiments.sweep.messages import Order
from kprune_export.experiments.sweep.sweep_record import SweepRecord

Cli = Callable[..., int]
DENSE, PRUNED = "onnxruntime-fp32-dense", "onnxruntime-fp32-1.1x"
DENSE_INT8 = "onnxruntime-int8-dense"
QUICK = ["--samples", 60, "--held-out", 20, "--threads", 2, "--shapes", "4x32", "--timing-seconds", 0.05]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, make_sentences: Callable[..., list[str]]) -> Path:
    path = tmp_path_factory.mktemp("texts") / "labelled.csv"
    path.write_text("text,label\n" + "\n".join(f"{text},{i % 2}" for i, text in enumerate(make_sentences(150))))
    return path


def arguments(model: Path, output: Path, texts: Path, speedups: str) -> list[object]:
    return ["sweep", model, "-o", output, "--calibration", texts, "--speedups", speedups, *QUICK]


@pytest.fixture(scope="module")
def swept(wide: Path, labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("sweep") / "family"
    assert run_cli(*arguments(wide, output, labelled, "1.1,2000"), "--parallel", 2) == 0
    return output


def test_what_is_written(swept: Path) -> None:
    assert sorted(path.name for path in swept.iterdir()) == ["shared", "sweep.json", "sweep.md", "sweep.svg", "trials"]
    record = SweepRecord.of_folder(swept)
    assert [trial.name for trial in record.trials] == [DENSE, PRUNED, "onnxruntime-fp32-2000x", DENSE_INT8]
    assert record.shapes == ("4x32",)
    dense, pruned, failed, int8 = record.trials
    assert dense.figures is not None
    assert int8.figures is not None  # int8 was not asked for, and can be recommended all the same
    assert int8.figures.size_bytes < dense.figures.size_bytes
    assert dense.figures.fidelity.value == 1.0
    assert dense.figures.flops_reduction == 0.0
    assert pruned.figures is not None
    assert 0 < pruned.figures.flops_reduction < 1
    assert pruned.figures.size_bytes < dense.figures.size_bytes
    assert pruned.figures.metric is not None
    assert pruned.figures.metric.name == "accuracy"
    assert failed.figures is None
    assert failed.error is not None
    assert failed.error.startswith("The target, 2000 times as fast at 4x32, is out of reach")
    assert not (swept / failed.bundle).exists()


def test_every_trial_is_a_whole_bundle_made_with_what_is_shared(swept: Path) -> None:
    for name, command in ((DENSE, "validate-dense"), (PRUNED, "prune-and-build")):
        manifest, difference = verify_bundle(swept / "trials" / name)
        assert not difference
        assert manifest.command == command
    tables = [swept / "shared/onnxruntime-fp32", swept / "trials" / PRUNED]
    assert len({LatencyTable.read(folder / "latency_table.json").sha256 for folder in tables}) == 1
    curves = [swept / "shared/sensitivity", swept / "trials" / PRUNED]
    assert len({(folder / "sensitivity.json").read_bytes() for folder in curves}) == 1


def test_the_figures_are_those_of_the_bundles(swept: Path) -> None:
    for trial, figures in SweepRecord.of_folder(swept).made:
        latency = json.loads((swept / trial.bundle / "latency.json").read_text())["variants"][trial.variant]
        assert figures.at("4x32").p50_ms == latency["shapes"][0]["pruned"]["p50_ms"]
        measured = json.loads((swept / trial.bundle / "fidelity.json").read_text())
        fidelity = measured["variants"][trial.variant]
        assert measured["dense"] == {}  # dense int8 is a trial of its own, not measured in each
        assert figures.fidelity.value == fidelity["measures"][0]["value"]


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_its_processes_end_with_it(
    cli: Cli, wide: Path, labelled: Path, swept: Path, tmp_path: Path
) -> None:
    output = tmp_path / "family"
    shutil.copytree(swept / "shared", output / "shared")
    command = [str(x) for x in arguments(wide, output, labelled, "1.1")]
    sweeping = subprocess.Popen([sys.executable, "-m", "kprune_export", *command], stderr=subprocess.DEVNULL)
    manifest, second = output / "trials" / DENSE / "manifest.json", output / "trials" / PRUNED
    until(lambda: manifest.is_file() and second.is_dir())
    workers = psutil.Process(sweeping.pid).children(recursive=True)
    assert workers
    sweeping.send_signal(signal.SIGKILL)
    sweeping.wait()
    until(lambda: not any(worker.is_running() for worker in workers))
    assert not (output / "sweep.json").exists()
    assert not (second / "manifest.json").exists()
    before = latency_of(output, DENSE)

    assert cli(*command) == 0
    assert latency_of(output, DENSE) == before
    straight, resumed = (Manifest.of_bundle(folder / "trials" / DENSE) for folder in (swept, output))
    assert resumed.reproducible_hashes() == straight.reproducible_hashes()
    assert [trial.name for trial, _ in SweepRecord.of_folder(output).made] == [DENSE, PRUNED, DENSE_INT8]
    verify_bundle(second)

    after = {name: latency_of(output, name) for name in (DENSE, PRUNED)}
    assert cli(*command) == 0  # nothing is done again
    assert {name: latency_of(output, name) for name in (DENSE, PRUNED)} == after


def until(done: Callable[[], bool], seconds: float = 240) -> None:
    start = time.monotonic()
    while not done():
        assert time.monotonic() - start < seconds
        time.sleep(0.02)


def latency_of(output: Path, name: str) -> tuple[bytes, int]:
    path = output / "trials" / name / "latency.json"
    return path.read_bytes(), path.stat().st_mtime_ns


def test_a_worker_that_dies_is_a_failed_trial(tmp_path: Path) -> None:
    def kill_worker() -> None:
        workers: list[psutil.Process] = []
        while not workers:
            children = psutil.Process().children()
            workers = [x for x in children if "kprune_export.experiments.sweep.worker" in x.cmdline()]
        workers[0].kill()

    order = Order(recipe={"model": "nowhere", "output": str(tmp_path / "out")}, dense=False, turns=str(tmp_path))
    with TimingLock.join(tmp_path) as turns, turns.stage(exclusive=True):  # so that it waits until it is killed
        threading.Timer(1.0, kill_worker).start()
        (end,) = LocalTrials(1).run([order], lambda _: None, pytest.fail)
    assert end.exit_code == 1
    assert end.error == f"its process ended with status -{signal.SIGKILL.value}: it said nothing"
    (end,) = LocalTrials(1).run([order], lambda _: None, pytest.fail)
    assert end.exit_code == 2
    assert end.error is not None
    assert "nowhere" in end.error


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--speedups", "1.5,fast"], "--speedups must be numbers above 1, for example 1.5,2,3, but holds 'fast'."),
        (["--speedups", "1"], "--speedups must be numbers above 1"),
        (["--speedups", "nan"], "--speedups must be numbers above 1"),
        (["--speedups", ","], "--speedups names nothing"),
        (["--precisions", "bf16"], "bf16"),
        (["--shapes", "1x900"], "1x900"),
        (["--min-metric", "0.5", "--label-column", "nothing"], "nothing"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    cli: Cli, classifier: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    extra: list[str], said: str,
) -> None:  # fmt: skip
    output = tmp_path / "family"
    assert cli(*arguments(classifier, output, labelled, "2"), *extra) == 2
    assert said in capsys.readouterr().err
    assert not output.exists()


def test_what_a_sweep_gives_its_trials_cannot_be_set(
    cli: Cli, classifier: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("flops_reduction: 0.5\n")
    assert cli(*arguments(classifier, tmp_path / "family", labelled, "2"), "--recipe", recipe) == 2
    assert "'flops_reduction' is not for a sweep" in capsys.readouterr().err
    (tmp_path / "notes.txt").touch()
    assert cli(*arguments(classifier, tmp_path, labelled, "2")) == 2
    assert "which are not part of a sweep" in capsys.readouterr().err


def test_not_under_torchrun(
    cli: Cli, classifier: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("os._exit", sys.exit)  # main leaves so where torchrun started it
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    assert cli(*arguments(classifier, tmp_path / "family", labelled, "2")) == 2
    assert "run it without torchrun" in capsys.readouterr().err
