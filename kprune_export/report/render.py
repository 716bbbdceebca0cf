"""The report: one HTML file that a person reads, with nothing to fetch and every text escaped."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from exporters.machine.description import MachineRecord
from kprune_export.bundle.dense_summary import DenseSummary, dense_summaries
from kprune_export.bundle.manifest import SourceRecord, TextsRecord
from kprune_export.bundle.variant_report import DenseVariantReport, VariantReport
from kprune_export.bundle.verdict import FidelityWarning, GateResult, Tone, Verdict, in_words, tone_of, verdict_of
from kprune_export.evaluation import evaluation_of
from kprune_export.latency_target.outcome import TargetOutcome
from kprune_export.printable import printable
from kprune_export.recipe.recipe import Recipe
from kprune_export.report.conditions import timing_conditions
from kprune_export.report.figures import latency_figure, widths_figure
from kprune_export.report.index import IndexTable, index_table
from pruning.plan import PruningPlan
from pruning.tasks import Task


@dataclass(frozen=True)
class ReportContent:
    """All that the report shows."""

    recipe: Recipe
    task: Task
    source: SourceRecord
    calibration: TextsRecord
    held_out: TextsRecord
    plan: PruningPlan
    reports: tuple[VariantReport, ...]
    machine: MachineRecord
    gates: tuple[GateResult, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[FidelityWarning, ...] = ()
    dense_reports: tuple[DenseVariantReport, ...] = ()
    target: TargetOutcome | None = None
    noise: tuple[str, ...] = ()
    """Which times cannot be relied on, in sentences."""

    @property
    def dense(self) -> tuple[DenseSummary, ...]:
        """The dense model in fp32, and in int8 where that was measured."""
        return dense_summaries(self.reports, self.dense_reports)

    @property
    def index_tables(self) -> tuple[IndexTable, ...]:
        """For an embedder, what each variant finds with the documents embedded again, and with the stored vectors."""
        found = ((str(report.variant), report.fidelity) for report in self.reports)
        dense = ((f"dense {report.variant}", report.fidelity) for report in self.dense_reports)
        tables = (index_table(name, report) for name, report in (*found, *dense) if report is not None)
        return tuple(table for table in tables if table.rows)

    @property
    def tone(self) -> Tone:
        """How the verdict is coloured."""
        return tone_of(self.verdict, self.gates, self.warnings)

    @property
    def trtexec(self) -> tuple[str, ...]:
        """The commands that time the engines with trtexec."""
        shapes, timing = self.recipe.parsed_shapes, self.recipe.timing
        return tuple(command for report in self.reports for command in report.trtexec(shapes, timing))

    @property
    def first(self) -> VariantReport:
        """The variant that the page opens with: the first that was timed, or the first."""
        return next((report for report in self.reports if report.latency is not None), self.reports[0])

    @property
    def verdict(self) -> Verdict | None:
        """What the run came to."""
        return verdict_of(self.gates)

    @property
    def verdict_in_words(self) -> str:
        """The verdict as a line of its own."""
        words = in_words(self.verdict, self.gates, self.warnings) or ""
        return words[:1].upper() + words[1:]

    @property
    def ideal_speedup(self) -> float | None:
        """The speedup that the encoder's FLOPs alone would give; None where no head and no neuron is left."""
        return self.plan.dense_flops / self.plan.kept_flops if self.plan.kept_flops else None


def render_report(content: ReportContent) -> str:
    """Return the report as the text of a self-contained HTML page."""
    environment = Environment(
        loader=PackageLoader("kprune_export", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["percent"] = lambda value, digits=1: f"{100 * value:.{digits}f} %"
    environment.filters["mebibytes"] = lambda value: f"{value / 2**20:,.1f}"
    environment.filters["conditions"] = timing_conditions
    environment.filters["fixed"] = lambda value, digits=2: f"{value:,.{digits}f}"
    evaluation = evaluation_of(content.task)
    return environment.get_template("report.html.j2").render(
        content=content,
        recipe_text=content.recipe.to_yaml(),
        name=_model_name(content.recipe.model),
        usage=evaluation.usage(content.source.pooling),
        example_texts=evaluation.example_texts,
        widths=Markup(widths_figure(content.plan)),  # noqa: S704 - drawn here, from numbers
        latencies={
            str(report.variant): Markup(latency_figure(report.latency.shapes))  # noqa: S704 - as above
            for report in content.reports
            if report.latency is not None
        },
    )


def _shown(value: Any) -> Any:
    """Return what is put into the page for a value; HTML that was made here stays as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _model_name(model: str) -> str:
    """Return what a page calls a model: the end of its path or hub id, with the folder above if that is needed."""
    path = Path(model).expanduser()
    path = path.resolve() if path.is_dir() else path
    is_general = path.name in ("model", "checkpoint", "checkpoints", "output")
    above = path.parent.name if is_general and str(path.parent) != os.path.expanduser("~") else ""  # noqa: PTH111
    return f"{above}/{path.name}" if above else path.name or model
