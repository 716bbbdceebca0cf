"""Take the files of a bundle that is validated."""

import shutil
from pathlib import Path
from typing import Any

from exporters.parts import link_or_copy
from kprune_export.bundle.layout import CHECKPOINT, ENGINES, MANIFEST, ONNX_FOLDER, PLAN, TARGET
from kprune_export.errors import BundleError
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.stages.stage import Stage, StageContext
from pruning.checkpoint.source import file_sha256


class BundleStage(Stage):
    """Take the files of an existing bundle, in place of pruning and exporting."""

    name = "bundle"
    title = "Reading the bundle"
    transient = True

    def __init__(self, has_engines: bool, has_target: bool) -> None:
        optional = ((ENGINES, has_engines), (TARGET, has_target))
        self.outputs = (PLAN, CHECKPOINT, ONNX_FOLDER, *(name for name, there in optional if there))

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the hash of the manifest, which has the hashes of all files."""
        return {"manifest": file_sha256(_bundle(job) / MANIFEST)}

    def execute(self, job: Job, context: StageContext) -> None:
        """Link the files, or copy them where the disks differ."""
        bundle = _bundle(job)
        for name in self.outputs:
            if (bundle / name).is_dir():
                shutil.copytree(bundle / name, context.folder / name, copy_function=link_or_copy)
            else:
                link_or_copy(bundle / name, context.folder / name)
        context.progress(1.0)


def _bundle(job: Job) -> Path:
    if job.bundle is None:
        raise BundleError("There is no bundle to validate.")
    return job.bundle
