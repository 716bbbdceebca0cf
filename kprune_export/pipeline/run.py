"""Running stages: what still holds is skipped, what is finished is kept, and the bundle appears whole."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from exporters.onnx.write import GraphRecord
from exporters.parts import FinishedParts
from exporters.spec import Shape
from exporters.timing.latency import TimingSettings
from exporters.timing.latency_table.table import LatencyTable
from kprune_export.bundle.folder import BUNDLE
from kprune_export.bundle.inputs import check_known, remember_inputs
from kprune_export.bundle.layout import (
    CHECKPOINT,
    GATES,
    GRAPHS,
    LATENCY_TABLE,
    MANIFEST,
    ONNX_FOLDER,
    PARITY,
    PLAN,
    RECOVERY,
    TARGET,
    Files,
)
from kprune_export.bundle.manifest import Manifest, StageRecord, changed_files
from kprune_export.bundle.provenance import commit_of
from kprune_export.bundle.recovery_report import RecoveryReport
from kprune_export.bundle.variant_report import (
    DenseVariantReport,
    Reports,
    VariantReport,
    read_dense_reports,
    read_variant_reports,
)
from kprune_export.bundle.verdict import verdict_of
from kprune_export.bundle.verify import verify_bundle
from kprune_export.bundle.workspace import FinishedStage, Workspace
from kprune_export.errors import BundleError, TargetError, VerificationError
from kprune_export.gates.advice import advice
from kprune_export.gates.noise import noise_remarks
from kprune_export.gates.report import GatesReport
from kprune_export.latency_target.outcome import TargetOutcome, target_outcome
from kprune_export.latency_target.target_record import TargetRecord
from kprune_export.output_folder.inputs import OUTPUT, Place, check_apart
from kprune_export.output_folder.ownership import check_output
from kprune_export.pipeline.estimates import Expected, pace_of
from kprune_export.pipeline.job import Job, prepare_job
from kprune_export.pipeline.processor_change import processor_changes
from kprune_export.pipeline.stages.bundle import BundleStage
from kprune_export.pipeline.stages.card import CardStage
from kprune_export.pipeline.stages.engines import DenseEngineStage, EngineStage
from kprune_export.pipeline.stages.export import DenseBaselineStage, ExportSourceStage, ExportStage
from kprune_export.pipeline.stages.gates import GatesStage
from kprune_export.pipeline.stages.measure import FidelityStage, LatencyStage
from kprune_export.pipeline.stages.parity import DenseParityStage, ParityStage
from kprune_export.pipeline.stages.prune import PruneStage
from kprune_export.pipeline.stages.report import ReportStage
from kprune_export.pipeline.stages.sbom import SbomStage
from kprune_export.pipeline.stages.stage import ShareDone, Stage, StageContext
from kprune_export.pipeline.stages.target import LatencyTableStage, SensitivityStage, TargetedPruneStage
from kprune_export.pipeline.stages.triton import TritonStage, check_serving
from kprune_export.recipe.recipe import Recipe
from pruning.checkpoint.source import file_sha256
from pruning.plan import PruningPlan


class Reporter(Protocol):
    """Receives the progress of a run; the command line shows it."""

    def stage(self, number: int, total: int, title: str) -> AbstractContextManager[ShareDone]:
        """Return a context for a stage that runs, giving a callback for the share that is done."""

    def skipped(self, number: int, total: int, title: str) -> None:
        """Note that a stage was reused: its earlier outputs are still valid."""

    def planned(self, expected: Expected) -> None:
        """Take note of the expected durations of the stages that will run; asking for them takes some seconds."""


class SilentReporter:
    """Reports nothing."""

    def stage(self, number: int, total: int, title: str) -> AbstractContextManager[ShareDone]:  # noqa: ARG002
        """Return a context whose callback does nothing."""
        return nullcontext(lambda _: None)

    def skipped(self, number: int, total: int, title: str) -> None:
        """Do nothing."""

    def planned(self, expected: Expected) -> None:
        """Do nothing."""


Turn = Callable[[bool], AbstractContextManager[None]]
"""Returns a context that a stage runs in, given whether it must run exclusively; waits for that."""


def no_turns(_alone: bool) -> AbstractContextManager[None]:
    """Return a context that does not wait, for a run on its own."""
    return nullcontext()


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
        output: the output folder.
        manifest: its manifest.
        plan: the pruning plan, where the run pruned.
        reports: what was found of each variant, where the run exported.
        dense_reports: what was found of the dense model's own variants, where the run measured.
        target: the latency target beside what was measured, where there is one.
        shapes: the shapes that latency was asked for at.
        timing: how long each was to be timed.
        noise: which times cannot be relied on, in sentences.
        best: the fastest variant that passes every gate by itself; None where none does, or nothing was measured.
        advice: where a gate failed, which setting to change and in which direction, in sentences.
        recovery: what training on the dense model's outputs did, where the run pruned.
        processor_changes: what changed with the processor's instruction sets where a bundle was validated.

    """

    output: Path
    manifest: Manifest
    plan: PruningPlan | None
    reports: tuple[VariantReport, ...]
    target: TargetOutcome | None = None
    shapes: tuple[Shape, ...] = ()
    timing: TimingSettings = field(default_factory=TimingSettings)
    noise: tuple[str, ...] = ()
    best: VariantReport | None = None
    advice: tuple[str, ...] = ()
    recovery: RecoveryReport | None = None
    dense_reports: tuple[DenseVariantReport, ...] = ()
    processor_changes: tuple[str, ...] = ()


