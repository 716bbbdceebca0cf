"""The report: one HTML file that a person reads, with nothing to fetch and every text escaped."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from exporters.machine.description import MachineRecord
from kprune_export.bundle.dense_summary import DenseSummary, dense_summaries
from kprune_export.bundle.headline import Headline, headline_of, mean_speedup
from kprune_export.bundle.manifest import SourceRecord, TextsRecord
from kprune_export.bundle.recovery_report import RecoveryReport
from kprune_export.bundle.variant_report import DenseVariantReport, VariantReport
from kprune_export.bundle.verdict import FidelityWarning, GateResult, Tone, Verdict, in_words, tone_of, verdict_of
from kprune_export.evaluation import evaluation_of
from kprune_export.gates.advice import advice
from kprune_export.latency_target.outcome import TargetOutcome
from kprune_export.printable import printable
from kprune_export.recipe.recipe import Recipe
from kprune_export.report.conditions import timing_conditions
from kprune_export.report.figures import Point, latency_figure, recovery_figure, scatter_figure, widths_figure
from kprune_export.report.index import IndexTable, index_table
from pruning.checkpoint.source import CARD_FILE
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
    recovery: RecoveryReport | None = None
    """What training on the dense model's outputs did; None where it is not known."""
    best: str | None = None
    """The fastest variant that passes every gate by itself."""

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
    def recovered(self) -> bool:
        """Whether training changed the weights."""
        return bool(self.recovery and self.recovery.recovery.best)

    @property
    def deployed(self) -> VariantReport:
        """The variant that the page opens with: the best one, else the fastest that was timed, else the first."""
        best = next((report for report in self.reports if str(report.variant) == self.best), None)
        return best or max(self.reports, key=mean_speedup)

    @property
    def headline(self) -> Headline:
        """Its speed, fidelity and size."""
        return headline_of(self.deployed)

    @property
    def headline_noisy(self) -> bool:
        """Whether its time cannot be relied on."""
        latency = self.deployed.latency
        return bool(latency and latency.shapes[-1].noise_reason)

    @property
    def advice(self) -> tuple[str, ...]:
        """Where a gate failed, which setting to change, in sentences."""
        return advice(self.gates, self.recipe)

    @property
    def timed_shapes(self) -> tuple[str, ...]:
        """The shapes that any variant was timed at; one that says so where none was."""
        timed = [shape.shape for report in self.reports if report.latency for shape in report.latency.shapes]
        return tuple(dict.fromkeys(timed)) or ("any shape",)

    @property
    def points(self) -> tuple[Point, ...]:
        """Fidelity against latency at the largest shape, of the dense model's variants and the pruned ones."""
        shape = self.headline.shape
        one_runtime = len({report.variant.runtime for report in self.reports}) == 1
        found = []
        for dense in self.dense:
            times = {x.shape: x.p50_ms for x in dense.latency}
            if shape in times:
                value = dense.fidelity[0].value if dense.fidelity else 1.0
                name = dense.variant.rpartition("-")[2] if one_runtime else dense.variant
                found.append(Point(f"dense {name}", times[shape], value, is_dense=True, is_best=False))
        for report in self.reports:
            times = {x.shape: x.pruned.p50_ms for x in report.latency.shapes} if report.latency else {}
            if shape in times and report.fidelity:
                name = f"pruned {report.variant.precision}" if one_runtime else f"pruned {report.variant}"
                value, is_best = report.fidelity.headline.value, report is self.deployed
                found.append(Point(name, times[shape], value, is_dense=False, is_best=is_best))
        return tuple(found)

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


_GENERAL = ("model", "checkpoint", "checkpoints", "output")
_LONGEST_TITLE = 60


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
        scatter=Markup(scatter_figure(content.points, content.headline)),  # noqa: S704 - drawn here, names escaped
        usage=evaluation.usage(content.source.pooling),
        example_texts=evaluation.example_texts,
        recovery_curve=Markup(recovery_figure(content.recovery.recovery, content.task.divergence_name))  # noqa: S704
        if content.recovery and content.recovery.recovery.curve
        else "",
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
    """Return what a page calls a model: its hub id, its folder's name, or, where that says little, its card's title."""
    path = Path(model).expanduser()
    if not path.is_dir():
        return path.name or model
    path = path.resolve()
    if cached := next((part for part in path.parts if part.startswith("models--")), None):
        return cached.removeprefix("models--").replace("--", "/")
    if path.name not in _GENERAL:
        return path.name or model
    at_home = str(path.parent) == os.path.expanduser("~")  # noqa: PTH111
    return _title(path / CARD_FILE) or (path.name if at_home else f"{path.parent.name}/{path.name}")


def _title(card: Path) -> str | None:
    """Return the first heading of a model card, if there is a short one."""
    try:
        lines = card.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    title = next((line[2:].strip() for line in lines if line.startswith("# ")), "")
    return title if 0 < len(title) <= _LONGEST_TITLE else None
