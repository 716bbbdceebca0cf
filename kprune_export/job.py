"""A checked request: the model loaded, the texts read, every setting known to be usable.

Building a job writes nothing, so whatever is wrong with the input is found before the output folder is
touched.
"""

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from exporters.machine import MachineRecord, describe_machine, installed_versions
from exporters.spec import Shape, check_shapes
from kprune_export.bundle.manifest import SourceRecord, TextsRecord
from kprune_export.errors import RecipeError
from kprune_export.labels import TaskLabels, task_labels
from kprune_export.recipe import Recipe
from pruning.calibration.batches import make_batches
from pruning.calibration.docstrings import docstring_examples
from pruning.calibration.examples import (
    Example,
    examples_sha256,
    flatten_pairs,
    read_examples,
    split_examples,
)
from pruning.checkpoint.load import EncoderCheckpoint, load_checkpoint
from pruning.checkpoint.source import CONFIG_FILE, file_sha256
from pruning.errors import CheckpointError
from pruning.flops import check_reduction
from pruning.kprune.loop import check_budget
from pruning.prune import check_tokens
from pruning.tasks import TaskKind

EMBEDDED_TEXTS = "embedded: docstrings of the installed packages"


@dataclass
class Job:
    """What the stages work on.

    Attributes:
        recipe: the settings.
        prunes: whether the run prunes its source.
        measures: whether it measures fidelity and latency.
        bundle: the bundle whose files are validated, where there is one.
        source: the checkpoint that the run starts from; pruning cuts its model in place.
        calibration: the texts to calibrate on; empty where nothing is pruned.
        held_out: the texts that fidelity is measured on; empty where it is not measured.
        labels: the held-out texts' labels, where there are usable ones.
        shapes: the shapes that latency is measured at.
        threads: how many threads everything runs with.

    """

    recipe: Recipe
    prunes: bool
    measures: bool
    source: EncoderCheckpoint
    calibration: tuple[Example, ...]
    held_out: tuple[Example, ...]
    labels: TaskLabels | None
    shapes: tuple[Shape, ...]
    threads: int
    bundle: Path | None = None
    _dense_is_untouched: bool = field(default=True, repr=False)

    def take_dense(self) -> EncoderCheckpoint:
        """Return the source, to be changed by the caller; loaded anew after the first time."""
        if not self._dense_is_untouched:
            return load_checkpoint(self.source.folder.path, self.recipe.allow_pickle)
        self._dense_is_untouched = False
        return self.source

    @property
    def ships_checkpoint(self) -> bool:
        """Whether what is exported is a pruned checkpoint among the run's files, and not the source."""
        return self.prunes or self.bundle is not None

    @cached_property
    def recorded_recipe(self) -> dict[str, Any]:
        """The settings that decide this run's result."""
        return self.recipe.for_record(prunes=self.prunes, measures=self.measures)

    @cached_property
    def source_record(self) -> SourceRecord:
        """The source's hashes."""
        folder = self.source.folder
        tokenizer = folder.path / "tokenizer.json"
        return SourceRecord(
            model=self.recipe.model,
            weights_sha256=folder.weights_sha256(),
            config_sha256=file_sha256(folder.path / CONFIG_FILE),
            tokenizer_sha256=file_sha256(tokenizer if tokenizer.is_file() else folder.companions()[0]),
        )

    @cached_property
    def calibration_record(self) -> TextsRecord:
        """The calibration texts' hash."""
        return _texts_record(self.recipe.calibration or EMBEDDED_TEXTS, self.calibration)

    @cached_property
    def held_out_record(self) -> TextsRecord:
        """The held-out texts' hash."""
        source = self.recipe.evaluation or self.recipe.calibration or EMBEDDED_TEXTS
        return _texts_record(source, self.held_out)

    @cached_property
    def machine(self) -> MachineRecord:
        """The machine, described once."""
        return describe_machine()

    @cached_property
    def versions(self) -> dict[str, str]:
        """The versions that results depend on."""
        return installed_versions()


def thread_count(recipe: Recipe) -> int:
    """Return how many threads a recipe asks for: all that the process may use unless it says."""
    return recipe.threads or len(os.sched_getaffinity(0))


def prepare_job(recipe: Recipe, *, prunes: bool, measures: bool) -> Job:
    """Load and check everything that a run needs; write nothing.

    Args:
        recipe: the settings.
        prunes: whether the run prunes, so that the source must be dense and calibration texts are read.
        measures: whether it measures fidelity and latency, so that held-out texts and shapes are needed.

    Raises:
        CheckpointError: the model cannot be used.
        CalibrationError: the texts cannot be used.
        BudgetError: the FLOPs reduction is not in (0, 1).
        ShapeError: a shape is malformed or longer than the model reads.
        LabelError: labels are asked for, and do not fit.
        RecipeError: settings contradict each other.

    """
    threads = thread_count(recipe)
    torch.set_num_threads(threads)
    if prunes:
        check_reduction(recipe.flops_reduction)
    source = load_checkpoint(recipe.model, recipe.allow_pickle)
    shapes = recipe.parsed_shapes if measures else ()
    check_shapes(shapes, source.max_positions)
    if prunes and source.plan is not None:
        raise CheckpointError(
            f"{recipe.model} is pruned already, by {source.plan.flops_reduction:.1%}: prune the dense checkpoint that "
            "it came from."
        )
    calibration, held_out = _texts(recipe, prunes=prunes, measures=measures)
    if prunes:
        check_budget(source.open().shape, recipe.pruning)
        texts = flatten_pairs(calibration) if source.task.kind is TaskKind.EMBEDDING else calibration
        check_tokens(make_batches(source.tokenizer, texts, source.max_tokens), source.open().shape)
    required = recipe.min_metric is not None or recipe.label_column is not None
    labels = task_labels(source.task, held_out, required) if measures else None
    return Job(recipe, prunes, measures, source, tuple(calibration), tuple(held_out), labels, shapes, threads)


def _texts(recipe: Recipe, *, prunes: bool, measures: bool) -> tuple[list[Example], list[Example]]:
    """Return the calibration and the held-out texts; the evaluation file, where given, is held out whole."""
    calibration: list[Example] = []
    held_out: list[Example] = []
    if prunes or not recipe.evaluation:
        if recipe.calibration is None:
            found = docstring_examples(recipe.samples + recipe.held_out, recipe.seed)
        else:
            found = read_examples(recipe.calibration, recipe.columns)
        calibration, held_out = split_examples(found, recipe.samples, recipe.held_out, recipe.seed)
    if measures and recipe.evaluation:
        held_out = read_examples(recipe.evaluation, recipe.columns)
        if len(held_out) < 2:
            raise RecipeError(f"{recipe.evaluation} holds a single text, but fidelity needs at least two.")
    return calibration if prunes else [], held_out if measures else []


def _texts_record(source: str, examples: tuple[Example, ...]) -> TextsRecord:
    return TextsRecord(source=source, texts=len(examples), sha256=examples_sha256(examples))
