"""Every stage that can be long, killed half-way and run again: what was finished is not measured again."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tensorrt_harness
from project_root import ROOT

from kprune_export.bundle.manifest import Manifest
from kprune_export.bundle.verify import verify_bundle
from kprune_export.latency_target.target_record import TargetRecord

TESTS = ROOT / "tests"
Arguments = list[object]


class Runs:
    """Runs of the command line that are killed at given parts."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process, self._folder, self._count = process, folder, 0

    def log(self) -> Path:
        """Return a new file that runs note their parts in."""
        self._count += 1
        return self._folder / f"{self._count}.log"

    def run(self, arguments: Arguments, log: Path, kill: tuple[str, int] | None = None) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"argv": list(map(str, arguments)), "log": str(log), "kill": kill}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def killed_at_each(self, stages: dict[str, int], arguments: Arguments, log: Path) -> None:
        """Run again and again, and kill each time within another stage, after it has kept so many parts."""
        for stage, kept in stages.items():
            ending = self.run(arguments, log, (stage, kept))
            assert ending == -signal.SIGKILL, (stage, said(log))


def said(log: Path) -> str:
    return log.with_suffix(".out").read_text()


def parts_in(log: Path, stage: str = "") -> list[str]:
    return [line for line in log.read_text().splitlines() if line.startswith(stage)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    environment = None if tensorrt_harness.missing() else tensorrt_harness.environment()
    process = subprocess.Popen(
        [sys.executable, TESTS / "killed_runs.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=TESTS.parent,
    )
    with process:
        yield Runs(process, tmp_path_factory.mktemp("logs"))
        assert process.stdin is not None
        process.stdin.close()


def flags(model: Path, output: Path, texts: Path, *further: object) -> Arguments:
    shared = ["--calibration", texts, "--samples", 150, "--held-out", 40, "--threads", 2, "--timing-seconds", 0.1]
    return [model, "-o", output, *shared, *further]


def test_a_run_to_a_flops_budget(runs: Runs, classifier: Path, texts_file: Path, tmp_path: Path) -> None:
    further = ["--sequence-length", 16, "--precision", "fp32,int8", "--shapes", "1x8,2x16"]
    straight, killed = (
        ["prune-and-build", *flags(classifier, tmp_path / name, texts_file, *further)]
        for name in ("straight", "killed")
    )
    whole, log = runs.log(), runs.log()
    assert runs.run(straight, whole) == 0, said(whole)
    expected = Counter(parts_in(whole))
    assert set(expected.values()) == {1}
    by_stage = Counter(part.partition("/")[0] for part in expected)
    assert set(by_stage) == {"prune", "export", "dense-export", "dense-parity", "parity", "fidelity", "latency"}
    runs.killed_at_each({f"{stage}/": count // 2 for stage, count in by_stage.items()}, killed, log)
    assert runs.run(killed, log) == 0, said(log)
    assert Counter(parts_in(log)) == expected  # each part once, in eight runs
    found, right = Manifest.of_bundle(tmp_path / "killed"), Manifest.of_bundle(tmp_path / "straight")
    assert found.reproducible_hashes() == right.reproducible_hashes()
    assert verify_bundle(tmp_path / "killed")[1].lines() == []
    assert not (tmp_path / "killed" / ".kprune-export").exists()


def test_a_run_to_a_latency(runs: Runs, make_checkpoint: Callable[..., Path], texts_file: Path, tmp_path: Path) -> None:
    """Which widths are found is the machine's doing: what has been timed is not timed again, whatever it was."""
    wide = make_checkpoint(hidden_size=64, intermediate_size=768, num_hidden_layers=2)
    further = ["--shapes", "4x32", "--target-speedup", 1.3, "--align", 256]
    arguments = ["prune-and-build", *flags(wide, tmp_path / "bundle", texts_file, *further)]
    log = runs.log()
    runs.killed_at_each({"latency-table/": 5, "sensitivity/": 6}, arguments, log)
    assert len(parts_in(log, "latency-table/")) > 10  # it was finished by the second run
    runs.killed_at_each({"prune/parts/trial": 1, "prune/parts/finished": 1}, arguments, log)
    assert runs.run(arguments, log) in (0, 3, 6), said(log)
    measured = [part for stage in ("latency-table/", "sensitivity/", "prune/parts/") for part in parts_in(log, stage)]
    assert set(Counter(measured).values()) == {1}
    record = TargetRecord.read(tmp_path / "bundle" / "target.json")
    timed = [x for x in record.rounds if x.measured_share is not None]
    finished = [x for x in record.rounds if x.finished_share is not None]
    assert len(parts_in(log, "prune/parts/trial")) == len(timed)
    assert len(parts_in(log, "prune/parts/finished")) == len(finished)


def test_a_latency_table_of_its_own(runs: Runs, make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    model = make_checkpoint(intermediate_size=96)
    arguments: Arguments = ["profile-target", model, "-o", tmp_path / "table.json", "--shapes", "1x8", "--threads", 2]
    arguments += ["--align", 48]
    log = runs.log()
    assert runs.run(arguments, log, ("table.json.unfinished/", 6)) == -signal.SIGKILL
    assert runs.run(arguments, log) == 0, said(log)
    found = Counter(parts_in(log))
    assert set(found.values()) == {1}
    assert len(found) > 8
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


def test_engines(runs: Runs, classifier: Path, tmp_path: Path) -> None:
    if reason := tensorrt_harness.missing():
        pytest.skip(reason)
    profile = "min=1x2,opt=4x16,max=8x64"
    arguments: Arguments = ["export", classifier, "-o", tmp_path / "bundle", "--runtime", "tensorrt"]
    arguments += ["--precision", "fp32,fp16", "--profile", profile, "--threads", 2]
    log = runs.log()
    runs.killed_at_each({"export/": 1, "engines/": 1, "parity/": 3}, arguments, log)
    assert runs.run(arguments, log) == 0, said(log)
    found = Counter(parts_in(log))
    assert set(found.values()) == {1}
    assert len(parts_in(log, "engines/")) == 2
    assert verify_bundle(tmp_path / "bundle")[1].lines() == []
    assert len(list((tmp_path / "bundle" / "engines").iterdir())) == 8


def test_a_method_that_chooses_units_before_it_tunes(
    runs: Runs, classifier: Path, texts_file: Path, tmp_path: Path
) -> None:
    straight, killed = (
        [
            *("prune", classifier, "-o", tmp_path / name, "--calibration", texts_file, "--samples", 150),
            *("--method", "kwon2022", "--flops-reduction", 0.3, "--sequence-length", 16, "--device", "cpu"),
        ]
        for name in ("straight", "killed")
    )
    whole, log = runs.log(), runs.log()
    assert runs.run(straight, whole) == 0, said(whole)
    runs.killed_at_each({"prune/": len(parts_in(whole)) // 2}, killed, log)
    assert runs.run(killed, log) == 0, said(log)
    assert Counter(parts_in(log)) == Counter(parts_in(whole))
    hashes = [Manifest.of_bundle(tmp_path / name).reproducible_hashes() for name in ("straight", "killed")]
    assert hashes[0] == hashes[1]
