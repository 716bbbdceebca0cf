"""Pruning one model of a comparison and measuring it in torch, on texts that pruning has not seen."""

import time
from collections.abc import Callable
from math import sqrt
from pathlib import Path

import torch
from torch import Tensor

from kprune_export.evaluation.base import Outputs
from kprune_export.evaluation.retrieval_metrics import retrieval_figures
from kprune_export.experiments.compare.results import Layer, Measured
from kprune_export.pipeline.distributed import helped
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.stages.prune import pruning_task
from pruning.calibration.batches import Batch
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.methods import method_for
from pruning.prune import prune_checkpoint
from pruning.settings import PruningSettings

PRUNING_SHARE = 0.9
"""How much of a run's time is pruning, for the progress bar."""


def prune_and_measure(
    job: Job, settings: PruningSettings, journal: Path, progress: Callable[[float], None]
) -> Measured:
    """Prune a model and compare it with the dense one.

    Args:
        job: the dense model, which is left as it is, and the texts.
        settings: the method, its budget and its seed.
        journal: a folder for the method's finished steps.
        progress: called with the share that is done.

    Raises:
        BudgetError: the method cannot prune by as much.
        SolveError: a least-squares problem has no finite solution.

    """
    method_for(settings).budget(job.source.open().shape, settings)  # before other processes are asked to help
    pruned = job.source.reload()
    start = time.perf_counter()
    with helped(pruning_task(job, settings, journal)):
        plan = prune_checkpoint(
            pruned,
            job.calibration,
            settings,
            job.placement,
            journal,
            lambda share: progress(PRUNING_SHARE * share),
        )
    seconds = time.perf_counter() - start

    evaluation = job.evaluation()
    batches = evaluation.batches(job.recipe.seed)
    adapter = job.source.open()
    divergences = []
    for number, batch in enumerate(batches, start=1):
        (teacher, dense_outputs), (student, pruned_outputs) = (_outputs(x, batch) for x in (job.source, pruned))
        context = adapter.context(batch.attention_mask, batch.counted)
        with torch.no_grad():
            divergences.append(adapter.divergence(student, teacher, context, 1.0).double())
        evaluation.add(batch, dense_outputs, pruned_outputs)
        progress(PRUNING_SHARE + (1 - PRUNING_SHARE) * number / len(batches))
    by_text = torch.cat(divergences)
    measures, metrics = evaluation.fidelity(), evaluation.metrics()
    return Measured(
        flops_reduction=plan.flops_reduction,
        divergence=float(by_text.mean()),
        divergence_error=float(by_text.std()) / sqrt(len(by_text)) if len(by_text) > 1 else None,
        measures=measures,
        metric=next(iter(metrics), None),
        retrieval=retrieval_figures(measures, metrics),
        seconds=seconds,
        layers=tuple(Layer(heads=len(x.heads), neurons=len(x.neurons)) for x in plan.layers),
    )


@torch.no_grad()
def _outputs(checkpoint: EncoderCheckpoint, batch: Batch) -> tuple[Tensor, Outputs]:
    """Return what the task's divergence compares, and what is served, for one batch."""
    adapter = checkpoint.open()
    context = adapter.context(batch.attention_mask, batch.counted)
    hidden = adapter.embed(batch.inputs)
    for sublayer in adapter.sublayers:
        hidden = sublayer.forward(hidden, context)
    served = checkpoint.head(adapter.finish(hidden), batch.attention_mask)
    tensors = (served,) if isinstance(served, Tensor) else served
    named = zip(checkpoint.task.outputs, tensors, strict=True)
    return adapter.output(hidden, context), {output.name: tensor.numpy() for output, tensor in named}
