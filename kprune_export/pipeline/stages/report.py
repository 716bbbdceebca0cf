"""Write the report."""

from typing import Any

from kprune_export.bundle.layout import (
    ENGINES,
    FIDELITY,
    GATES,
    LATENCY,
    ONNX_FOLDER,
    PARITY,
    PLAN,
    RECOVERY,
    REPORT,
    TARGET,
)
from kprune_export.bundle.recovery_report import RecoveryReport
from kprune_export.bundle.variant_report import read_dense_reports, read_variant_reports
from kprune_export.gates.report import GatesReport
from kprune_export.latency_target.outcome import target_outcome
from kprune_export.latency_target.target_record import TargetRecord
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.stages.stage import Stage, StageContext
from kprune_export.report.render import ReportContent, render_report
from pruning.plan import PruningPlan


class ReportStage(Stage):
    """Put everything that was measured on one page: writes report.html."""

    name = "report"
    title = "Writing the report"
    outputs = (REPORT,)
    reads = (TARGET, PLAN, RECOVERY, ONNX_FOLDER, ENGINES, PARITY, FIDELITY, LATENCY, GATES)
    reproducible = False

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the recipe, which the report prints."""
        return {"recipe": job.recorded_recipe}

    def execute(self, job: Job, context: StageContext) -> None:
        """Read the other stages' reports and render them."""
        reports = read_variant_reports(job.variants, context.files, measures=True)
        target = TargetRecord.read(context.files(TARGET)) if job.recipe.targeted else None
        checked = GatesReport.read(context.files(GATES))
        content = ReportContent(
            recipe=job.recipe,
            task=job.source.task,
            source=job.source_record,
            calibration=job.calibration_record,
            held_out=job.held_out_record,
            plan=PruningPlan.read(context.files(PLAN)),
            reports=reports,
            machine=job.machine,
            gates=checked.gates,
            notes=job.source.notes,
            warnings=checked.warnings,
            dense_reports=read_dense_reports(context.files),
            target=target_outcome(target, reports[0].latency) if target else None,
            noise=checked.noise,
            best=checked.best,
            recovery=RecoveryReport.read(context.files(RECOVERY)),
        )
        (context.folder / REPORT).write_text(render_report(content), encoding="utf-8")
