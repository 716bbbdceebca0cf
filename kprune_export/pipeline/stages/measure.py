"""Measure the exported variants against the dense model: fidelity on held-out texts, and latency."""

import contextlib
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

from exporters.errors import MeasurementError, ParityError
from exporters.onnx.write import GraphRecord
from exporters.open import open_variant, timer_of
from exporters.parity.check import ParityReport
from exporters.parts import FinishedParts
from exporters.runners.availability import runs_here
from exporters.runners.base import Array, Runner
from exporters.runners.onnxruntime_runner import pool_description
from exporters.spec import ModelSpec
from exporters.timing.isolation import PLACE, IsolatedRunner, IsolatedTimer
from exporters.timing.latency import LatencyReport, Measured, measure_latency
from exporters.variant import REFERENCE, Runtime, Variant
from kprune_export.bundle.layout import CHECKPOINT, ENGINES, FIDELITY, GRAPHS, LATENCY, ONNX_FOLDER
from kprune_export.bundle.variant_report import Reports
from kprune_export.evaluation.base import Evaluation, Outputs
from kprune_export.evaluation.fidelity import FidelityReport
from kprune_export.model_export import model_spec
from kprune_export.pipeline.estimates import Pace
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.stages.export import (
    DENSE_ENGINES,
    DENSE_FOLDER,
    VariantFolders,
    dense_folders,
    exported_checkpoint,
    shipped_folders,
)
from kprune_export.pipeline.stages.parity import DENSE_PARITY
from kprune_export.pipeline.stages.stage import ShareDone, Stage, StageContext, part_of
from pruning.calibration.batches import Batch

REMEMBERED_BYTES = 2**28
"""The dense model's outputs on all held-out texts are kept for the next comparison where they are about this small."""


class FidelityStage(Stage):
    """Run the dense model and every variant on the held-out texts and compare: writes fidelity.json."""

    name = "fidelity"
    title = "Measuring fidelity"
    outputs = (FIDELITY,)
    reads = (ONNX_FOLDER, ENGINES, DENSE_FOLDER, DENSE_ENGINES, DENSE_PARITY)

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the texts, what outputs are compared by, the dense model's variants, the processor, and the seed."""
        seed = {"seed": job.recipe.seed} if job.source.task.masks_tokens else {}
        processor = {"instruction_sets": job.machine.instruction_sets}
        return {"texts": job.held_out_record.sha256, **job.compared_by, **_dense_settings(job), **processor, **seed}

    def expected_s(self, job: Job, pace: Pace) -> float:
        """Return a pass over the held-out texts for the dense model and each variant."""
        return 2.0 + (1 + len(job.variants) + len(job.dense_int8)) * pace.held_out_pass_s

    def execute(self, job: Job, context: StageContext) -> None:
        """Compare with the dense model in fp32, and with that in the variant's own precision."""
        shipped, baselines = shipped_folders(job, context.files), dense_folders(job, context.files)
        own, problems = _dense_variants(job, context)
        compared = [
            *((variant, shipped, baseline) for variant in job.variants for baseline in _baselines(variant)),
            *((variant, baselines, REFERENCE) for variant in own),
        ]
        batches = job.evaluation().batches(job.recipe.seed, job.largest_batch)
        reports: dict[str, FidelityReport] = {}
        dense: dict[str, FidelityReport] = {}
        remembered: dict[int, Outputs] = {}
        for done, (variant, folders, baseline) in enumerate(compared):
            evaluation = job.evaluation()
            known = remembered if baseline == REFERENCE else {}
            with (
                open_variant(baseline, *baselines, job.threads) as reference,
                open_variant(variant, *folders, job.threads) as candidate,
            ):
                parts = context.parts.within(_part_name(variant, baseline, dense=folders is baselines))
                share = part_of(context.progress, done, len(compared))
                _evaluate(evaluation, batches, reference, candidate, known, parts, share)
                runtime = candidate.name
            if baseline == REFERENCE:
                report = _report(evaluation, job, sum(len(batch.rows) for batch in batches), runtime)
                (reports if folders is shipped else dense)[str(variant)] = report
            else:
                report = reports[str(variant)]
                reports[str(variant)] = report.model_copy(update={"baseline_measures": evaluation.fidelity()})
        Reports(variants=reports, dense=dense, problems=problems).write(context.folder / FIDELITY)


