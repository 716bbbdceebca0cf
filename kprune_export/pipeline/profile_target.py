"""Implementation of ``kprune-export profile-target``."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from exporters.errors import VariantError
from exporters.parts import FinishedParts
from exporters.runners.availability import runs_here
from exporters.spec import check_shapes
from exporters.timing.latency_table.table import LatencyTable, fingerprint
from exporters.variant import Precision
from kprune_export.errors import OutputFolderError, RecipeError, TargetError
from kprune_export.latency_target.figure import draw
from kprune_export.latency_target.profile import profile_target
from kprune_export.latency_target.request import dimensions_of
from kprune_export.latency_target.timed_models import OnnxModels, TorchModels
from kprune_export.output_folder.files import check_new, write_new
from kprune_export.output_folder.inputs import check_apart
from kprune_export.output_folder.work import refuse_links
from kprune_export.pipeline.job import Job, prepare_job
from kprune_export.pipeline.run import Reporter
from kprune_export.pipeline.stages.target import TABLE_BATCHES, alignment, models_of
from kprune_export.recipe.recipe import Recipe
from pruning.methods.placement import placement_on

_MARK = "kprune-parts"
"""In a folder of finished measurements: it is this program's own."""


@dataclass(frozen=True)
class ProfileRequest:
    """What is profiled.

    Attributes:
        recipe: the model, one runtime and precision, the shapes and the threads; its output is the file to write.
        in_torch: whether torch runs it, and not the recipe's runtime.
        plot: where to draw it, if anywhere.

    """

    recipe: Recipe
    in_torch: bool
    plot: Path | None


def profile(request: ProfileRequest, reporter: Reporter) -> LatencyTable:
    """Measure a latency table and write it; nothing is left where that fails.

    Where it is interrupted, what was measured stays beside the file for the next run of the same command.

    Raises:
        OutputFolderError: a file to write is there already, its folder is not, or it lies in the model.
        VariantError: the runtime cannot run the precision.
        TargetError: the runtime cannot be timed here.
        CheckpointError, ShapeError: the model or a shape cannot be used.

    """
    recipe = request.recipe
    check_apart([("latency table", recipe.output), ("plot", request.plot)], recipe.inputs)
    for path in filter(None, (recipe.output, request.plot)):
        check_new(path)
    if len(recipe.variants) != 1:
        raise RecipeError("A table is of one runtime and one precision: name one of each.")
    if not request.in_torch and not runs_here(recipe.runtime[0]):
        raise TargetError(f"{recipe.variants[0]} cannot be timed here: torch finds no GPU.")
    job = prepare_job(recipe, prunes=False, exports=not request.in_torch, measures=False)
    check_shapes(recipe.parsed_shapes, job.source.max_positions)
    models = _torch_models(job) if request.in_torch else models_of(job, TABLE_BATCHES)
    with _parts(job, models, recipe.output) as parts:
        with reporter.stage(1, 1, "Measuring what widths cost") as progress:
            table = profile_target(
                job.source, models, recipe.parsed_shapes, alignment(job), job.threads, job.machine, progress, parts
            )
        plot = draw(table) if request.plot else None
        write_new(recipe.output, table.to_json())
    if request.plot and plot:
        write_new(request.plot, plot)
    return table


@contextlib.contextmanager
def _parts(job: Job, models: OnnxModels | TorchModels, output: Path) -> Iterator[FinishedParts]:
    """Keep finished models' times in a hidden folder beside the file, until it is written, or cannot be."""
    decided_by = {
        "dimensions": dimensions_of(job.source).model_dump(),
        "precision": models.precision.value,
        "shapes": [str(shape) for shape in job.recipe.parsed_shapes],
        "align": alignment(job),
        "calibration": job.calibration_record.sha256,
        "machine": fingerprint(job.machine, job.threads, models.runtime),
        "versions": job.versions,
    }
    folder = output.with_name(f".{output.name}.unfinished")
    refuse_links([folder])
    if folder.exists() and not (folder / _MARK).is_file():
        raise OutputFolderError(f"{folder}, where measurements are kept, holds something else: move it away.")
    try:
        folder.mkdir(exist_ok=True)
        (folder / _MARK).touch()
        yield FinishedParts(folder, json.dumps([models.runtime, decided_by], sort_keys=True))
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder)


def _torch_models(job: Job) -> OnnxModels | TorchModels:
    device, precision = placement_on(job.recipe.device, False).device, job.recipe.precision[0]
    if precision is Precision.INT8 or (device.type == "cpu" and precision is not Precision.FP32):
        raise VariantError(
            f"torch on {device.type} is not timed in {precision}: ask for fp32, or on a GPU fp16 or bf16."
        )
    return TorchModels(job.source.reload, precision, torch.device(device))