def prune_and_build(recipe: Recipe, reporter: Reporter | None = None, turn: Turn = no_turns) -> Outcome:
    """Prune a checkpoint, export it, validate it, and evaluate the gates.

    Args:
        recipe: what is asked.
        reporter: notified of each stage.
        turn: keeps other runs from what is timed.

    Raises:
        PruningError, ExporterError, ProductError: what was asked for cannot be done; the output folder
            is then as it was, but for finished stages, from which the next run resumes.

    """
    job = _checked_job(recipe, prunes=True, exports=True, measures=True)
    check_serving(job)
    stages: list[Stage] = [*_pruning(job), ExportStage()]
    if job.builds_engines:
        stages.append(EngineStage())
    stages += [*_validating(job), CardStage(), SbomStage(), ReportStage(), *([TritonStage()] if recipe.triton else [])]
    return _run("prune-and-build", job, stages, reporter, turn)


def validate_dense(recipe: Recipe, reporter: Reporter | None = None, turn: Turn = no_turns) -> Outcome:
    """Export a dense checkpoint and validate it as pruned ones are; arguments and errors as in `prune_and_build`."""
    job = _checked_job(recipe, prunes=False, exports=True, measures=True)
    engines = (EngineStage(),) if job.builds_engines else ()
    return _run("validate-dense", job, (ExportSourceStage(), *engines, *_validating(job)), reporter, turn)


def measure_for_target(recipe: Recipe, stage: Stage, reporter: Reporter | None = None) -> Outcome:
    """Measure something that runs with a latency target can share, into a folder of its own.

    Args:
        recipe: of a run with a latency target.
        stage: the stage of it that measures.
        reporter: notified of each stage.

    Raises:
        PruningError, ExporterError, ProductError: as `prune_and_build`.

    """
    return _run(stage.name, _checked_job(recipe, prunes=True, exports=True, measures=False), (stage,), reporter)


def prune(recipe: Recipe, reporter: Reporter | None = None) -> Outcome:
    """Prune a checkpoint and write the plan and the pruned checkpoint only; errors as `prune_and_build`."""
    if recipe.targeted:
        raise TargetError("A latency target needs something to time, and prune exports nothing: use prune-and-build.")
    job = _checked_job(recipe, prunes=True, exports=False, measures=False)
    return _run("prune", job, (PruneStage(), CardStage()), reporter)


def export(recipe: Recipe, reporter: Reporter | None = None) -> Outcome:
    """Export a dense or pruned checkpoint as it is and check parity; errors as `prune_and_build`."""
    job = _checked_job(recipe, prunes=False, exports=True, measures=False)
    engines = (EngineStage(),) if job.builds_engines else ()
    return _run("export", job, (ExportSourceStage(), *engines, ParityStage()), reporter)