class LatencyStage(Stage):
    """Time every variant that runs here against the dense model: writes latency.json."""

    name = "latency"
    title = "Measuring latency"
    outputs = (LATENCY,)
    reads = (CHECKPOINT, ONNX_FOLDER, ENGINES, DENSE_FOLDER, DENSE_ENGINES, DENSE_PARITY)
    reproducible = False
    timed = True

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the shapes, how long is measured, the dense model's variants, and the machine without its load."""
        return {
            "shapes": [str(shape) for shape in job.shapes],
            "seconds": job.recipe.timing_seconds,
            "isolate": job.recipe.isolate,
            **_dense_settings(job),
            "machine": job.machine.model_dump(exclude={"load_1min"}),
        }

    def expected_s(self, job: Job, pace: Pace) -> float:
        """Return the time that each pair of models is timed for, at each shape, with the check of the machine."""
        pairs = sum(len(_baselines(x, x.runtime)) for x in job.variants) + len(job.dense_int8)
        calls = sum(shape.batch * shape.sequence for shape in job.shapes) * pace.token_s
        return pairs * (2.0 + len(job.shapes) * 2.5 * job.recipe.timing_seconds + 10 * calls)

    def execute(self, job: Job, context: StageContext) -> None:
        """Time each variant against dense fp32 in the same runtime, and against dense in its own precision."""
        shipped, baselines = shipped_folders(job, context.files), dense_folders(job, context.files)
        timed = [variant for variant in job.variants if runs_here(variant.runtime)]
        own = [variant for variant in _dense_variants(job, context)[0] if runs_here(variant.runtime)]
        compared = [
            *((variant, shipped, baseline) for variant in timed for baseline in _baselines(variant, variant.runtime)),
            *((variant, baselines, Variant(variant.runtime, REFERENCE.precision)) for variant in own),
        ]
        spec = model_spec(exported_checkpoint(job, context.files), job.versions)
        reports: dict[str, LatencyReport] = {}
        dense: dict[str, LatencyReport] = {}
        for done, (variant, folders, baseline) in enumerate(compared):
            share = part_of(context.progress, done, len(compared))
            parts = context.parts.within(_part_name(variant, baseline, dense=folders is baselines))
            report = _time(job, spec, Pair(baseline, baselines, variant, folders), parts, share)
            if folders is baselines:
                dense[str(variant)] = report
            elif str(variant) in reports:
                reports[str(variant)] = reports[str(variant)].model_copy(update={"baseline_shapes": report.shapes})
            else:
                reports[str(variant)] = report
        Reports(variants=reports, dense=dense).write(context.folder / LATENCY)


class Pair(NamedTuple):
    """Two models that are timed in turn: what a speedup is over, and what has it, each with its folders."""

    reference: Variant
    reference_folders: VariantFolders
    candidate: Variant
    candidate_folders: VariantFolders


def _dense_settings(job: Job) -> dict[str, Any]:
    """Return which of the dense model's own variants are measured, and why one that was asked for cannot be."""
    return {"dense": [str(variant) for variant in job.dense_int8], "dense_problem": job.dense_int8_problem}


def _dense_variants(job: Job, context: StageContext) -> tuple[list[Variant], dict[str, str]]:
    """Return the dense model's int8 variants that can be measured, and the reasons of those that cannot."""
    if job.dense_int8_problem is not None:
        return [], {str(variant): job.dense_int8_problem for variant in job.recipe.dense_int8_variants}
    problems = dict(Reports[GraphRecord].read(context.files(DENSE_FOLDER) / GRAPHS).problems)
    for name, report in Reports[ParityReport].read(context.files(DENSE_PARITY)).dense.items():
        try:
            report.raise_if_failed()
        except ParityError as error:
            problems[name] = str(error)
    return [variant for variant in job.dense_int8 if str(variant) not in problems], problems


