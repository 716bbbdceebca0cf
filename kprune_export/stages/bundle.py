"""Take the files of a bundle that is validated."""

import os
import shutil
from pathlib import Path
from typing import Any

from kprune_export.bundle.layout import CHECKPOINT, MANIFEST, ONNX, PLAN
from kprune_export.errors import BundleError
from kprune_export.job import Job
from kprune_export.stages.base import Desk, Stage
from pruning.checkpoint.source import file_sha256


class BundleStage(Stage):
    """Stands where pruning and exporting stand in a build: the files are there already."""

    name = "export"
    title = "Reading the bundle"
    outputs = (PLAN, CHECKPOINT, ONNX)
    transient = True

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the hash of the manifest, which has the hashes of all files."""
        return {"manifest": file_sha256(_bundle(job) / MANIFEST)}

    def execute(self, job: Job, desk: Desk) -> None:
        """Link the files, or copy them where the disks differ."""
        bundle = _bundle(job)
        (desk.folder / ONNX).parent.mkdir()
        shutil.copytree(bundle / CHECKPOINT, desk.folder / CHECKPOINT, copy_function=_link_or_copy)
        for name in (PLAN, ONNX):
            _link_or_copy(bundle / name, desk.folder / name)
        desk.progress(1.0)


def _bundle(job: Job) -> Path:
    if job.bundle is None:
        raise BundleError("There is no bundle to validate.")
    return job.bundle


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)
