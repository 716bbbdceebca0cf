"""Check the gates of a run."""

from typing import Any

from exporters.timing.latency_table.table import LatencyTable
from kprune_export.bundle.layout import (
    ENGINES,
    FIDELITY,
    GATES,
    LATENCY,
    LATENCY_TABLE,
    ONNX_FOLDER,
    PARITY,
    TARGET,
)
from kprune_export.bundle.variant_report import read_variant_reports
from kprune_export.bundle.verdict import verdict_of
from kprune_export.gates.evaluate import best_variant, evaluate_gates
from kprune_export.gates.fidelity_limits import fidelity_warnings
from kprune_export.gates.noise import noise_remarks
from kprune_export.gates.report import GatesReport
from kprune_export.latency_target.target_record import TargetRecord
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.stages.stage import Stage, StageContext
from kprune_export.recipe.gates import GATE_NAMES


class GatesStage(Stage):
    """Compare what was measured with the recipe's gates and the default limits: writes gates.json."""

    name = "gates"
    title = "Checking the gates"
    outputs = (GATES,)
    reads = (LATENCY_TABLE, TARGET, ONNX_FOLDER, ENGINES, PARITY, FIDELITY, LATENCY)
    reproducible = False

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the gates, whether the target is one of them, and what limits fidelity on the held-out texts."""
        gates = {name: getattr(job.recipe, name) for name in GATE_NAMES}
        return {"gates": gates, "target": _checks_target(job), "caveat": job.held_out_record.caveat}

    def execute(self, job: Job, context: StageContext) -> None:
        """Evaluate each gate on the variant that is worst at it."""
        files = context.files
        reports = read_variant_reports(job.variants, files, measures=True)
        target = TargetRecord.read(files(TARGET)) if job.recipe.targeted else None
        table = LatencyTable.read(files(LATENCY_TABLE)) if job.recipe.targeted and job.prunes else None
        asked = (target if _checks_target(job) else None, job.held_out_record.caveat)
        gates = evaluate_gates(job.recipe, reports, *asked)
        best = best_variant(job.recipe, reports, *asked)
        GatesReport(
            verdict=verdict_of(gates),
            gates=gates,
            warnings=fidelity_warnings(reports),
            noise=noise_remarks(reports, target, table),
            best=str(best.variant) if best else None,
        ).write(context.folder / GATES)
        context.progress(1.0)


def _checks_target(job: Job) -> bool:
    """Whether the latency target is a gate: not while building with a table that another machine measured."""
    return job.recipe.targeted and not (job.prunes and job.recipe.table_carried)
