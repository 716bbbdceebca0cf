"""Compare what was exported with torch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from exporters.errors import ParityError
from exporters.onnx.write import GraphRecord
from exporters.open import open_variant
from exporters.parity.check import (
    PARITY_SHAPES,
    ParityReport,
    check_parity,
)
from exporters.parity.first_difference import first_difference
from exporters.runners.availability import runs_here
from exporters.runners.base import Feeds
from exporters.runners.torch_runner import TorchRunner
from exporters.spec import Shape
from exporters.tensorrt.profiles import OptimizationProfile
from exporters.variant import Precision, Runtime, Variant
from kprune_export.bundle.layout import CHECKPOINT, ENGINES, GRAPHS, ONNX_FOLDER, PARITY, Files
from kprune_export.bundle.variant_report import Reports
from kprune_export.model_export import model_spec, tolerance_of
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.stages.export import (
    DENSE_ENGINES,
    DENSE_FOLDER,
    VariantFolders,
    dense_folders,
    exported_checkpoint,
    range_feeds,
    shipped_folders,
)
from kprune_export.pipeline.stages.stage import Stage, StageContext, part_of
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.serving import ServingModule

DENSE_PARITY = f"dense-{PARITY}"


class ParityStage(Stage):
    """Compare every variant that ships with its checkpoint in torch: writes parity.json."""

    name = "parity"
    title = "Checking parity with torch"
    outputs = (PARITY,)
    reads: tuple[str, ...] = (CHECKPOINT, ONNX_FOLDER, ENGINES)

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the processor's instruction sets, by which runtimes choose their kernels."""
        return {"instruction_sets": job.machine.instruction_sets}

    def execute(self, job: Job, context: StageContext) -> None:
        """Compare; the reports are written even where parity fails."""
        self.compare(job, context).write(context.folder / self.outputs[0])

    def compare(self, job: Job, context: StageContext) -> Reports[ParityReport]:
        """Return the reports."""
        checkpoint = exported_checkpoint(job, context.files)
        folders = shipped_folders(job, context.files)
        return Reports(variants=parity_of(checkpoint, job, job.variants, folders, context))

    def check(self, files: Files) -> None:
        """Stop the run if parity failed.

        Raises:
            ParityError: with the worst case of the first variant that failed, and where the whole report is.

        """
        raise_if_failed(files(self.outputs[0]))


class DenseParityStage(ParityStage):
    """The same for the dense baselines, which everything is compared with."""

    name = "dense-parity"
    title = "Checking the dense baseline's parity"
    outputs = (DENSE_PARITY,)
    reads = (DENSE_FOLDER, DENSE_ENGINES)
    transient = True

    def settings(self, job: Job) -> dict[str, Any]:
        """Return which variants must agree: the run continues without the others."""
        return {"required": [str(variant) for variant in job.dense_variants]}

    def compare(self, job: Job, context: StageContext) -> Reports[ParityReport]:
        """Return the reports, those of variants that the run can do without under `dense`."""
        folders = dense_folders(job, context.files)
        made = Reports[GraphRecord].read(folders.graphs / GRAPHS).variants
        optional = [variant for variant in job.optional_dense if str(variant) in made]
        wanted = (*job.dense_variants, *optional)
        found = parity_of(job.take_dense(), job, wanted, folders, context)
        return Reports(
            variants={str(variant): found[str(variant)] for variant in job.dense_variants},
            dense={str(variant): found[str(variant)] for variant in optional},
        )


def parity_of(
    checkpoint: EncoderCheckpoint,
    job: Job,
    variants: Sequence[Variant],
    folders: VariantFolders,
    context: StageContext,
) -> dict[str, ParityReport]:
    """Compare a checkpoint's variants with it, and return the reports by the variants' names."""
    spec = model_spec(checkpoint, job.versions)
    module = ServingModule(checkpoint).eval()
    records = Reports[GraphRecord].read(folders.graphs / GRAPHS).variants
    feeds = range_feeds(checkpoint, job, variants)
    reports: dict[str, ParityReport] = {}
    for variant in variants:
        fp32 = variant.precision is Precision.FP32
        runs_engine = variant.runtime is Runtime.TENSORRT and runs_here(variant.runtime)
        profiles = job.recipe.engine.profiles_for(spec.max_positions) if runs_engine else ()
        with open_variant(variant, *folders, job.threads) as candidate:
            reports[str(variant)] = check_parity(
                TorchRunner(module, spec),
                candidate,
                spec,
                tolerance=tolerance_of(variant, records[str(variant)]),
                locate=_locator(module, folders.graphs / variant.file_name, job.threads) if fp32 else lambda _: None,
                progress=part_of(context.progress, len(reports), len(variants)),
                texts=feeds if variant.precision is Precision.INT8 else (),
                shapes=(*PARITY_SHAPES, *(x for profile in profiles for x in (profile.min, profile.opt, profile.max))),
                admits=_admitted_by(profiles),
                parts=context.parts.within(str(variant)),
            )
    return reports


def _locator(module: ServingModule, path: Path, threads: int) -> Callable[[Feeds], str | None]:
    return lambda feeds: first_difference(module, path, feeds, threads)


def _admitted_by(profiles: Sequence[OptimizationProfile]) -> Callable[[Shape], bool]:
    return lambda shape: not profiles or any(profile.admits(shape) for profile in profiles)


def raise_if_failed(path: Path) -> None:
    """Raise the first failure of a file of parity reports.

    Raises:
        ParityError: with the worst case, and where the whole report is.

    """
    for name, report in Reports[ParityReport].read(path).variants.items():
        try:
            report.raise_if_failed()
        except ParityError as error:
            raise ParityError(f"{name}: {error} All cases are in {path}.") from error
