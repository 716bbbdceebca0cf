"""The widths of a bundle's or a checkpoint's layers, without loading any weights."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from kprune_export.bundle.inputs import repeatable_settings
from kprune_export.bundle.layout import CHECKPOINT, MANIFEST, PLAN, is_unfinished
from kprune_export.bundle.manifest import Manifest
from kprune_export.errors import BundleError
from kprune_export.recipe.input_names import ELSEWHERE
from pruning.checkpoint.completeness import check_files
from pruning.checkpoint.purpose import find_purpose
from pruning.checkpoint.source import CheckpointFolder, as_checkpoint_errors, find_checkpoint, read_config
from pruning.errors import UnsupportedModelError
from pruning.families import family_of
from pruning.plan import EncoderShape, PruningPlan


class Inspection(BaseModel):
    """What a bundle or a checkpoint keeps of its dense encoder.

    Attributes:
        path: what was inspected.
        kind: ``bundle``, ``pruned checkpoint`` or ``dense checkpoint``.
        verdict: a bundle's verdict.
        task: what it is for; None where that is not supported, or left open.
        family: the architecture.
        shape: the dense encoder's dimensions.
        heads: heads kept by each layer.
        neurons: neurons kept by each layer.
        flops_reduction: the share of FLOPs removed, 0 for a dense checkpoint.
        plan_sha256: the plan's hash, None for a dense checkpoint.

    """

    model_config = ConfigDict(frozen=True)

    path: str
    kind: str
    verdict: str | None
    task: str | None
    family: str
    shape: EncoderShape
    heads: tuple[int, ...]
    neurons: tuple[int, ...]
    flops_reduction: float
    plan_sha256: str | None


def inspect(path: str) -> Inspection:
    """Inspect a bundle, or a checkpoint by its folder or hub id.

    Raises:
        BundleError, PlanError: the bundle is damaged.
        CheckpointError: the path is neither a bundle nor a checkpoint, or its weights are cut short.

    """
    folder = Path(path)
    if (folder / MANIFEST).is_file() or is_unfinished(folder):
        manifest = Manifest.of_bundle(folder)
        if (folder / PLAN).is_file():
            check_files(find_checkpoint(folder / CHECKPOINT))
            return _of_plan(path, "bundle", PruningPlan.read(folder / PLAN), manifest.verdict, manifest.task)
        if (folder / CHECKPOINT).is_dir():
            folder = folder / CHECKPOINT
        else:
            return inspect(_exported_from(folder)).model_copy(
                update={"path": path, "kind": "bundle", "verdict": manifest.verdict, "task": manifest.task}
            )
    checkpoint = find_checkpoint(str(folder), allow_pickle=True)
    check_files(checkpoint)
    plan = checkpoint.plan
    if plan is not None:
        return _of_plan(path, "pruned checkpoint", plan, None, _task(checkpoint))
    family = family_of(checkpoint.model_type)
    with as_checkpoint_errors(checkpoint.path):
        shape = family.encoder_shape(read_config(checkpoint))
    return Inspection(
        path=path,
        kind="dense checkpoint",
        verdict=None,
        task=_task(checkpoint),
        family=family.name,
        shape=shape,
        heads=(shape.heads,) * shape.layers,
        neurons=(shape.neurons,) * shape.layers,
        flops_reduction=0.0,
        plan_sha256=None,
    )


def _exported_from(bundle: Path) -> str:
    """Return the model that a bundle without a checkpoint was exported from."""
    model = str(repeatable_settings(bundle)["model"])
    if model.startswith(ELSEWHERE):
        raise BundleError(
            f"{bundle} holds no checkpoint, and where {model} is, which it was exported from, is not known on this "
            "machine: inspect that checkpoint by its path."
        )
    return model


def _task(checkpoint: CheckpointFolder) -> str | None:
    """Return what a checkpoint is for, by its files alone."""
    try:
        with as_checkpoint_errors(checkpoint.path):
            return find_purpose(checkpoint).task(read_config(checkpoint)).name
    except UnsupportedModelError:
        return None


def _of_plan(path: str, kind: str, plan: PruningPlan, verdict: str | None, task: str | None) -> Inspection:
    return Inspection(
        path=path,
        kind=kind,
        verdict=verdict,
        task=task,
        family=plan.family,
        shape=plan.shape,
        heads=tuple(len(layer.heads) for layer in plan.layers),
        neurons=tuple(len(layer.neurons) for layer in plan.layers),
        flops_reduction=plan.flops_reduction,
        plan_sha256=plan.sha256,
    )
