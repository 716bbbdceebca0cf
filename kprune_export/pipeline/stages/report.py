"""Write the report."""

from typing import Any

from exporters.timing.latency_table.table import LatencyTable
from kprune_export.bundle.layout import LATENCY_TABLE, PLAN, REPORT
from kprune_export.bundle.variant_report import read_dense_proofs, read_proofs
from kprune_export.gates.fidelity_limits import fidelity_warnings
from kprune_export.gates.noise import noise_remarks
from kprune_export.latency_target.outcome import target_outcome
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.stages.gates import evaluate_gates
from kprune_export.pipeline.stages.stage import Desk, Stage
from kprune_export.pipeline.target_files import read_target
from kprune_export.report.render import ReportContent, render_report
from pruning.plan import PruningPlan


class ReportStage(Stage):
    """Put everything that was measured on one page: writes report.html."""

    name = "report"
    title = "Writing the report"
    outputs = (REPORT,)
    needs = ("latency-table", "prune", "export", "engines", "parity", "fidelity", "latency")
    reproducible = False

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the recipe, whose gates the report judges and which it prints."""
        return {"recipe": job.recorded_recipe}

    def execute(self, job: Job, desk: Desk) -> None:
        """Read the other stages' reports and render them."""
        proofs = read_proofs(job.variants, desk.files, measures=True)
        target = read_target(job, desk.files)
        table = LatencyTable.read(desk.files(LATENCY_TABLE)) if job.recipe.targeted else None
        content = ReportContent(
            recipe=job.recipe,
            task=job.source.task,
            source=job.source_record,
            calibration=job.calibration_record,
            held_out=job.held_out_record,
            plan=PruningPlan.read(desk.files(PLAN)),
            proofs=proofs,
            machine=job.machine,
            gates=evaluate_gates(job, proofs, desk.files),
            notes=job.source.notes,
            warnings=fidelity_warnings(proofs),
            dense_proofs=read_dense_proofs(desk.files),
            target=target_outcome(target, proofs[0].latency) if target else None,
            noise=noise_remarks(proofs, target, table),
        )
        (desk.folder / REPORT).write_text(render_report(content), encoding="utf-8")
