"""Write the model card of the pruned checkpoint."""

from typing import Any

from kprune_export.bundle.layout import CHECKPOINT, FIDELITY, PLAN, Files
from kprune_export.bundle.model_card import CardFigures, card_facts, model_card
from kprune_export.bundle.variant_report import Reports, read_proofs
from kprune_export.evaluation.fidelity import FidelityReport
from kprune_export.gates.evaluate import judge
from kprune_export.gates.fidelity_limits import fidelity_warnings
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.stages.stage import Desk, Stage
from kprune_export.recipe.recipe import GATE_NAMES
from pruning.checkpoint.source import CARD_FILE
from pruning.plan import PruningPlan

_TIMED = ("min_speedup",)
"""The gates that a card does not show, as measured times are not reproducible."""


class CardStage(Stage):
    """Say on the checkpoint's page what it is, and how near to the dense model: writes checkpoint/README.md."""

    name = "card"
    title = "Writing the model card"
    outputs = (f"{CHECKPOINT}/{CARD_FILE}",)
    needs = ("prune", "export", "engines", "parity", "fidelity")

    def settings(self, job: Job) -> dict[str, Any]:
        """Return what is known of the dense model, and the gates that are shown."""
        gates = {name: getattr(job.recipe, name) for name in GATE_NAMES if name not in _TIMED}
        return {"card": card_facts(job.model, job.source).model_dump(mode="json"), "gates": gates}

    def execute(self, job: Job, desk: Desk) -> None:
        """Write it, with what was measured where the run measures."""
        plan = PruningPlan.read(desk.files(PLAN))
        figures = _figures(job, desk.files) if job.measures else None
        card = model_card(card_facts(job.model, job.source), job.source, plan, figures)
        path = desk.folder / self.outputs[0]
        path.parent.mkdir()
        path.write_text(card, encoding="utf-8")
        desk.progress(1.0)


def _figures(job: Job, files: Files) -> CardFigures:
    proofs = read_proofs(job.variants, files, measures=True, timed=False)
    return CardFigures(
        variants={str(proof.variant): proof.fidelity for proof in proofs if proof.fidelity},
        dense=Reports[FidelityReport].read(files(FIDELITY)).dense,
        gates=judge(job.recipe.model_copy(update=dict.fromkeys(_TIMED)), proofs, caveat=job.held_out_record.caveat),
        warnings=fidelity_warnings(proofs),
    )
