"""The texts of a run: those to calibrate on, and those held out, which pruning never sees."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from kprune_export.errors import RecipeError
from kprune_export.recipe import Recipe
from pruning.calibration.docstrings import docstring_examples
from pruning.calibration.examples import Example, read_examples, split_examples
from pruning.errors import CalibrationError
from pruning.tasks import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunTexts:
    """The texts of a run.

    Attributes:
        calibration: the texts to calibrate on; empty where nothing is pruned or quantized.
        held_out: the texts that fidelity is measured on; empty where it is not measured.
        left_out: how many texts were not calibrated on because they are among those held out.

    """

    calibration: tuple[Example, ...] = ()
    held_out: tuple[Example, ...] = ()
    left_out: int = 0


def choose_texts(recipe: Recipe, task: Task, *, calibrates: bool, measures: bool) -> RunTexts:
    """Read a recipe's texts and part them so that what is held out is not calibrated on.

    The evaluation texts, where they are given, are held out whole; otherwise a part of the calibration
    texts is. A text is what the model reads at a time: a pair for tasks on pairs, each text of a pair for
    a sentence embedder.

    Raises:
        CalibrationError: texts cannot be read, or none is left to calibrate on.
        RecipeError: there are too few evaluation texts.

    """
    held_out = _evaluation(recipe)
    if recipe.evaluation and not calibrates:
        return RunTexts(held_out=tuple(held_out))
    if recipe.calibration is None:
        found = docstring_examples(recipe.samples + recipe.held_out, recipe.seed)
    else:
        found = read_examples(recipe.calibration, recipe.columns)
    rest, kept_back = split_examples(found, len(found), 0 if recipe.evaluation else recipe.held_out, recipe.seed)
    held_out = held_out or kept_back
    shown = tuple(held_out) if measures else ()
    if not calibrates:
        return RunTexts(held_out=shown)
    unseen, left_out = leave_out(rest, held_out, task)
    if left_out:
        logger.warning("%d calibration texts are among those held out, and are not calibrated on.", left_out)
    if not unseen:
        raise CalibrationError(
            f"All {left_out} calibration texts are among those held out, so none is left to calibrate on: give other "
            "texts with --calibration or --evaluation."
        )
    return RunTexts(tuple(unseen[: recipe.samples]), shown, left_out)


def leave_out(examples: Sequence[Example], held_out: Sequence[Example], task: Task) -> tuple[list[Example], int]:
    """Return examples as a task's model reads them without those that are held out, and how many these were."""
    read = task.texts(examples)
    known = {(example.text, example.pair) for example in task.texts(held_out)}
    unseen = [example for example in read if (example.text, example.pair) not in known]
    return unseen, len(read) - len(unseen)


def _evaluation(recipe: Recipe) -> list[Example]:
    if recipe.evaluation is None:
        return []
    found = read_examples(recipe.evaluation, recipe.columns)
    if len(found) < 2:
        raise RecipeError(f"{recipe.evaluation} holds a single text, but fidelity needs at least two.")
    return found
