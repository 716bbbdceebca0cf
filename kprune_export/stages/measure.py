"""Measure the exported variants against the dense model: fidelity on held-out texts, and latency."""

import contextlib
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from exporters.errors import MeasurementError
from exporters.fidelity import FidelityReport
from exporters.isolation import PLACE, IsolatedRunner, IsolatedTimer
from exporters.latency import LatencyReport, Measured, measure_latency
from exporters.parts import FinishedParts
from exporters.runners.available import runs_here
from exporters.runners.base import Array, Runner
from exporters.runners.onnxruntime_runner import pool_description
from exporters.spec import ModelSpec
from exporters.variants import REFERENCE, GraphRecord, Runtime, Variant
from kprune_export.bundle.layout import FIDELITY, GRAPHS, LATENCY
from kprune_export.evaluation import EVALUATIONS
from kprune_export.evaluation.base import Evaluation
from kprune_export.job import Job
from kprune_export.proof import Reports
from kprune_export.stages.base import Desk, ShareDone, Stage, part_of
from kprune_export.stages.export import dense_folders, exported_checkpoint, model_spec, shipped_folders
from kprune_export.stages.runners import open_variant, timer_of
from pruning.calibration.batches import Batch


class FidelityStage(Stage):
    """Run the dense model and every variant on the held-out texts and compare: writes fidelity.json."""

    name = "fidelity"
    title = "Measuring fidelity"
    outputs = (FIDELITY,)
    needs = ("export", "engines", "dense-twin", "dense-engines", "dense-parity")

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the texts, their labels, the processor, and the seed where it decides what is masked."""
        seed = {"seed": job.recipe.seed} if job.source.task.masks_tokens else {}
        processor = job.machine.instruction_sets
        return {"texts": job.held_out_record.sha256, "labels": job.labels, "instruction_sets": processor, **seed}

    def execute(self, job: Job, desk: Desk) -> None:
        """Compare with the dense model in fp32, and with that in the variant's own precision."""
        shipped, twins = shipped_folders(job, desk.files), dense_folders(job, desk.files)
        pairs = [(variant, twin) for variant in job.variants for twin in _twins(variant)]
        batches = _evaluation(job).batches(job.recipe.seed, job.largest_batch)
        reports: dict[str, FidelityReport] = {}
        for done, (variant, twin) in enumerate(pairs):
            evaluation = _evaluation(job)
            with (
                open_variant(twin, *twins, job.threads) as dense,
                open_variant(variant, *shipped, job.threads) as pruned,
            ):
                parts, progress = desk.parts.within(f"{variant}-{twin}"), part_of(desk.progress, done, len(pairs))
                _evaluate(evaluation, batches, dense, pruned, parts, progress)
                runtime = pruned.name
            if twin == REFERENCE:
                reports[str(variant)] = _report(evaluation, job, sum(len(batch.rows) for batch in batches), runtime)
            else:
                report = reports[str(variant)]
                reports[str(variant)] = report.model_copy(update={"twin_measures": evaluation.fidelity()})
        Reports[FidelityReport](variants=reports).write(desk.folder / FIDELITY)


class LatencyStage(Stage):
    """Time every variant that runs here against the dense model: writes latency.json."""

    name = "latency"
    title = "Measuring latency"
    outputs = (LATENCY,)
    needs = ("export", "engines", "dense-twin", "dense-engines", "dense-parity")
    reproducible = False
    timed = True

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the shapes, how long is measured, and the machine without its load."""
        return {
            "shapes": [str(shape) for shape in job.shapes],
            "seconds": job.recipe.timing_seconds,
            "isolate": job.recipe.isolate,
            "machine": job.machine.model_dump(exclude={"load_1min"}),
        }

    def execute(self, job: Job, desk: Desk) -> None:
        """Time each variant against dense fp32 in the same runtime, and against dense in its own precision."""
        timed = [variant for variant in job.variants if runs_here(variant.runtime)]
        pairs = [(variant, twin) for variant in timed for twin in _twins(variant, variant.runtime)]
        spec = model_spec(exported_checkpoint(job, desk.files), job.versions)
        reports: dict[str, LatencyReport] = {}
        for done, (variant, twin) in enumerate(pairs):
            report = _time(job, desk, spec, variant, twin, part_of(desk.progress, done, len(pairs)))
            if str(variant) in reports:
                report = reports[str(variant)].model_copy(update={"twin_shapes": report.shapes})
            reports[str(variant)] = report
        Reports[LatencyReport](variants=reports).write(desk.folder / LATENCY)


def _twins(variant: Variant, runtime: Runtime = REFERENCE.runtime) -> tuple[Variant, ...]:
    """Return what a variant is compared with: the dense model in fp32, and in the variant's own precision."""
    return tuple(dict.fromkeys((Variant(runtime, REFERENCE.precision), variant)))


def _evaluation(job: Job) -> Evaluation:
    return EVALUATIONS[job.source.task.kind](job.source, job.held_out, job.labels)


def _evaluate(
    evaluation: Evaluation,
    batches: Sequence[Batch],
    dense: Runner,
    pruned: Runner,
    parts: FinishedParts,
    progress: ShareDone,
) -> None:
    for done, batch in enumerate(batches, start=1):

        def run(batch: Batch = batch) -> dict[str, Array]:
            feeds = {spec.name: batch.inputs[spec.name].numpy() for spec in dense.inputs}
            return evaluation.reduce(batch, dense.run(feeds), pruned.run(feeds))

        evaluation.take(batch, parts.arrays_once(f"batch-{done:06d}", run))
        progress(done / len(batches))


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
        task=job.source.task.kind.value,
        texts=texts,
        texts_sha256=job.held_out_record.sha256,
        runtime=runtime,
        instruction_sets=job.machine.instruction_sets,
        measures=measures,
        metric=first,
        further_metrics=tuple(further),
    )


def _time(job: Job, desk: Desk, spec: ModelSpec, variant: Variant, twin: Variant, progress: ShareDone) -> LatencyReport:
    shipped, twins = shipped_folders(job, desk.files), dense_folders(job, desk.files)
    subject = Measured(
        dense_bytes=Reports[GraphRecord].read_one(twins.graphs / GRAPHS, twin).file.size_bytes,
        pruned_bytes=Reports[GraphRecord].read_one(shipped.graphs / GRAPHS, variant).file.size_bytes,
        threads=job.threads,
        machine=job.machine,
    )
    timer = timer_of(variant)
    isolates = job.recipe.isolate

    def opened(opener: Callable[[], AbstractContextManager[Runner]]) -> AbstractContextManager[Runner]:
        return IsolatedRunner(opener, job.threads, timer) if isolates else opener()

    open_dense = partial(open_variant, twin, *twins, job.threads, timed=True)
    with contextlib.ExitStack() as stack:
        dense = stack.enter_context(opened(open_dense))
        open_pruned = partial(open_variant, variant, *shipped, job.threads, timed=True)
        pruned = stack.enter_context(opened(open_pruned))
        again = None
        if twin.precision is REFERENCE.precision:  # the machine is checked with what speedups are relative to
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
            desk.parts.within(f"{variant}-{twin}"),
        )
