"""The gates of a run, from what its stages measured."""

from collections.abc import Sequence

from kprune_export.bundle.layout import Files
from kprune_export.bundle.variant_report import VariantProof
from kprune_export.bundle.verdict import GateResult
from kprune_export.gates.evaluate import judge
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.target_files import judged_target


def evaluate_gates(job: Job, proofs: Sequence[VariantProof], files: Files) -> tuple[GateResult, ...]:
    """Return the result of every gate that a run's recipe sets.

    Args:
        job: the run.
        proofs: what was measured of each variant.
        files: where the outputs of stages are.

    """
    return judge(job.recipe, proofs, judged_target(job, files), job.held_out_record.caveat)
