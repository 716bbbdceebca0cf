"""Build TensorRT engines from the exported graphs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporters.tensorrt.bindings import load_bindings
from exporters.tensorrt.build import engine_from_onnx
from exporters.tensorrt.engine_record import EngineRecord
from exporters.variant import Runtime, Variant
from kprune_export.bundle.layout import CHECKPOINT, ENGINES, ONNX_FOLDER
from kprune_export.model_export import model_spec
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.stages.export import DENSE_ENGINES, DENSE_FOLDER, exported_checkpoint
from kprune_export.pipeline.stages.stage import ShareDone, Stage, StageContext, part_of
from pruning.checkpoint.load import EncoderCheckpoint


class EngineStage(Stage):
    """Build an engine for each TensorRT variant: writes engines/."""

    name = "engines"
    title = "Building TensorRT engines"
    outputs = (ENGINES,)
    reads = (CHECKPOINT, ONNX_FOLDER)
    reproducible = False  # a GPU's builder chooses kernels by their measured times

    def settings(self, job: Job) -> dict[str, Any]:
        """Return how engines are built, with what, and on which machine."""
        return engine_settings(job)

    def execute(self, job: Job, context: StageContext) -> None:
        """Build, check the precision, and write plan, record and log."""
        checkpoint = exported_checkpoint(job, context.files)
        build_engines(checkpoint, job, job.variants, context.files(ONNX_FOLDER), context.folder / ENGINES, context)


class DenseEngineStage(Stage):
    """The same for the dense baselines, where engines can be timed."""

    name = "dense-engines"
    title = "Building the dense baseline's engines"
    outputs = (DENSE_ENGINES,)
    reads = (DENSE_FOLDER,)
    reproducible = False
    transient = True

    def settings(self, job: Job) -> dict[str, Any]:
        """Return how engines are built, with what, and on which machine."""
        return engine_settings(job)

    def execute(self, job: Job, context: StageContext) -> None:
        """Build."""
        folder = context.folder / self.outputs[0]
        build_engines(job.source, job, job.dense_variants, context.files(DENSE_FOLDER), folder, context)


def engine_settings(job: Job) -> dict[str, Any]:
    """Return all that decides an engine beside its graph."""
    settings = job.recipe.engine
    return {
        "engine": settings.model_dump(mode="json"),
        "bindings": load_bindings(settings.bindings).version,
        "gpu": job.machine.gpu.model_dump() if job.machine.gpu else None,
    }


def build_engines(
    checkpoint: EncoderCheckpoint,
    job: Job,
    variants: Sequence[Variant],
    graphs: Path,
    folder: Path,
    context: StageContext,
) -> None:
    """Build the engines of all TensorRT variants into a new folder."""
    folder.mkdir()
    spec = model_spec(checkpoint, job.versions)
    wanted = [variant for variant in variants if variant.runtime is Runtime.TENSORRT]
    for done, variant in enumerate(wanted):
        progress = part_of(context.progress, done, len(wanted))

        def build(target: Path, variant: Variant = variant, progress: ShareDone = progress) -> EngineRecord:
            path, settings = graphs / variant.file_name, job.recipe.engine
            return engine_from_onnx(path, spec, variant.precision, target, variant.stem, settings, progress).record

        context.parts.files_once(str(variant), EngineRecord, build, folder)
        progress(1.0)
