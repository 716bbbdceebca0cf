"""Write a Triton model repository into the bundle."""

from typing import Any

from kprune_export.bundle.layout import PLAN, TRITON
from kprune_export.bundle.variant_report import read_proofs
from kprune_export.bundle.verdict import in_words, verdict_of
from kprune_export.errors import RecipeError
from kprune_export.gates.fidelity_limits import fidelity_warnings
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.stages.gates import evaluate_gates
from kprune_export.pipeline.stages.stage import Desk, Stage
from kprune_export.recipe.recipe import GATE_NAMES, Recipe
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
    needs = ("prune", "export", "engines", "parity", "fidelity", "latency")
    reproducible = False  # batches and instances follow from measured times

    def settings(self, job: Job) -> dict[str, Any]:
        """Return how it is served, and the gates, whose verdict the repository tells."""
        recorded = job.recipe.model_dump(mode="json", include={*_OPTIONS, *GATE_NAMES})
        return {"serving": recorded, "variants": list(map(str, job.variants))}

    def execute(self, job: Job, desk: Desk) -> None:
        """Decide and write it, as the command triton does."""
        proofs = read_proofs(job.variants, desk.files, measures=True)
        gates = evaluate_gates(job, proofs, desk.files)
        bundle = ServedBundle(
            files=desk.files,
            variants=tuple(map(str, job.variants)),
            task=job.source.task.name,
            labels=job.source.task.labels,
            verdict=in_words(verdict_of(gates, exported=True), gates, fidelity_warnings(proofs)),
            plan_sha256=PruningPlan.read(desk.files(PLAN)).sha256,
        )
        folder = desk.folder / TRITON
        folder.mkdir()
        plan_repository(bundle, serving(job.recipe)).write(folder)
        desk.progress(1.0)


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