def _baselines(variant: Variant, runtime: Runtime = REFERENCE.runtime) -> tuple[Variant, ...]:
    """Return what a variant is compared with: the dense model in fp32, and in the variant's own precision."""
    return tuple(dict.fromkeys((Variant(runtime, REFERENCE.precision), variant)))


def _evaluate(
    evaluation: Evaluation,
    batches: Sequence[Batch],
    dense: Runner,
    pruned: Runner,
    known: dict[int, Outputs],
    parts: FinishedParts,
    progress: ShareDone,
) -> None:
    """Run two models on all batches; the first one's outputs are kept in ``known`` as far as they are small."""
    for number, batch in enumerate(batches):

        def run(number: int = number, batch: Batch = batch) -> dict[str, Array]:
            feeds = {spec.name: batch.inputs[spec.name].numpy() for spec in dense.inputs}
            outputs = known[number] if number in known else dense.run(feeds)
            if sum(array.nbytes for array in outputs.values()) * len(batches) <= REMEMBERED_BYTES:
                known[number] = outputs
            return evaluation.reduce(batch, outputs, pruned.run(feeds))

        evaluation.take(batch, parts.arrays_once(f"batch-{number:06d}", run))
        progress((number + 1) / len(batches))


def _report(evaluation: Evaluation, job: Job, texts: int, runtime: str) -> FidelityReport:
    first, *further = evaluation.metrics() or (None,)
    measures = evaluation.fidelity()
    values = [x.value for x in measures] + [y for x in (first, *further) if x for y in (x.dense, x.pruned)]
    if not all(map(math.isfinite, values)):
        raise MeasurementError(
            "A figure of fidelity is not a finite number, so that nothing can be said about it: the outputs are too "
            "large to compare."
        )
    return FidelityReport(
        task=job.source.task.name,
        texts=texts,
        distinct_texts=job.source.distinct_inputs(job.held_out),
        documents=evaluation.documents,
        texts_sha256=job.held_out_record.sha256,
        runtime=runtime,
        instruction_sets=job.machine.instruction_sets,
        measures=measures,
        metric=first,
        further_metrics=tuple(further),
    )


def _part_name(variant: Variant, baseline: Variant, *, dense: bool) -> str:
    return f"{'dense-' if dense else ''}{variant}-{baseline}"


def _time(job: Job, spec: ModelSpec, pair: Pair, parts: FinishedParts, progress: ShareDone) -> LatencyReport:
    reference, reference_folders, candidate, folders = pair
    subject = Measured(
        dense_bytes=_size(reference, reference_folders),
        pruned_bytes=_size(candidate, folders),
        threads=job.threads,
        machine=job.machine,
    )
    timer = timer_of(candidate)
    isolates = job.recipe.isolate

    def opened(opener: Callable[[], AbstractContextManager[Runner]]) -> AbstractContextManager[Runner]:
        return IsolatedRunner(opener, job.threads, timer) if isolates else opener()

    open_dense = partial(open_variant, reference, *reference_folders, job.threads, timed=True)
    with contextlib.ExitStack() as stack:
        dense = stack.enter_context(opened(open_dense))
        pruned = stack.enter_context(opened(partial(open_variant, candidate, *folders, job.threads, timed=True)))
        again = None
        if reference.precision is REFERENCE.precision:  # the machine is checked with what speedups are relative to
            again = stack.enter_context(opened(open_dense))
        return measure_latency(
            dense,
            pruned,
            spec,
            job.shapes,
            subject,
            PLACE if isolates else f"in one process with {pool_description()}",
            job.recipe.timing,
            progress,
            IsolatedTimer(timer) if isolates else timer,
            again,
            parts,
        )


def _size(variant: Variant, folders: VariantFolders) -> int:
    return Reports[GraphRecord].read_one(folders.graphs / GRAPHS, variant).file.size_bytes
