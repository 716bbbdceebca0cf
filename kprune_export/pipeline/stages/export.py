"""Export the pruned checkpoint and its dense baseline to ONNX, in the same variants."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnx_ir as ir

from exporters.errors import ExportError
from exporters.onnx.export import OPSET, exported_graph
from exporters.onnx.write import GraphRecord, write_variant
from exporters.runners.base import Feeds
from exporters.variant import Precision, Variant
from kprune_export.bundle.layout import CHECKPOINT, ENGINES, GRAPHS, ONNX_FOLDER, Files
from kprune_export.bundle.variant_report import Reports
from kprune_export.model_export import feeds_of, model_spec
from kprune_export.pipeline.estimates import Pace
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.stages.stage import Stage, StageContext
from pruning.checkpoint.load import EncoderCheckpoint, load_checkpoint
from pruning.serving import ServingModule

DENSE_FOLDER = "dense"
DENSE_ENGINES = f"dense-{ENGINES}"


def exported_checkpoint(job: Job, files: Files) -> EncoderCheckpoint:
    """Return the checkpoint that a bundle's ONNX is made from: the pruned one, or the source itself."""
    if job.ships_checkpoint:
        return load_checkpoint(files(CHECKPOINT))
    return job.source


class VariantFolders(NamedTuple):
    """Where a model's variants are: the ONNX files, and the engines where this machine uses them."""

    graphs: Path
    engines: Path | None


def shipped_folders(job: Job, files: Files) -> VariantFolders:
    """Return where the variants that ship are."""
    return VariantFolders(files(ONNX_FOLDER), files(ENGINES) if job.builds_engines else None)


def dense_folders(job: Job, files: Files) -> VariantFolders:
    """Return where the dense baseline's variants are."""
    return VariantFolders(files(DENSE_FOLDER), files(DENSE_ENGINES) if job.times_engines else None)


def range_feeds(checkpoint: EncoderCheckpoint, job: Job, variants: Sequence[Variant]) -> tuple[Feeds, ...]:
    """Return calibration texts as batches of inputs, to measure int8's ranges on; none where no variant is int8."""
    if not _quantizes(variants):
        return ()
    return feeds_of(checkpoint, job.calibration, job.recipe.seed)


def write_variants(
    checkpoint: EncoderCheckpoint,
    job: Job,
    variants: Sequence[Variant],
    folder: Path,
    context: StageContext,
    optional: Sequence[Variant] = (),
) -> None:
    """Export a checkpoint once and write it in all variants, with a record of what their graphs are.

    Args:
        checkpoint: what is exported.
        job: the run.
        variants: what is written.
        folder: where; it is made.
        context: where the stage works.
        optional: more variants; why one of them cannot be made is recorded instead of raised.

    Raises:
        ExportError: the checkpoint cannot be exported, or brought into the form of one of the variants.

    """
    spec = model_spec(checkpoint, job.versions)
    feeds = range_feeds(checkpoint, job, (*variants, *optional))
    folder.mkdir()
    graph: list[ir.Model] = []  # exported only where a variant is left to write
    records: dict[str, GraphRecord] = {}
    problems: dict[str, str] = {}
    for number, variant in enumerate(total := (*variants, *optional)):

        def write(target: Path, variant: Variant = variant) -> GraphRecord:
            if not graph:
                graph.append(exported_graph(ServingModule(checkpoint), spec))
            return write_variant(graph[0], spec, variant, target, feeds, job.threads)

        context.progress(0.5 + 0.5 * number / len(total))
        try:
            records[str(variant)] = context.parts.files_once(str(variant), GraphRecord, write, folder)
        except ExportError as error:
            if variant not in optional:
                raise
            problems[str(variant)] = str(error)
    Reports[GraphRecord](variants=records, problems=problems).write(folder / GRAPHS)
    context.progress(1.0)


class ExportStage(Stage):
    """Export the run's checkpoint: writes the variants into onnx/."""

    name = "export"
    title = "Exporting to ONNX"
    outputs = (ONNX_FOLDER,)
    reads: tuple[str, ...] = (CHECKPOINT,)

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the source, the opset, and the variants."""
        return _export_settings(job, job.variants)

    def expected_s(self, job: Job, pace: Pace) -> float:
        """Return the time of some graphs, those in int8 with passes over calibration texts."""
        return export_s(len(job.variants), job, pace)

    def execute(self, job: Job, context: StageContext) -> None:
        """Export and check the graphs."""
        checkpoint = exported_checkpoint(job, context.files)
        write_variants(checkpoint, job, job.variants, context.folder / ONNX_FOLDER, context)


class ExportSourceStage(ExportStage):
    """Export the source as it is, without pruning."""

    reads = ()


def export_s(variants: int, job: Job, pace: Pace) -> float:
    """Return how long variants take to export, roughly, in seconds."""
    return variants * (
        4.0 + 0.5 * job.source.open().shape.layers + (pace.calibration_pass_s * 0.3 if job.recipe.quantizes else 0)
    )


class DenseBaselineStage(Stage):
    """Export the dense source in the same variants, and in fp32, to compare with."""

    name = "dense-export"
    title = "Exporting the dense baseline"
    outputs = (DENSE_FOLDER,)
    transient = True

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the source, the opset, and the variants."""
        return _export_settings(job, (*job.dense_variants, *job.optional_dense))

    def expected_s(self, job: Job, pace: Pace) -> float:
        """Return the time of some graphs, those in int8 with passes over calibration texts."""
        return export_s(len(job.dense_variants) + len(job.optional_dense), job, pace)

    def execute(self, job: Job, context: StageContext) -> None:
        """Export and check the graphs; whether they are right is for the parity stage to say."""
        folder = context.folder / DENSE_FOLDER
        write_variants(job.take_dense(), job, job.dense_variants, folder, context, job.optional_dense)


def _quantizes(variants: Sequence[Variant]) -> bool:
    return any(variant.precision is Precision.INT8 for variant in variants)


def _export_settings(job: Job, variants: Sequence[Variant]) -> dict[str, Any]:
    calibration = {"calibration": job.calibration_record.sha256, "seed": job.recipe.seed}
    return {
        "source": job.source_record.model_dump(exclude={"model"}),
        "opset": OPSET,
        "variants": [str(variant) for variant in variants],
        **(calibration if _quantizes(variants) else {}),
    }