def validate(bundle: Path, recipe: Recipe, reporter: Reporter | None = None) -> Outcome:
    """Validate an existing bundle on this machine: parity, fidelity, latency, gates.

    Args:
        bundle: a bundle made by `prune_and_build`, unchanged since.
        recipe: its model is the dense one that the bundle was made from; its output, where the new
            reports are written.
        reporter: notified of each stage.

    Raises:
        VerificationError: the bundle's files are not those of its manifest.
        BundleError: it is no such bundle, or the dense model is not the one it was made from.

    """
    reads = [("bundle", bundle)]
    check_apart([(OUTPUT, recipe.output)], reads)
    manifest, difference = verify_bundle(bundle)
    if difference:
        raise VerificationError(f"{bundle} has changed since it was made: {'; '.join(difference.lines())}.")
    if not (bundle / CHECKPOINT).is_dir() or not (bundle / ONNX_FOLDER / GRAPHS).is_file():
        raise BundleError(f"{bundle} was made by {manifest.command}: only bundles of prune-and-build can be validated.")
    check_known(bundle, recipe)
    job = _checked_job(recipe, prunes=False, exports=True, measures=True, reads=reads)
    there = Reports[GraphRecord].read(bundle / ONNX_FOLDER / GRAPHS).variants
    if missing := [str(variant) for variant in job.variants if str(variant) not in there]:
        raise BundleError(f"{bundle} has no {missing[0]}: its variants are {', '.join(there)}.")
    if changed := changed_files(job.source_record, manifest.source):
        raise BundleError(
            f"{recipe.model} is not the model that {bundle} was made from: {', '.join(changed)} "
            f"{'differs' if len(changed) == 1 else 'differ'} from what the manifest records."
        )
    job.bundle = bundle
    outcome = _run("validate", job, (BundleStage(job.builds_engines, recipe.targeted), *_validating(job)), reporter)
    return replace(outcome, processor_changes=processor_changes(bundle, outcome.reports))


def _pruning(job: Job) -> tuple[Stage, ...]:
    """Return the stages that prune, to a latency or to FLOPs."""
    return (LatencyTableStage(), SensitivityStage(), TargetedPruneStage()) if job.recipe.targeted else (PruneStage(),)


def _validating(job: Job) -> tuple[Stage, ...]:
    """Return the stages that validate what was exported."""
    baselines: tuple[Stage, ...] = (DenseBaselineStage(), *((DenseEngineStage(),) if job.times_engines else ()))
    return (*baselines, DenseParityStage(), ParityStage(), FidelityStage(), LatencyStage(), GatesStage())


def _checked_job(recipe: Recipe, *, prunes: bool, exports: bool, measures: bool, reads: Sequence[Place] = ()) -> Job:
    check_apart([(OUTPUT, recipe.output)], [*recipe.inputs, *reads])
    check_output(BUNDLE, recipe.output)
    return prepare_job(recipe, prunes=prunes, exports=exports, measures=measures)


def _run(command: str, job: Job, stages: Sequence[Stage], reporter: Reporter | None, turn: Turn = no_turns) -> Outcome:
    with Workspace.open(job.recipe.output) as workspace:
        finished = _execute(job, stages, workspace, reporter or SilentReporter(), turn)
        kept = [finished[stage.name] for stage in stages if not stage.transient]

        def files(output: str) -> Path:
            owner = next(record for record in finished.values() if output in record.stage.outputs)
            return workspace.path(owner, output)

        outcome = _outcome(command, job, kept, files)
        remember_inputs(outcome.manifest.sha256, job.recipe.model_dump())
        workspace.publish(outcome.manifest, kept)
    return outcome


def _execute(
    job: Job, stages: Sequence[Stage], workspace: Workspace, reporter: Reporter, turn: Turn
) -> dict[str, FinishedStage]:
    """Run the stages that must run and return all that are finished.

    A stage must run if its record does not hold, and either it belongs to the bundle or a stage that
    must run needs it.
    """
    writers = {output: stage for stage in stages for output in stage.outputs}
    keys: dict[str, str] = {}
    for stage in stages:
        keys[stage.name] = stage.key(job, {x: keys[writers[x].name] for x in stage.reads if x in writers})
    finished = {stage.name: record for stage in stages if (record := workspace.finished(stage.name, keys[stage.name]))}
    due: set[str] = set()
    for stage in reversed(stages):
        needed_by_due = any(set(stage.outputs) & set(other.reads) for other in stages if other.name in due)
        if stage.name not in finished and (not stage.transient or needed_by_due):
            due.add(stage.name)

    def path_of(output: str) -> Path:
        return workspace.path(finished[writers[output].name], output)

    reporter.planned(lambda: _expected(job, [stage for stage in stages if stage.name in due]))
    shown = [stage for stage in stages if stage.name in due or not stage.transient]
    for number, stage in enumerate(shown, start=1):
        if stage.name not in due:
            reporter.skipped(number, len(shown), stage.title)
            stage.check(path_of)
            continue
        with turn(stage.timed), reporter.stage(number, len(shown), stage.title) as progress:
            read = {writers[x].name for x in stage.reads if x in writers}
            scratch = workspace.scratch(stage.name)
            parts = FinishedParts(
                scratch / "parts", _fingerprint(keys[stage.name], [finished[x] for x in sorted(read)])
            )
            files = partial(_declared, stage, path_of)
            context = StageContext(files, workspace.begin(stage.name), scratch, parts, progress)
            stage.execute(job, context)
            ending = StageRecord(
                name=stage.name, key=keys[stage.name], reproducible=stage.reproducible, outputs=stage.outputs
            )
            finished[stage.name] = workspace.finish(ending)
        stage.check(path_of)
    return finished


