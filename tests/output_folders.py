"""Bundles of a few texts, made as the pipeline makes them, and what output folders hold."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kprune_export.bundle.layout import WORK
from kprune_export.bundle.manifest import Manifest, SourceRecord, StageRecord
from kprune_export.bundle.workspace import FinishedStage, Workspace

SOURCE = SourceRecord(model="m", weights_sha256="a", config_sha256="b", tokenizer_sha256="c")


def run_stage(workspace: Workspace, name: str, files: Mapping[str, str], key: str = "k") -> FinishedStage:
    """Do what the pipeline does for a stage that must run; its outputs are the files and folders at the top."""
    folder = workspace.begin(name)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    tops = tuple(dict.fromkeys(path.split("/")[0] for path in files))
    return workspace.finish(StageRecord(name=name, key=key, reproducible=True, outputs=tops))


def manifest_of(stages: Sequence[FinishedStage]) -> Manifest:
    return Manifest(
        command="test",
        verdict=None,
        gates=(),
        task="none",
        labels=(),
        plan_sha256=None,
        flops_reduction=None,
        source=SOURCE,
        calibration=None,
        held_out=None,
        recipe={},
        versions={},
        stages=tuple(x.stage for x in stages),
        files=tuple(file for x in stages for file in x.files),
    )


def build(output: Path, stages: Mapping[str, Mapping[str, str]]) -> None:
    """Run the stages that must run, and publish."""
    with Workspace.open(output) as workspace:
        finished = []
        for name, files in stages.items():
            key = str(sorted(files.items()))
            finished.append(workspace.finished(name, key) or run_stage(workspace, name, files, key))
        workspace.publish(manifest_of(finished), finished)


def run_folder(output: Path) -> Path:
    """Return the folder of the one run that writes to an output folder, or was stopped."""
    [found] = (output / WORK).glob("run-*")
    return found


def tree(output: Path) -> dict[str, bytes]:
    """Return all files of a folder by their paths in it, links and the work of unfinished runs among them."""
    return {
        path.relative_to(output).as_posix(): str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_symlink() or path.is_file()
    }
