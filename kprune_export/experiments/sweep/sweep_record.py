"""Results of a sweep: a record for each trial, read from its bundle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from exporters.documents import Document, Record
from exporters.machine.description import MachineRecord
from kprune_export.bundle.manifest import FileRecord, Manifest, SourceRecord, TextsRecord, changed_files
from kprune_export.bundle.variant_report import VariantReport, read_variant_reports
from kprune_export.bundle.verdict import FidelityWarning, GateResult, Verdict
from kprune_export.errors import BundleError
from kprune_export.evaluation.fidelity import FidelityMeasure
from kprune_export.evaluation.metrics import TaskMetric
from kprune_export.evaluation.retrieval_metrics import retrieval_figures
from kprune_export.experiments.sweep.folder import RECORD, TRIALS
from kprune_export.experiments.sweep.messages import TrialEnd
from kprune_export.experiments.sweep.pareto import Point, dominated
from kprune_export.experiments.sweep.request import TrialRequest

TARGET_GATE = "target_speedup"
"""The gate that every trial has of itself: its figures count by what was measured, whether or not it is met."""


class TrialLatency(Record):
    """One trial at one shape.

    Attributes:
        shape: batch size and tokens.
        p50_ms: median time of a call.
        speedup: over the dense model in fp32 in the same runtime, timed in turn with it.
        speedup_low: the lower end of its 95 % interval.
        speedup_high: the upper end.
        noise: how many times too large or too small it may be, at least 1; None where the machine was quiet.
        noise_reason: why the figures cannot be relied on, in words; None likewise.
        dominated: whether another trial is as fast and as faithful, and better in one of the two.

    """

    shape: str
    p50_ms: float
    speedup: float
    speedup_low: float
    speedup_high: float
    noise: float | None
    noise_reason: str | None = None
    dominated: bool = False


class TrialFigures(Record):
    """What was measured of a finished trial.

    Attributes:
        flops_reduction: the share of FLOPs that was removed.
        size_bytes: of what is deployed: the engine where there is one, else the ONNX file.
        fidelity: the task's headline, against the dense model in fp32.
        metric: the task's metric, where the texts have labels.
        retrieval: what an embedder finds, with the documents embedded again and with the dense model's stored vectors.
        latency: at each shape.
        verdict: of its bundle.
        gates: of its bundle, that of its own speedup among them.
        warnings: of its bundle: figures that are low by any standard.

    """

    flops_reduction: float
    size_bytes: int
    fidelity: FidelityMeasure
    metric: TaskMetric | None
    latency: tuple[TrialLatency, ...]
    verdict: Verdict | None
    gates: tuple[GateResult, ...]
    retrieval: dict[str, float] = Field(default_factory=dict)
    warnings: tuple[FidelityWarning, ...] = ()

    def at(self, shape: str) -> TrialLatency:
        """Return the latency at a shape that was measured."""
        return next(x for x in self.latency if x.shape == shape)

    @property
    def broken(self) -> tuple[str, ...]:
        """The gates that the user set and it breaks."""
        return tuple(gate.name for gate in self.gates if gate.broken and gate.name != TARGET_GATE)

    @property
    def inconclusive(self) -> tuple[str, ...]:
        """The gates that the user set and the machine was too noisy to evaluate."""
        return tuple(gate.name for gate in self.gates if gate.inconclusive and gate.name != TARGET_GATE)


class Trial(Record):
    """One trial, made or failed.

    Attributes:
        name: its name.
        variant: its runtime and precision.
        speedup: what was asked for; None for the dense model.
        bundle: its folder, relative to the sweep's.
        figures: None where it failed.
        error: why it failed, in a sentence.

    """

    name: str
    variant: str
    speedup: float | None
    bundle: str
    figures: TrialFigures | None = None
    error: str | None = None


class SweepRecord(Document):
    """All that sweep.json holds.

    Attributes:
        source: the dense checkpoint.
        task: what it is for.
        held_out: the texts that fidelity was measured on.
        machine: where latency was measured.
        threads: with how many threads.
        shapes: at which shapes; the first is what is recommended for, where no other is named.
        trials: in the order that they were asked in.
        files: the table and the plot that were written with it.

    """

    noun, error = "record of a sweep", BundleError
    format: Literal["kprune-sweep"] = "kprune-sweep"
    version: Literal[2] = 2
    source: SourceRecord
    task: str
    held_out: TextsRecord
    machine: MachineRecord
    threads: int
    shapes: tuple[str, ...] = Field(min_length=1)
    trials: tuple[Trial, ...]
    files: tuple[FileRecord, ...] = ()

    @model_validator(mode="after")
    def _measured_at_each_shape(self) -> Self:
        for trial, figures in self.made:
            if tuple(x.shape for x in figures.latency) != self.shapes:
                raise ValueError(f"the trial {trial.name!r} was not measured at the sweep's shapes")
        return self

    @property
    def made(self) -> tuple[tuple[Trial, TrialFigures], ...]:
        """The trials that did not fail."""
        return tuple((trial, trial.figures) for trial in self.trials if trial.figures is not None)

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """Read the record of a finished sweep.

        Raises:
            BundleError: there is none, or it is not valid.

        """
        path = folder / RECORD
        if not path.is_file():
            raise BundleError(f"{folder} is not a finished sweep: it has no {RECORD}. Run kprune-export sweep first.")
        return cls.read(path)


def read_trial(request: TrialRequest, bundle: Path, end: TrialEnd, source: SourceRecord) -> Trial:
    """Return the record of a trial: of its bundle, or of what went wrong.

    Args:
        request: what was asked.
        bundle: its bundle.
        end: how its process ended.
        source: the dense checkpoint as the sweep found it; a trial of another one has failed.

    """
    trial = Trial(
        name=request.name, variant=str(request.variant), speedup=request.speedup, bundle=f"{TRIALS}/{request.name}"
    )
    if end.error is not None:
        return trial.model_copy(update={"error": end.error})
    manifest = Manifest.of_bundle(bundle)
    if changed := changed_files(manifest.source, source):
        error = f"{', '.join(changed)} of the dense checkpoint changed during the sweep: run it again"
        return trial.model_copy(update={"error": error})
    report = read_variant_reports((request.variant,), lambda output: bundle / output, measures=True)[0]
    return trial.model_copy(update={"figures": _figures(manifest, report)})


def with_dominated(trials: tuple[Trial, ...]) -> tuple[Trial, ...]:
    """Return trials with what is dominated marked, at each shape among all of them."""
    made = [(trial.name, trial.figures) for trial in trials if trial.figures is not None]
    shapes = [x.shape for x in made[0][1].latency] if made else []
    beaten: dict[str, Mapping[str, bool]] = {
        shape: dominated({name: Point(x.at(shape).p50_ms, x.fidelity.value) for name, x in made}) for shape in shapes
    }

    def marked(trial: Trial) -> Trial:
        if trial.figures is None:
            return trial
        latency = tuple(x.model_copy(update={"dominated": beaten[x.shape][trial.name]}) for x in trial.figures.latency)
        return trial.model_copy(update={"figures": trial.figures.model_copy(update={"latency": latency})})

    return tuple(marked(trial) for trial in trials)


def _figures(manifest: Manifest, report: VariantReport) -> TrialFigures:
    if report.fidelity is None or report.latency is None:
        raise BundleError(f"{report.variant} was not timed, so that it cannot be compared.")
    latency = tuple(
        TrialLatency(
            shape=x.shape,
            p50_ms=x.pruned.p50_ms,
            speedup=x.speedup,
            speedup_low=x.speedup_low,
            speedup_high=x.speedup_high,
            noise=x.noise_factor if x.noise_reason else None,
            noise_reason=x.noise_reason,
        )
        for x in report.latency.shapes
    )
    return TrialFigures(
        flops_reduction=manifest.flops_reduction or 0.0,
        size_bytes=report.engine.plan_bytes if report.engine else report.graph.file.size_bytes,
        fidelity=report.fidelity.headline,
        metric=report.fidelity.metric,
        latency=latency,
        verdict=manifest.verdict,
        gates=manifest.gates,
        retrieval=retrieval_figures(report.fidelity.measures, report.fidelity.metrics),
        warnings=manifest.warnings,
    )
