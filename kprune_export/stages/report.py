"""Write the report."""

from typing import Any

from exporters.fidelity import FidelityReport
from exporters.latency import LatencyReport
from exporters.parity import ParityReport
from kprune_export.bundle.layout import FIDELITY, LATENCY, PARITY, PLAN, REPORT
from kprune_export.gates import judge
from kprune_export.job import Job
from kprune_export.report.render import ReportContent, render_report
from kprune_export.stages.base import Desk, Stage
from pruning.plan import PruningPlan


class ReportStage(Stage):
    """Put everything that was measured on one page: writes report.html."""

    name = "report"
    title = "Writing the report"
    outputs = (REPORT,)
    needs = ("prune", "parity", "fidelity", "latency")
    reproducible = False

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the recipe, whose gates the report judges and which it prints."""
        return {"recipe": job.recorded_recipe}

    def execute(self, job: Job, desk: Desk) -> None:
        """Read the other stages' reports and render them."""
        fidelity = FidelityReport.model_validate_json(desk.files(FIDELITY).read_text(encoding="utf-8"))
        latency = LatencyReport.model_validate_json(desk.files(LATENCY).read_text(encoding="utf-8"))
        content = ReportContent(
            recipe=job.recipe,
            task=job.source.task,
            source=job.source_record,
            calibration=job.calibration_record,
            held_out=job.held_out_record,
            plan=PruningPlan.read(desk.files(PLAN)),
            parity=ParityReport.model_validate_json(desk.files(PARITY).read_text(encoding="utf-8")),
            fidelity=fidelity,
            latency=latency,
            gates=judge(job.recipe, fidelity, latency),
        )
        (desk.folder / REPORT).write_text(render_report(content), encoding="utf-8")
