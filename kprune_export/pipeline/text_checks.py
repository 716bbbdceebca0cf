"""Checks, before any work, that a run's texts have what its gates and options ask for."""

from kprune_export.errors import RecipeError
from kprune_export.evaluation import evaluation_of
from kprune_export.evaluation.labels import check_label_column
from kprune_export.evaluation.retrieval_metrics import INDEX, TOP
from kprune_export.evaluation.retrieval_set import is_relevance
from kprune_export.pipeline.texts import RunTexts, Sources
from kprune_export.recipe.gates import RETRIEVAL_GATES
from kprune_export.recipe.recipe import Recipe
from pruning.tasks import Task


def check_labels(recipe: Recipe, task: Task, sources: Sources, *, measures: bool) -> None:
    """Say which columns there are where no labels can be found: an error if they are asked for, else a note.

    Args:
        recipe: the settings.
        task: what the model is for.
        sources: what the files hold.
        measures: whether anything is measured, so that labels are used.

    Raises:
        LabelError: labels are asked for, and the file has no column of them.

    """
    if not measures or sources.retrieval is not None:
        return
    asked_by = "--label-column" if recipe.label_column is not None else None
    asked_by = "--min-metric" if recipe.min_metric is not None else asked_by
    source, origin = sources.calibration, recipe.calibration or "the embedded calibration texts"
    if recipe.evaluation is not None:
        source, origin = sources.evaluation, recipe.evaluation
    if source is None or not (evaluation_of(task).searches and is_relevance(source)):
        check_label_column(task, source, origin, asked_by)


def check_retrieval_gates(recipe: Recipe, task: Task, texts: RunTexts) -> None:
    """Refuse gates about what an embedder finds where that is not measured, or where they could not fail.

    Raises:
        RecipeError: the task has no such figures, no relevant documents are known, or there are too few texts.

    """
    asked = [name for name in RETRIEVAL_GATES if getattr(recipe, name) is not None]
    if not asked:
        return
    flag = f"--{asked[0].replace('_', '-')}"
    if not evaluation_of(task).searches:
        raise RecipeError(f"{flag} is about what a sentence embedder finds, but the model's task is {task.name}.")
    documents = len(texts.retrieval.documents if texts.retrieval else task.texts(texts.held_out))
    if documents <= TOP + 1:
        raise RecipeError(
            f"{flag} is about the {TOP} nearest of all documents, but there are only {documents}: give more texts with "
            "--evaluation."
        )
    labelled = [name for name in asked if name.removeprefix("min_").removeprefix(INDEX) != "overlap"]
    if labelled and texts.retrieval is None:
        raise RecipeError(
            f"--{labelled[0].replace('_', '-')} needs queries whose relevant documents are known: give --evaluation a "
            "folder with corpus.jsonl, queries.jsonl and qrels/, or a file with the columns query and document."
        )
