"""The texts of a run: those to calibrate on, and those held out, which pruning never sees."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kprune_export.errors import LabelError, RecipeError
from kprune_export.evaluation import evaluation_of
from kprune_export.evaluation.retrieval_set import (
    RetrievalSet,
    is_relevance,
    is_retrieval_folder,
    read_retrieval_folder,
    retrieval_of_pairs,
)
from kprune_export.recipe.gates import RETRIEVAL_GATES
from kprune_export.recipe.recipe import Recipe
from pruning.calibration.docstrings import docstring_examples
from pruning.calibration.examples import Columns, Example, TextSource, read_source, split_examples
from pruning.errors import CalibrationError
from pruning.tasks import Task

logger = logging.getLogger(__name__)

RECOVERY_DOCSTRINGS = 4_000
"""How many more of the embedded texts are read where a pruned model is trained on them."""
EMBEDDED_TEXTS = "embedded: docstrings of the installed packages"


@dataclass(frozen=True)
class Sources:
    """What the files that a recipe names hold, before a model decides how they are used.

    Attributes:
        evaluation: the evaluation texts; None where there are none, or they are a retrieval data set.
        retrieval: the retrieval data set that the recipe names for evaluation.
        calibration: the calibration texts; None for the embedded ones, or where none are needed.
        problem: why calibration texts could not be read that the run can do without.

    """

    evaluation: TextSource | None = None
    retrieval: RetrievalSet | None = None
    calibration: TextSource | None = None
    problem: str | None = None


@dataclass(frozen=True)
class RunTexts:
    """The texts of a run.

    Attributes:
        calibration: the texts to calibrate on; empty where nothing is pruned or quantized.
        held_out: the texts that fidelity is measured on; empty where it is not measured.
        left_out: how many texts were not calibrated on because they are among those held out.
        retrieval: which of the held-out texts are queries and documents; None where it is not known.
        problem: why there are no texts to calibrate on, where the run can do without.
        recovery: the texts that a pruned model may be trained on, none of which is held out.

    """

    calibration: tuple[Example, ...] = ()
    held_out: tuple[Example, ...] = ()
    left_out: int = 0
    retrieval: RetrievalSet | None = None
    problem: str | None = None
    recovery: tuple[Example, ...] = ()


def read_sources(recipe: Recipe, *, calibrates: bool, optional: bool = False) -> Sources:
    """Read the files that a recipe names.

    Args:
        recipe: the settings.
        calibrates: whether texts are calibrated on; else calibration texts are only read to hold some of them out.
        optional: whether the run can do without calibration texts that are not there.

    Raises:
        CalibrationError: texts cannot be read.
        LabelError: a retrieval data set's files do not fit together, or a label column is named for one.
        RecipeError: there are too few evaluation texts.

    """
    sources = Sources()
    if recipe.evaluation is not None and is_retrieval_folder(recipe.evaluation):
        if recipe.label_column is not None:
            raise LabelError(
                f"--label-column is for files with columns, but {recipe.evaluation} is a folder, whose relevant "
                "documents are named in qrels/."
            )
        sources = Sources(retrieval=read_retrieval_folder(recipe.evaluation))
    elif recipe.evaluation is not None:
        sources = Sources(evaluation=read_source(recipe.evaluation, recipe.columns))
        if sources.evaluation and len(sources.evaluation.examples) < 2:
            raise RecipeError(f"{recipe.evaluation} holds a single text, but fidelity needs at least two.")
    if recipe.calibration is None or not (calibrates or recipe.evaluation is None):
        return sources
    label = recipe.label_column if recipe.evaluation is None else None  # labels are only used of what is held out
    try:
        columns = Columns(recipe.text_column, recipe.pair_column, label)
        return replace(sources, calibration=read_source(recipe.calibration, columns))
    except CalibrationError as error:
        if not optional or recipe.evaluation is None:
            raise
        return replace(sources, problem=str(error))


def choose_texts(
    recipe: Recipe,
    task: Task,
    *,
    calibrates: bool,
    measures: bool,
    optional: bool = False,
    sources: Sources | None = None,
) -> RunTexts:
    """Split a recipe's texts so that what is held out is not calibrated on.

    The evaluation texts, where they are given, are held out whole; otherwise a part of the calibration
    texts is. A text is what the model reads at a time: a pair for tasks on pairs, each text of a pair for
    a sentence embedder.

    Args:
        recipe: the settings.
        task: what the model is for.
        calibrates: whether texts to calibrate on are chosen.
        measures: whether held-out texts are measured on.
        optional: whether the run can do without texts to calibrate on.
        sources: what `read_sources` returned; read now unless given.

    Raises:
        CalibrationError: texts cannot be read, or none is left to calibrate on.
        LabelError: the model's task has no use for a retrieval data set, or one of pairs is damaged.
        RecipeError: there are too few evaluation texts.

    """
    if sources is None:
        sources = read_sources(recipe, calibrates=calibrates, optional=optional)
    held_out, retrieval = _evaluation(recipe, sources, task)
    if recipe.evaluation and (not calibrates or sources.problem):
        return RunTexts(held_out=held_out, retrieval=retrieval, problem=sources.problem)
    found = sources.calibration.examples if sources.calibration else _embedded(recipe)
    rest, kept_back = split_examples(found, len(found), 0 if recipe.evaluation else recipe.held_out, recipe.seed)
    if not recipe.evaluation:
        held_out = tuple(kept_back)
        if sources.calibration is not None and measures:
            retrieval = _of_pairs(recipe, replace(sources.calibration, examples=held_out), task)
    chosen = RunTexts(held_out=held_out if measures else (), retrieval=retrieval if measures else None)
    if not calibrates:
        return chosen
    unseen, left_out = leave_out(rest, held_out, task)
    if left_out:
        logger.warning("%d calibration texts are among those held out, and are not calibrated on.", left_out)
    if not unseen:
        problem = (
            f"All {left_out} calibration texts are among those held out, so none is left to calibrate on: give other "
            "texts with --calibration or --evaluation."
        )
        if optional:
            return replace(chosen, problem=problem)
        raise CalibrationError(problem)
    return replace(
        chosen,
        calibration=tuple(unseen[: recipe.samples]),
        left_out=left_out,
        recovery=tuple(_recovery(recipe, unseen, held_out, task)),
    )


def _embedded(recipe: Recipe) -> tuple[Example, ...]:
    more = RECOVERY_DOCSTRINGS if recipe.recover == "on" and recipe.recover_texts is None else 0
    return tuple(docstring_examples(recipe.samples + recipe.held_out + more, recipe.seed))


def _recovery(recipe: Recipe, unseen: list[Example], held_out: Sequence[Example], task: Task) -> list[Example]:
    if recipe.recover == "off":
        return []
    if recipe.recover_texts is None:
        return unseen
    read = read_source(recipe.recover_texts, Columns(recipe.text_column, recipe.pair_column)).examples
    found, seen = leave_out(read, held_out, task)
    if seen:
        logger.warning("%d recovery texts are among those held out, and are not trained on.", seen)
    return found


def leave_out(examples: Sequence[Example], held_out: Sequence[Example], task: Task) -> tuple[list[Example], int]:
    """Return examples as a task's model reads them without those that are held out, and how many these were."""
    read = task.texts(examples)
    known = {(example.text, example.pair) for example in task.texts(held_out)}
    unseen = [example for example in read if (example.text, example.pair) not in known]
    return unseen, len(read) - len(unseen)


def _evaluation(recipe: Recipe, sources: Sources, task: Task) -> tuple[tuple[Example, ...], RetrievalSet | None]:
    if sources.retrieval is not None:
        if not evaluation_of(task).searches:
            raise LabelError(
                f"{recipe.evaluation} is a folder, a retrieval data set, which is for sentence embedders, but the "
                f"model's task is {task.name}: give a file of texts with --evaluation."
            )
        return sources.retrieval.examples, sources.retrieval
    if sources.evaluation is None:
        return (), None
    return sources.evaluation.examples, _of_pairs(recipe, sources.evaluation, task)


def _of_pairs(recipe: Recipe, source: TextSource, task: Task) -> RetrievalSet | None:
    """Return the retrieval task that an embedder's pairs are; unusable ones are an error only where they are needed."""
    if not (evaluation_of(task).searches and is_relevance(source)):
        return None
    try:
        return retrieval_of_pairs(source, str(recipe.evaluation or recipe.calibration))
    except LabelError as error:
        asked = ("label_column", "min_metric", *RETRIEVAL_GATES)
        if any(getattr(recipe, name) is not None for name in asked):
            raise
        logger.warning("Retrieval is not measured: %s", error)
        return None