def _expected(job: Job, stages: Sequence[Stage]) -> dict[str, float]:
    pace = pace_of(job)
    return {stage.title: stage.expected_s(job, pace) for stage in stages}


def _declared(stage: Stage, path_of: Files, output: str) -> Path:
    """Return where an output is that a stage reads.

    Raises:
        LookupError: the stage does not declare that it reads it, so that its key does not depend on it.

    """
    if output not in stage.reads:
        raise LookupError(f"The stage {stage.name} reads {output} without declaring it in its reads.")
    return path_of(output)


def _fingerprint(key: str, read: Sequence[FinishedStage]) -> str:
    """Return what decides a stage's parts: its key, and the files that it reads, as not all follow from their keys."""
    hashes = [(file.path, file.sha256) for record in read for file in record.files]
    return hashlib.sha256(json.dumps([key, sorted(hashes)]).encode()).hexdigest()


def _outcome(command: str, job: Job, kept: Sequence[FinishedStage], files: Files) -> Outcome:
    """Read the stages' reports and return the run's outcome with its manifest."""
    outputs = {output for record in kept for output in record.stage.outputs}
    plan = PruningPlan.read(files(PLAN)) if PLAN in outputs else job.source.plan
    reports = read_variant_reports(job.variants, files, measures=job.measures) if PARITY in outputs else ()
    target = TargetRecord.read(files(TARGET)) if job.recipe.targeted and reports else None
    checked = GatesReport.read(files(GATES)) if GATES in outputs else None
    unchecked = verdict_of(()) if reports else None  # a run that exports nothing has no verdict
    manifest = Manifest(
        command=command,
        verdict=checked.verdict if checked else unchecked,
        gates=checked.gates if checked else (),
        warnings=checked.warnings if checked else (),
        task=job.source.task.name,
        labels=job.source.task.labels,
        plan_sha256=plan.sha256 if plan else None,
        flops_reduction=plan.flops_reduction if plan else None,
        source=job.source_record,
        calibration=job.calibration_record if job.calibration else None,
        held_out=job.held_out_record if job.held_out else None,
        recipe=job.recorded_recipe,
        variants=tuple(str(report.variant) for report in reports),
        versions=job.versions,
        commit=commit_of(Path.cwd()),
        notes=job.source.notes,
        validated_sha256=file_sha256(job.bundle / MANIFEST) if job.bundle else None,
        stages=tuple(record.stage for record in kept),
        files=tuple(sorted((file for record in kept for file in record.files), key=lambda file: file.path)),
    )
    met = target_outcome(target, reports[0].latency) if target and reports else None
    table = LatencyTable.read(files(LATENCY_TABLE)) if LATENCY_TABLE in outputs else None
    noise = checked.noise if checked else noise_remarks(reports, target, table)
    dense = read_dense_reports(files) if job.measures else ()
    best = next((report for report in reports if checked and str(report.variant) == checked.best), None)
    return Outcome(
        output=job.recipe.output,
        manifest=manifest,
        plan=plan,
        reports=reports,
        target=met,
        shapes=job.shapes,
        timing=job.recipe.timing,
        noise=noise,
        best=best,
        advice=advice(manifest.gates, job.recipe),
        recovery=RecoveryReport.read(files(RECOVERY)) if RECOVERY in outputs else None,
        dense_reports=dense,
    )
