import multiprocessing
import os
import socket
import stat
from pathlib import Path

import pytest
from output_folders import manifest_of

from exporters.errors import MissingRuntimeError
from kprune_export.bundle.layout import MANIFEST, SIGNATURE, WORK
from kprune_export.bundle.manifest import StageRecord
from kprune_export.bundle.verify import irregular_entries, verify_bundle
from kprune_export.bundle.workspace import FinishedStage, Workspace
from kprune_export.errors import BundleError, LabelError, OutputFolderError


def finish(workspace: Workspace, name: str, outputs: dict[str, str], key: str = "k") -> FinishedStage:
    folder = workspace.begin(name)
    tops = []
    for path, text in outputs.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
        tops.append(path.split("/")[0] if path.startswith("checkpoint/") else path)
    record = StageRecord(name=name, key=key, reproducible=True, outputs=tuple(dict.fromkeys(tops)))
    return workspace.finish(record)


def publish(output: Path, stages: dict[str, dict[str, str]], key: str = "k") -> None:
    with Workspace.open(output) as workspace:
        finished = [finish(workspace, name, outputs, key) for name, outputs in stages.items()]
        workspace.publish(manifest_of(finished), finished)


def tree(output: Path) -> dict[str, str]:
    return {p.relative_to(output).as_posix(): p.read_text() for p in sorted(output.rglob("*")) if p.is_file()}


FIRST = {"one": {"plan.json": "plan", "checkpoint/a": "a", "checkpoint/b": "b"}, "two": {"onnx/model.onnx": "onnx"}}


def test_publishes_everything_and_leaves_no_work(tmp_path: Path) -> None:
    publish(tmp_path / "out", FIRST)
    found = tree(tmp_path / "out")
    assert set(found) == {"plan.json", "checkpoint/a", "checkpoint/b", "onnx/model.onnx", MANIFEST}
    manifest, difference = verify_bundle(tmp_path / "out")
    assert not difference
    assert manifest.reproducible_hashes().keys() == set(found) - {MANIFEST}


def test_a_new_bundle_replaces_all_of_the_old_one(tmp_path: Path) -> None:
    publish(tmp_path, FIRST)
    publish(tmp_path, {"one": {"plan.json": "new", "checkpoint/a": "new"}}, key="other")
    assert tree(tmp_path).keys() == {"plan.json", "checkpoint/a", MANIFEST}
    assert tree(tmp_path)["checkpoint/a"] == "new"
    assert not verify_bundle(tmp_path)[1]


def test_a_published_stage_still_holds_until_something_changes(tmp_path: Path) -> None:
    publish(tmp_path, FIRST)
    with Workspace.open(tmp_path) as workspace:
        assert workspace.finished("one", "k") is not None
        assert workspace.finished("one", "another key") is None
    (tmp_path / "checkpoint" / "b").write_text("B")
    with Workspace.open(tmp_path) as workspace:
        assert workspace.finished("one", "k") is None
        assert workspace.finished("two", "k") is not None


def finish_folder(workspace: Workspace, texts: dict[str, str]) -> FinishedStage:
    folder = workspace.begin("prune")
    (folder / "checkpoint").mkdir()
    for name, text in texts.items():
        (folder / "checkpoint" / name).write_text(text)
    return workspace.finish(StageRecord(name="prune", key="k", reproducible=True, outputs=("checkpoint",)))


def finish_inner(workspace: Workspace, text: str, key: str = "k") -> FinishedStage:
    folder = workspace.begin("card") / "checkpoint"
    folder.mkdir()
    (folder / "README.md").write_text(text)
    record = StageRecord(name="card", key=key, reproducible=True, outputs=("checkpoint/README.md",))
    return workspace.finish(record)


def test_a_file_in_a_folder_can_be_another_stages_output(tmp_path: Path) -> None:
    """A model card lies among the checkpoint's files: either can be made again without the other."""
    with Workspace.open(tmp_path) as workspace:
        stages = [finish_folder(workspace, {"weights": "w"}), finish_inner(workspace, "card")]
        workspace.publish(manifest_of(stages), stages)
    assert tree(tmp_path).keys() == {"checkpoint/weights", "checkpoint/README.md", MANIFEST}

    with Workspace.open(tmp_path) as workspace:  # the card alone
        prune = workspace.finished("prune", "k")
        assert prune is not None
        assert [file.path for file in prune.files] == ["checkpoint/weights"]
        stages = [prune, finish_inner(workspace, "another card", key="other")]
        workspace.publish(manifest_of(stages), stages)
    assert tree(tmp_path)["checkpoint/README.md"] == "another card"
    assert not verify_bundle(tmp_path)[1]

    (tmp_path / "checkpoint" / "weights").write_text("damaged")
    with Workspace.open(tmp_path) as workspace:  # the folder alone
        assert workspace.finished("prune", "k") is None
        card = workspace.finished("card", "other")
        assert card is not None
        stages = [finish_folder(workspace, {"weights": "w"}), card]
        workspace.publish(manifest_of(stages), stages)
    assert tree(tmp_path)["checkpoint/weights"] == "w"
    assert tree(tmp_path)["checkpoint/README.md"] == "another card"
    assert not verify_bundle(tmp_path)[1]


def test_unpublished_work_of_other_settings_does_not_shadow_the_bundle(tmp_path: Path) -> None:
    publish(tmp_path, FIRST)
    with pytest.raises(KeyboardInterrupt), Workspace.open(tmp_path) as workspace:
        finish(workspace, "two", {"onnx/model.onnx": "other"}, key="other")
        raise KeyboardInterrupt
    with Workspace.open(tmp_path) as workspace:
        record = workspace.finished("two", "k")
        assert record is not None
        assert workspace.path(record, "onnx/model.onnx").read_text() == "onnx"


