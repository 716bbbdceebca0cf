"""What a folder holds that this program did not write is named and left, whatever it is called."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from output_folders import build, manifest_of, run_stage, tree

from kprune_export.bundle.layout import MANIFEST, REPOSITORY_RECORD, WORK
from kprune_export.bundle.workspace import Workspace, replace_bundle
from kprune_export.errors import BundleError, OutputFolderError
from kprune_export.experiments.compare.folder import ComparisonFolder
from kprune_export.experiments.results_folder import ResultsFolder
from kprune_export.experiments.sweep.folder import SweepFolder
from kprune_export.output_folder.transaction import OutputFolder
from kprune_export.pipeline.run import Outcome
from kprune_export.triton.folder import REPOSITORY, write_folder

Cli = Callable[..., int]
QUICK: list[object] = ["--samples", 60, "--threads", 2]


@pytest.fixture
def bundle(built: Outcome, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built.output, tmp_path / "bundle"))


def publish(output: Path, names: tuple[str, ...] = ("plan.json", "checkpoint/a")) -> None:
    build(output, {"one": {name: name for name in names}})


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (["onnx/precious.onnx"], "'onnx'"),
        (["triton/config.pbtxt"], "'triton'"),
        (["plan.json"], "'plan.json'"),
        (["signature.sig"], "'signature.sig'"),
        (["manifest.json"], "'manifest.json'"),
        (["checkpoint/config.json", "checkpoint/model.safetensors", "plan.json", "a", "b"], "'a', 'b', 'checkpoint'"),
        ([f"{WORK}/mine.txt"], f"{WORK} holds 'mine.txt'"),
        ([f"{WORK}/work.json"], f"{WORK} holds 'work.json'"),
    ],
)
def test_names_of_a_bundle_are_not_enough(
    files: list[str], named: str, cli: Cli, classifier: Path, texts_file: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "out"
    for name in files:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text("precious")
    before = tree(output)
    for command in (("prune", classifier), ("prune-and-build", classifier), ("export", classifier)):
        assert cli(*command, "-o", output, "--calibration", texts_file, *QUICK) == 2
        err = capsys.readouterr().err
        assert named in err
        assert "choose an empty or a new folder" in err
        assert len(err.strip().splitlines()) == 1
        assert tree(output) == before


@pytest.mark.parametrize(
    "name", ["notes.txt", "onnx/mine.onnx", "checkpoint/vocab.old", "checkpoint/deep/mine", "triton/x/config.pbtxt"]
)
@pytest.mark.parametrize("kind", ["file", "link", "pipe"])
def test_what_lies_in_a_bundle_and_is_not_listed_is_named_and_stays(
    name: str, kind: str, cli: Cli, bundle: Path, classifier: Path, texts_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    place = bundle / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        place.write_text("precious")
    elif kind == "link":
        place.symlink_to(texts_file)
    else:
        os.mkfifo(place)
    before = tree(bundle)
    for command in ("export", "prune-and-build"):
        assert cli(command, classifier, "-o", bundle, "--calibration", texts_file, *QUICK) == 2
        err = capsys.readouterr().err
        assert place.is_symlink() == (kind == "link")
        assert any(str(Path(*Path(name).parts[:depth])) in err for depth in (1, 2, 3))
        assert tree(bundle) == before


def test_a_folder_of_another_kind_is_not_written_to(bundle: Path, tmp_path: Path) -> None:
    before = tree(bundle)
    for kind in (SweepFolder, ComparisonFolder):
        with pytest.raises(OutputFolderError, match="not part of a "), kind.open(bundle):
            pass
    with pytest.raises(OutputFolderError, match="not part of a repository"), write_folder(bundle):
        pass
    assert tree(bundle) == before
    comparison = tmp_path / "comparison"
    with pytest.raises(KeyboardInterrupt), ComparisonFolder.open(comparison):
        raise KeyboardInterrupt
    with pytest.raises(OutputFolderError, match="holds an unfinished run that writes a comparison, and not a bundle"):
        publish(comparison)


def test_a_file_that_appears_while_a_run_goes_on_is_kept_and_its_work_too(tmp_path: Path) -> None:
    publish(tmp_path / "out")
    with pytest.raises(OutputFolderError, match="holds 'checkpoint/mine', which is not part of a bundle"):  # noqa: SIM117
        with Workspace.open(tmp_path / "out") as workspace:
            stage = run_stage(workspace, "one", {"plan.json": "new"}, "new")
            (tmp_path / "out" / "checkpoint" / "mine").write_text("precious")
            workspace.publish(manifest_of([stage]), [stage])
    assert (tmp_path / "out" / "checkpoint" / "mine").read_text() == "precious"
    assert (tmp_path / "out" / "plan.json").read_text() == "plan.json"


def test_a_damaged_or_foreign_manifest_owns_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out"
    publish(output)
    values = json.loads((output / MANIFEST).read_text())
    for changed in ("{}", json.dumps({**values, "version": 3}), json.dumps({**values, "files": 1}), "\xff"):
        (output / MANIFEST).write_text(changed)
        before = tree(output)
        with pytest.raises(OutputFolderError, match="'checkpoint', 'manifest.json' and 'plan.json', which are not"):
            publish(output)
        assert tree(output) == before
    (output / MANIFEST).unlink()
    (tmp_path / "elsewhere.json").write_text(json.dumps(values))
    (output / MANIFEST).symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(OutputFolderError, match=r"manifest\.json is a symbolic link"):
        publish(output)


def test_what_python_compiled_of_a_listed_file_is_no_obstacle(tmp_path: Path) -> None:
    output = tmp_path / "out"
    publish(output, ("plan.json", "triton/m/1/model.py"))
    cache = output / "triton" / "m" / "1" / "__pycache__"
    cache.mkdir()
    (cache / "model.cpython-311.pyc").write_bytes(b"compiled")
    publish(output, ("plan.json",))
    assert tree(output).keys() == {"plan.json", MANIFEST}
    publish(output, ("plan.json", "triton/m/1/model.py"))
    cache.mkdir(parents=True)
    (cache / "mine.pyc").write_bytes(b"precious")
    with pytest.raises(OutputFolderError, match="holds 'triton/m/1/__pycache__'"):
        publish(output)


def test_a_triton_repository_keeps_what_is_not_its_own(built: Outcome, cli: Cli, tmp_path: Path) -> None:
    models = tmp_path / "models"
    (models / "encoder").mkdir(parents=True)
    (models / "encoder" / "config.pbtxt").write_text("mine")
    assert cli("triton", built.output, "--backend", "python", "-o", models) == 2
    assert tree(models) == {"encoder/config.pbtxt": b"mine"}
    shutil.rmtree(models)
    assert cli("triton", built.output, "--backend", "python", "-o", models) == 0
    record = json.loads((models / REPOSITORY_RECORD).read_text())
    name = record["encoders"][0]["name"]
    (models / name / "1" / "tuned.json").write_text("mine")
    before = tree(models)
    assert cli("triton", built.output, "--backend", "python", "-o", models) == 2
    assert tree(models) == before


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (SweepFolder, "shared/notes.txt"),
        (SweepFolder, "shared/onnxruntime-fp32/latency_table.json"),
        (SweepFolder, "trials/onnxruntime-fp32-2x/plan.json"),
        (SweepFolder, "sweep.md"),
        (SweepFolder, "sweep.json"),
        (ComparisonFolder, "cells/random-0.5-0.json"),
        (ComparisonFolder, "compare.svg"),
        (ComparisonFolder, "compare.json"),
    ],
)
def test_results_are_not_written_over_what_has_their_names(
    kind: type[ResultsFolder], name: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    (output / name).parent.mkdir(parents=True)
    (output / name).write_text('{"format": "mine", "files": []}')
    before = tree(output)
    with pytest.raises(OutputFolderError, match="which is not part of a "):
        kind.check(output)
    assert tree(output) == before


def test_trials_of_an_earlier_sweep_are_its_own(tmp_path: Path) -> None:
    output = tmp_path / "family"
    publish(output / "trials" / "onnxruntime-fp32-2x")
    publish(output / "shared" / "sensitivity")
    with pytest.raises(KeyboardInterrupt), Workspace.open(output / "trials" / "onnxruntime-fp32-3x"):
        raise KeyboardInterrupt
    SweepFolder.check(output)
    (output / "trials" / "onnxruntime-fp32-2x" / "notes.txt").write_text("mine")
    with pytest.raises(OutputFolderError, match="holds 'trials/onnxruntime-fp32-2x/notes.txt', which is not part of a"):
        SweepFolder.check(output)


def test_a_bundle_that_arrives_from_elsewhere_replaces_only_a_bundle(tmp_path: Path) -> None:
    publish(tmp_path / "made", ("plan.json", "onnx/model.onnx"))
    output = tmp_path / "trials" / "x"

    def arrive(folder: Path) -> None:
        shutil.copytree(tmp_path / "made", folder, dirs_exist_ok=True)

    replace_bundle(output, arrive)
    assert tree(output) == tree(tmp_path / "made")
    publish(output)
    replace_bundle(output, arrive)
    assert tree(output) == tree(tmp_path / "made")
    (output / "mine").write_text("precious")
    before = tree(output)
    with pytest.raises(OutputFolderError, match="holds 'mine'"):
        replace_bundle(output, arrive)
    assert tree(output) == before
    (output / "mine").unlink()
    (tmp_path / "made" / "plan.json").write_text("cut short")
    with pytest.raises(BundleError, match="did not arrive whole: ! changed plan.json"):
        replace_bundle(output, arrive)
    assert set(tree(output)) == {"plan.json", "onnx/model.onnx", MANIFEST}
    assert (output / "plan.json").read_text() == "plan.json"


@pytest.mark.parametrize("name", ["mine.txt", "mine/deep.txt", "run-notes.txt"])
def test_a_file_in_the_work_of_a_stopped_run_is_named_and_stays(name: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), Workspace.open(output):
        raise KeyboardInterrupt
    mine = output / WORK / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("precious")
    before = tree(output)
    with pytest.raises(OutputFolderError, match=f"holds '{name.split('/')[0]}', which no run of this program made"):
        publish(output)
    assert tree(output) == before
    mine.unlink()
    if mine.parent != output / WORK:
        mine.parent.rmdir()
    publish(output)
    assert not (output / WORK).exists()


def test_a_file_that_appears_in_the_work_folder_stays(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(OutputFolderError, match=r"holds 'mine\.txt'"), Workspace.open(output) as workspace:
        stage = run_stage(workspace, "one", {"plan.json": "x"}, "k")
        (output / WORK / "mine.txt").write_text("precious")
        workspace.publish(manifest_of([stage]), [stage])
    assert (output / WORK / "mine.txt").read_text() == "precious"
    (output / WORK / "mine.txt").unlink()
    publish(output)


def test_work_that_was_just_begun_when_the_process_was_killed_is_no_obstacle(tmp_path: Path) -> None:
    for begun in ([], ["lock"], ["lock", "work.json.partial"]):
        output = tmp_path / f"out{len(begun)}"
        (output / WORK).mkdir(parents=True)
        for name in begun:
            (output / WORK / name).write_text("")
        with OutputFolder.open(REPOSITORY, output, resumes=False):
            pass
        publish(tmp_path / f"other{len(begun)}")
