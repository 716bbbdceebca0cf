"""A checked request: the model loaded, the texts read, every setting known to be usable.

Building a job writes nothing, so whatever is wrong with the input is found before the output folder is
touched.
"""

import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from exporters.machine.cpu_quota import usable_cpus
from exporters.machine.description import MachineRecord, describe_machine, installed_versions
from exporters.openvino.bindings import check_precisions
from exporters.runners.availability import reason_it_does_not, runs_here
from exporters.spec import Shape, check_shapes
from exporters.tensorrt.bindings import load_bindings
from exporters.tensorrt.profiles import choose_profile
from exporters.variant import REFERENCE, Precision, Runtime, Variant
from kprune_export.bundle.manifest import DEFAULT_TEXTS, SourceRecord, TextsRecord
from kprune_export.errors import RecipeError
from kprune_export.evaluation import evaluation_of
from kprune_export.evaluation.base import Evaluation, TaskLabels
from kprune_export.evaluation.labels import task_labels
from kprune_export.evaluation.retrieval_set import RetrievalSet
from kprune_export.latency_target.request import check_target
from kprune_export.pipeline.distributed import own_device
from kprune_export.pipeline.text_checks import check_labels, check_retrieval_gates
from kprune_export.pipeline.texts import RunTexts, choose_texts, read_sources
from kprune_export.recipe.file_names import check_names
from kprune_export.recipe.input_names import shipped_name, shipped_settings
from kprune_export.recipe.recipe import Recipe
from pruning.calibration.batches import BATCH_SIZE
from pruning.calibration.coverage import check_coverage
from pruning.calibration.examples import Example, examples_sha256
from pruning.checkpoint.companions import check_companions
from pruning.checkpoint.load import EncoderCheckpoint, load_checkpoint
from pruning.errors import CheckpointError
from pruning.flops import check_reduction
from pruning.methods import method_for
from pruning.methods.placement import Placement, placement_on
from pruning.prune import check_tokens

logger = logging.getLogger(__name__)