def test_an_interrupted_run_keeps_finished_stages_only(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), Workspace.open(output) as workspace:
        finish(workspace, "one", FIRST["one"])
        (workspace.begin("two") / "half").write_text("x")
        raise KeyboardInterrupt
    assert not list((output / WORK).rglob("half"))
    with Workspace.open(output) as workspace:
        assert workspace.finished("one", "k") is not None
        assert workspace.finished("two", "k") is None


@pytest.mark.parametrize("error", [LabelError("bad"), MissingRuntimeError("none"), OSError(28, "No space left")])
def test_bad_input_leaves_no_trace(tmp_path: Path, error: Exception) -> None:
    output = tmp_path / "deep" / "out"
    with pytest.raises(type(error)), Workspace.open(output) as workspace:
        finish(workspace, "one", FIRST["one"])
        raise error
    assert not (tmp_path / "deep").exists()
    publish(output, FIRST)
    before = tree(output)
    with pytest.raises(type(error)), Workspace.open(output) as workspace:
        finish(workspace, "one", {"plan.json": "x"}, key="new")
        raise error
    assert tree(output) == before
    assert not (output / WORK).exists()


def test_a_bug_keeps_finished_stages(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Workspace.open(tmp_path) as workspace:
        finish(workspace, "one", FIRST["one"])
        raise ZeroDivisionError
    with Workspace.open(tmp_path) as workspace:
        assert workspace.finished("one", "k") is not None


def test_refuses_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(OutputFolderError, match="holds 'thesis.txt', which is not part of a bundle"):
        publish(tmp_path, FIRST)
    assert tree(tmp_path) == {"thesis.txt": "precious"}
    with pytest.raises(OutputFolderError, match="is a file, but the output must be a folder"):
        publish(tmp_path / "thesis.txt", FIRST)


def _try_to_open(output: Path, answers: "multiprocessing.Queue[str]") -> None:
    try:
        with Workspace.open(output):
            answers.put("opened")
    except OutputFolderError as error:
        answers.put(str(error))


def test_two_runs_are_kept_apart(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with Workspace.open(tmp_path) as workspace:
        finish(workspace, "one", FIRST["one"])
        other = context.Process(target=_try_to_open, args=(tmp_path, answers))
        other.start()
        other.join(60)
        assert answers.get(timeout=5).startswith("Another run is writing to")
        assert workspace.finished("one", "k") is not None  # the other run has removed nothing


def test_a_stage_that_forgets_an_output_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is missing"), Workspace.open(tmp_path) as workspace:
        workspace.begin("one")
        workspace.finish(StageRecord(name="one", key="k", reproducible=True, outputs=("plan.json",)))


def test_verify_lists_every_difference(tmp_path: Path) -> None:
    publish(tmp_path, FIRST)
    (tmp_path / "plan.json").write_text("plAn")
    (tmp_path / "checkpoint" / "a").unlink()
    (tmp_path / "checkpoint" / "b").unlink()
    (tmp_path / "checkpoint" / "b").symlink_to("/etc/hostname")
    (tmp_path / "onnx" / "extra").write_text("x")
    lines = verify_bundle(tmp_path)[1].lines()
    assert lines == ["- missing checkpoint/a", "+ extra   onnx/extra", "! changed checkpoint/b", "! changed plan.json"]


@pytest.mark.parametrize("place", ["extra", "onnx/extra", "plan.json", SIGNATURE])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link", "folder link"])
def test_what_is_no_file_is_a_difference(
    kind: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none is opened: reading a pipe that nobody writes to would wait for ever."""
    output = tmp_path / "out"
    publish(output, FIRST)
    path = output / place
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(path.parent)  # the system takes short names of sockets only
        socket.socket(socket.AF_UNIX).bind(path.name)
    elif kind == "device":
        try:
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("needs the right to make a device")
    else:
        path.symlink_to("/etc/hostname" if kind == "link" else "/etc")
    mark = "! changed" if place == "plan.json" else "+ extra  "
    assert verify_bundle(output)[1].lines() == [f"{mark} {place}"]
    named = {"device": "a device", "pipe": "a named pipe", "socket": "a socket"}.get(kind, "a symbolic link")
    assert irregular_entries(output) == (f"{place} ({named})",)


def test_work_in_a_finished_bundle_is_a_difference(tmp_path: Path) -> None:
    publish(tmp_path, FIRST)
    (tmp_path / WORK).mkdir()
    (tmp_path / WORK / "anything").write_text("x")
    difference = verify_bundle(tmp_path)[1]
    assert difference.extra == (f"{WORK}/",)
    assert "of a run that has not finished: run it again, or remove the folder" in difference.lines()[0]


def test_a_linked_manifest_is_refused(tmp_path: Path) -> None:
    publish(tmp_path / "out", FIRST)
    (tmp_path / "out" / MANIFEST).rename(tmp_path / "elsewhere")
    (tmp_path / "out" / MANIFEST).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="manifest.json is a symbolic link"):
        verify_bundle(tmp_path / "out")


def test_a_manifest_is_checked(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a finished bundle"):
        verify_bundle(tmp_path)
    (tmp_path / MANIFEST).write_text('{"format": "other"}')
    with pytest.raises(BundleError, match="is not a valid manifest: .*kprune-bundle"):
        verify_bundle(tmp_path)
