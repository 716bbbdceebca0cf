"""Write a Triton model repository into the bundle."""

from typing import Any

from kprune_export.bundle.layout import CHECKPOINT, ENGINES, FIDELITY, GATES, LATENCY, ONNX_FOLDER, PARITY, PLAN, TRITON
from kprune_export.errors import RecipeError
from kprune_export.gates.report import GatesReport
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.stages.stage import Stage, StageContext
from kprune_export.recipe.recipe import Recipe
from kprune_export.triton.encoders import choose_variants
from kprune_export.triton.repository import ServedBundle, Serving, plan_repository
from kprune_export.triton.text import check_texts
from pruning.plan import PruningPlan

_OPTIONS = ("triton_name", "triton_backend", "triton_text", "triton_pairs")


class TritonStage(Stage):
    """Make a repository of the run's own files: writes triton/."""

    name = "triton"
    title = "Writing the Triton repository"
    outputs = (TRITON,)
    reads = (PLAN, CHECKPOINT, ONNX_FOLDER, ENGINES, PARITY, FIDELITY, LATENCY, GATES)
    reproducible = False  # batches and instances follow from measured times

    def settings(self, job: Job) -> dict[str, Any]:
        """Return how it is served."""
        recorded = job.recipe.model_dump(mode="json", include=set(_OPTIONS))
        return {"serving": recorded, "variants": list(map(str, job.variants))}

    def execute(self, job: Job, context: StageContext) -> None:
        """Decide and write it, as the command triton does."""
        bundle = ServedBundle(
            files=context.files,
            variants=tuple(map(str, job.variants)),
            task=job.source.task.name,
            labels=job.source.task.labels,
            verdict=GatesReport.read(context.files(GATES)).verdict_in_words,
            plan_sha256=PruningPlan.read(context.files(PLAN)).sha256,
        )
        folder = context.folder / TRITON
        folder.mkdir()
        plan_repository(bundle, serving(job.recipe)).write(folder)
        context.progress(1.0)


def serving(recipe: Recipe) -> Serving:
    """Return what a recipe says of serving."""
    return Serving(
        name=recipe.triton_name, backend=recipe.triton_backend, text=recipe.triton_text, pairs=recipe.triton_pairs
    )


def check_serving(job: Job) -> None:
    """Find out before anything is pruned what would stop the repository at the end.

    Raises:
        RecipeError: settings of a repository without one, or a name that cannot be a model's.
        BundleError: the backend can serve none of the variants, or texts cannot be taken for this model.
        MissingRuntimeError: tritonclient is not installed.

    """
    recipe = job.recipe
    if not recipe.triton:
        for name in _OPTIONS:
            if getattr(recipe, name) != Recipe.model_fields[name].default:
                raise RecipeError(f"{name} is given, but no repository is asked for: add --triton (triton: true).")
        return
    wanted = serving(recipe)
    wanted.check()
    choose_variants(tuple(map(str, job.variants)), wanted.variants, wanted.backend)
    if wanted.text:
        check_texts(job.source, wanted.pairs)
