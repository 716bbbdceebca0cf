"""What lies in the working directory is never imported: neither here nor by any process that is started."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from project_root import ROOT

from exporters.processes.import_path import python_environment, without_working_directory
from kprune_export.experiments.sweep.launch import LocalTrials
from kprune_export.experiments.sweep.messages import Order
from kprune_export.recipe.recipe import Recipe

QUICK = ["--samples", "60", "--held-out", "20", "--sequence-length", "16", "--device", "cpu", "--threads", "1"]
TIMING = ["--shapes", "1x8", "--timing-seconds", "0.02"]
MODULES = ("numpy", "onnxruntime", "pydantic", "torch", "transformers", "typer", "exporters", "pruning")
STANDARD = ("json", "pathlib", "signal", "tempfile")


@pytest.fixture
def hostile(classifier: Path, tmp_path: Path) -> Path:
    """A checkpoint with files that have the names of modules, and leave a mark where they are imported."""
    folder = Path(shutil.copytree(classifier, tmp_path / "checkpoint"))
    for name in (*MODULES, *STANDARD):
        mark = f"import os\nos.close(os.open({str(tmp_path / 'ran')!r}, os.O_CREAT | os.O_WRONLY))\n"
        (folder / f"{name}.py").write_text(f"{mark}raise RuntimeError('{name} was imported')\n", encoding="utf-8")
    (folder / "matplotlibrc").write_text("text.usetex: True\n", encoding="utf-8")  # texts by LaTeX
    return folder


def run(hostile: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        cwd=hostile,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **environment},
    )
    assert not (hostile.parent / "ran").exists(), done.stderr
    return done


def test_a_timing_process(hostile: Path, texts_file: Path, tmp_path: Path) -> None:
    command = ["prune-and-build", ".", "-o", str(tmp_path / "out"), "--calibration", str(texts_file), *QUICK, *TIMING]
    done = run(hostile, sys.executable, "-m", "kprune_export", *command, "--isolate")
    assert done.returncode == 0, done.stderr


def test_a_trial_of_a_sweep(
    hostile: Path, make_recipe: Callable[..., Recipe], texts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(hostile, tmp_path / "out", texts_file).model_dump(mode="json", exclude_unset=True)
    (tmp_path / "turns").mkdir()
    monkeypatch.chdir(hostile)
    monkeypatch.syspath_prepend("")
    (end,) = LocalTrials(1).run(
        [Order(recipe=recipe, dense=True, turns=str(tmp_path / "turns"))], lambda _: None, pytest.fail
    )
    assert end.error is None
    assert not (tmp_path / "ran").exists()


def test_processes_of_torchrun(hostile: Path) -> None:
    torchrun = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node", "2"]
    done = run(hostile, *torchrun, "-m", "kprune_export", "inspect", ".", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert "dense checkpoint" in done.stdout


def test_python_is_started_in_no_other_way() -> None:
    """By `python_command`, or, as the guardian is, in Python's isolated mode."""
    root = ROOT
    sources = [path for name in ("kprune_export", "pruning", "exporters") for path in (root / name).rglob("*.py")]
    starting = {path.name for path in sources if "sys.executable" in path.read_text(encoding="utf-8")}
    assert starting == {"import_path.py", "guardian.py"}
    assert '[sys.executable, "-I"' in (root / "exporters" / "processes" / "guardian.py").read_text(encoding="utf-8")


def test_the_import_path_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standard, project = sysconfig.get_path("stdlib"), str(ROOT)
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    here = str(tmp_path)
    installed = ["/installed", here]  # a project that is installed from where it lies
    assert without_working_directory(["", here, ".", "src", standard]) == [f"{here}/src", standard, project]
    assert without_working_directory([here, standard, *installed]) == [standard, *installed, project]
    assert without_working_directory([project, standard]) == [project, standard]
    monkeypatch.setenv("PYTHONPATH", f":{here}")  # named on purpose
    assert without_working_directory(["", here, standard]) == [here, standard, project]


def test_a_checkout_is_used_from_inside_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    standard, project = sysconfig.get_path("stdlib"), str(ROOT)
    monkeypatch.chdir(project)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert without_working_directory([project, standard, "/installed"]) == [standard, "/installed", project]
    assert python_environment()["PYTHONPATH"].split(":")[-1] == project
