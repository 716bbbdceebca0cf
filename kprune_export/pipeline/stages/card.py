"""Write the model card of the pruned checkpoint."""

from typing import Any

from kprune_export.bundle.layout import CHECKPOINT, ENGINES, FIDELITY, GATES, ONNX_FOLDER, PARITY, PLAN, RECOVERY, Files
from kprune_export.bundle.model_card import CardFigures, card_facts, model_card
from kprune_export.bundle.recovery_report import RecoveryReport
from kprune_export.bundle.variant_report import Reports, read_variant_reports
from kprune_export.evaluation.fidelity import FidelityReport
from kprune_export.gates.report import GatesReport
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.stages.stage import Stage, StageContext
from pruning.checkpoint.source import CARD_FILE
from pruning.plan import PruningPlan


class CardStage(Stage):
    """Say on the checkpoint's page what it is, and how near to the dense model: writes checkpoint/README.md."""

    name = "card"
    title = "Writing the model card"
    outputs = (f"{CHECKPOINT}/{CARD_FILE}",)
    reads = (PLAN, RECOVERY, ONNX_FOLDER, ENGINES, PARITY, FIDELITY, GATES)

    def settings(self, job: Job) -> dict[str, Any]:
        """Return what is known of the dense model."""
        return {"card": card_facts(job.model, job.source).model_dump(mode="json")}

    def execute(self, job: Job, context: StageContext) -> None:
        """Write it, with what was measured where the run measures."""
        plan = PruningPlan.read(context.files(PLAN))
        figures = _figures(job, context.files) if job.measures else None
        recovery = RecoveryReport.read(context.files(RECOVERY))
        card = model_card(card_facts(job.model, job.source), job.source, plan, figures, recovery)
        path = context.folder / self.outputs[0]
        path.parent.mkdir()
        path.write_text(card, encoding="utf-8")
        context.progress(1.0)


def _figures(job: Job, files: Files) -> CardFigures:
    """Return what the card shows: without measured times, which are not reproducible."""
    reports = read_variant_reports(job.variants, files, measures=True, timed=False)
    checked = GatesReport.read(files(GATES))
    return CardFigures(
        variants={str(report.variant): report.fidelity for report in reports if report.fidelity},
        dense=Reports[FidelityReport].read(files(FIDELITY)).dense,
        gates=checked.reproducible_gates,
        warnings=checked.warnings,
    )