@dataclass
class Job:
    """What the stages work on.

    Attributes:
        recipe: the settings.
        prunes: whether the run prunes its source.
        exports: whether it exports, or checks what was exported.
        measures: whether it measures fidelity and latency.
        bundle: the bundle whose files are validated, where there is one.
        source: the checkpoint that the run starts from; pruning cuts its model in place.
        calibration: the texts to calibrate on; empty where nothing is pruned or quantized.
        held_out: the texts that fidelity is measured on; empty where it is not measured.
        left_out: how many texts are not calibrated on because they are held out.
        labels: the held-out texts' labels, where there are usable ones.
        retrieval: which of the held-out texts are queries and documents, for an embedder; None where it is not known.
        dense_int8_problem: why the dense model in int8 cannot be measured here; None where it can, or is not asked for.
        shapes: the shapes that latency is measured at.
        threads: how many threads everything runs with.
        calibration_unknown: the share of the calibration texts' characters that the tokenizer does not know.
        held_out_unknown: the same of the held-out texts.
        recovery: the texts that the pruned model may be trained on.

    """

    recipe: Recipe
    prunes: bool
    exports: bool
    measures: bool
    source: EncoderCheckpoint
    calibration: tuple[Example, ...]
    held_out: tuple[Example, ...]
    left_out: int
    labels: TaskLabels | None
    shapes: tuple[Shape, ...]
    threads: int
    retrieval: RetrievalSet | None = None
    dense_int8_problem: str | None = None
    calibration_unknown: float = 0.0
    held_out_unknown: float = 0.0
    recovery: tuple[Example, ...] = ()
    bundle: Path | None = None
    _dense_is_untouched: bool = field(default=True, repr=False)

    def take_dense(self) -> EncoderCheckpoint:
        """Return the source, to be changed by the caller; loaded again after the first time.

        Raises:
            CheckpointError: its files have changed since.

        """
        if not self._dense_is_untouched:
            return self.source.reload()
        self._dense_is_untouched = False
        return self.source

    @property
    def ships_checkpoint(self) -> bool:
        """Whether what is exported is a pruned checkpoint among the run's files, and not the source."""
        return self.prunes or self.bundle is not None

    @cached_property
    def recorded_recipe(self) -> dict[str, Any]:
        """The settings that decide this run's result."""
        settings = self.recipe.for_record(prunes=self.prunes, exports=self.exports, measures=self.measures)
        return shipped_settings(settings)

    @cached_property
    def model(self) -> str:
        """The source as it is found from anywhere on this machine: a folder's whole path, or a hub id."""
        return _whole_name(self.recipe)

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """The variants that the run makes or checks."""
        return self.recipe.variants

    @cached_property
    def dense_variants(self) -> tuple[Variant, ...]:
        """The variants of the dense baseline: fp32, in each runtime that is timed, and those of the pruned model."""
        timed = [Variant(x.runtime, Precision.FP32) for x in self.variants if runs_here(x.runtime)]
        return tuple(dict.fromkeys((REFERENCE, *timed, *self.variants)))

    @cached_property
    def dense_int8(self) -> tuple[Variant, ...]:
        """The dense model's int8 variants that are measured beside the pruned ones."""
        return self.recipe.dense_int8_variants if self.measures and self.dense_int8_problem is None else ()

    @cached_property
    def optional_dense(self) -> tuple[Variant, ...]:
        """Those of them that nothing else is compared with, so that the run continues if one cannot be made."""
        return tuple(variant for variant in self.dense_int8 if variant not in self.dense_variants)

    def evaluation(self) -> Evaluation:
        """Return a comparison of two models on the held-out texts, which nothing has been added to."""
        return evaluation_of(self.source.task)(self.source, self.held_out, self.labels, self.retrieval)

    @property
    def compared_by(self) -> dict[str, Any]:
        """What outputs on the held-out texts are compared by, as JSON values."""
        return {"labels": self.labels, "retrieval": self.retrieval.sha256 if self.retrieval else None}

    @property
    def builds_engines(self) -> bool:
        """Whether the run has TensorRT engines."""
        return Runtime.TENSORRT in self.recipe.runtime

    @cached_property
    def largest_batch(self) -> int:
        """How many texts are run at a time: no more than the engines' profiles take, where there are engines."""
        if not self.builds_engines:
            return BATCH_SIZE
        profiles = self.recipe.engine.profiles_for(self.source.max_positions)
        return min(BATCH_SIZE, max(profile.max.batch for profile in profiles))

    @property
    def times_engines(self) -> bool:
        """Whether it can time them, so that the dense baseline needs engines too."""
        return self.builds_engines and self.measures and runs_here(Runtime.TENSORRT)

    @cached_property
    def source_record(self) -> SourceRecord:
        """The hashes of the files that the source was loaded from."""
        identity = self.source.identity
        return SourceRecord(
            model=shipped_name("model", self.recipe.model),
            weights_sha256=identity.weights_sha256,
            config_sha256=identity.config_sha256,
            pooling=self.source.pooled_by,
            tokenizer_sha256=identity.companions_sha256,
            companions=identity.companions,
        )

    @cached_property
    def calibration_record(self) -> TextsRecord:
        """The calibration texts' hash."""
        source = self._texts_source("calibration")
        return _texts_record(source, self.calibration, self.calibration_unknown, self.left_out)

    @cached_property
    def held_out_record(self) -> TextsRecord:
        """The held-out texts' hash."""
        source = self._texts_source("evaluation", "calibration")
        return _texts_record(source, self.held_out, self.held_out_unknown)

    def _texts_source(self, *settings: str) -> str:
        """Return what the bundle says of the texts that the first of some settings names."""
        given = next(((name, getattr(self.recipe, name)) for name in settings if getattr(self.recipe, name)), None)
        return shipped_name(*given) if given else DEFAULT_TEXTS

    @property
    def recovery_source(self) -> str:
        """What the bundle says of the texts that the pruned model is trained on."""
        return self._texts_source("recover_texts", "calibration")

    @cached_property
    def placement(self) -> Placement:
        """Where pruning runs."""
        return placement_on(own_device(self.recipe.device), self.recipe.offload)

    @cached_property
    def machine(self) -> MachineRecord:
        """The machine, described once."""
        return describe_machine()

    @cached_property
    def versions(self) -> dict[str, str]:
        """The versions that results depend on."""
        return installed_versions()


def thread_count(recipe: Recipe) -> int:
    """Return how many threads a recipe asks for: unless it says, as many as its processors and its CPU quota allow."""
    return recipe.threads or usable_cpus()


def prepare_job(recipe: Recipe, *, prunes: bool, exports: bool, measures: bool) -> Job:
    """Load and check everything that a run needs; write nothing.

    Args:
        recipe: the settings.
        prunes: whether the run prunes, so that the source must be dense and calibration texts are read.
        exports: whether it exports, so that variants and engine settings must be possible here.
        measures: whether it measures fidelity and latency, so that held-out texts and shapes are needed.

    Raises:
        CheckpointError: the model cannot be used.
        CalibrationError: the texts cannot be used.
        DeviceError: the device is not here.
        MethodError: there is no such method, or it has no such hyperparameter.
        BudgetError: the FLOPs reduction is not in (0, 1).
        TargetError, TableError: the latency target cannot be searched for.
        ShapeError: a shape is malformed or longer than the model reads.
        LabelError: labels are asked for, and do not fit.
        RecipeError: settings contradict each other.
        SurroundingsError: the model's path is not UTF-8.
        VariantError: a runtime cannot run a precision.
        EngineError: engine settings contradict each other.
        MissingRuntimeError: TensorRT or OpenVINO is asked for and not installed, or the processor lacks a precision.

    """
    check_names((_whole_name(recipe),))
    threads = thread_count(recipe)
    torch.set_num_threads(threads)
    if exports:
        check_variants(recipe, measures=measures)
    if prunes:
        if not recipe.targeted:
            check_reduction(recipe.flops_reduction)
        placement_on(own_device(recipe.device), recipe.offload)
        method_for(recipe.pruning)
    source = load_checkpoint(recipe.model, recipe.allow_pickle, recipe.pooling)
    shapes = recipe.parsed_shapes if measures else ()
    check_shapes(shapes, source.max_positions)
    if prunes:
        _check_dense(recipe, source)
    if exports and Runtime.TENSORRT in recipe.runtime:
        profiles = recipe.engine.profiles_for(source.max_positions)
        for shape in shapes:
            choose_profile(profiles, shape)
    calibrates = prunes or (exports and recipe.quantizes)
    optional = measures and bool(recipe.dense_int8_variants) and not calibrates
    sources = read_sources(recipe, calibrates=calibrates or optional, optional=optional)
    check_labels(recipe, source.task, sources, measures=measures)
    texts = choose_texts(
        recipe,
        source.task,
        calibrates=calibrates or optional,
        measures=measures,
        optional=optional,
        sources=sources,
    )
    if prunes:
        if recipe.targeted:
            check_target(recipe, source, describe_machine(), threads)
        else:
            method_for(recipe.pruning).budget(source.open().shape, recipe.pruning)
        check_tokens(source.batches(texts.calibration, recipe.seed), source.open().shape)
    required = recipe.label_column is not None or (recipe.min_metric is not None and texts.retrieval is None)
    labels = task_labels(source.task, texts.held_out, required) if measures else None
    unknown = _unknown_shares(source, texts)
    _warn(recipe, source, measures=measures)
    job = Job(
        recipe,
        prunes,
        exports,
        measures,
        source,
        texts.calibration,
        texts.held_out,
        texts.left_out,
        labels,
        shapes,
        threads,
        texts.retrieval,
        texts.problem,
        *unknown,
        recovery=texts.recovery,
    )
    if measures:
        job.evaluation()  # raises now what it would raise after pruning
        check_retrieval_gates(recipe, source.task, texts)
    return job


def _whole_name(recipe: Recipe) -> str:
    folder = Path(recipe.model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else recipe.model


def check_variants(recipe: Recipe, *, measures: bool) -> None:
    """Refuse variants that cannot be made here, and gates that cannot be evaluated here.

    Raises:
        VariantError: a runtime cannot run a precision.
        EngineError: engine settings contradict each other.
        MissingRuntimeError: engines are asked for, and TensorRT is not installed.
        RecipeError: a speedup is asked of a runtime that this machine cannot time.

    """
    variants = recipe.variants
    if Runtime.TENSORRT in recipe.runtime:
        load_bindings(recipe.engine.bindings)
    if Runtime.OPENVINO in recipe.runtime:
        check_precisions([variant.precision for variant in variants if variant.runtime is Runtime.OPENVINO])
    untimed = [variant for variant in variants if not runs_here(variant.runtime)]
    if measures and untimed and recipe.min_speedup is not None:
        raise RecipeError(
            f"--min-speedup cannot be evaluated for {', '.join(map(str, untimed))}: "
            f"{reason_it_does_not(untimed[0].runtime)}. Build without that "
            "gate, and set it when you validate the bundle on the machine that will serve it."
        )


def _check_dense(recipe: Recipe, source: EncoderCheckpoint) -> None:
    """Check that a checkpoint is dense, and that a pruned one can carry its tokenizer.

    Raises:
        CheckpointError: it is pruned, or its tokenizer needs what cannot be carried.

    """
    if source.plan is not None:
        raise CheckpointError(
            f"{recipe.model} is pruned already, by {source.plan.flops_reduction:.1%}: prune the dense checkpoint that "
            "it came from."
        )
    check_companions(source)


def _unknown_shares(source: EncoderCheckpoint, texts: RunTexts) -> tuple[float, float]:
    """Return the shares of calibration and of held-out texts that the tokenizer does not know.

    Raises:
        CalibrationError: it knows so little that results would mean nothing.

    """
    calibration = check_coverage(source.tokenizer, texts.calibration, source.max_tokens, "calibration")
    held_out = check_coverage(source.tokenizer, texts.held_out, source.max_tokens, "held-out")
    return calibration.unknown, held_out.unknown


def _warn(recipe: Recipe, source: EncoderCheckpoint, *, measures: bool) -> None:
    """Say what results will not cover: code that is not run, and texts unlike the user's where a gate is about them."""
    for note in source.notes:
        logger.warning("%s", note)
    gated = [name for name in ("min_agreement", "min_metric") if getattr(recipe, name) is not None]
    if measures and gated and recipe.calibration is None and recipe.evaluation is None:
        logger.warning(
            "--%s will be checked on the default texts, sentences from docstrings, which may be unlike yours: give "
            "texts like those that the model will serve with --calibration or --evaluation.",
            gated[0].replace("_", "-"),
        )


def _texts_record(source: str, examples: tuple[Example, ...], unknown: float, left_out: int = 0) -> TextsRecord:
    return TextsRecord(
        source=source,
        texts=len(examples),
        sha256=examples_sha256(examples),
        left_out=left_out,
        unknown_share=round(unknown, 6),
    )
