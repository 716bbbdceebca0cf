"""Measure the exported pair: fidelity on held-out texts, and latency."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from exporters.fidelity import (
    FidelityReport,
    classifier_fidelity,
    embedding_fidelity,
    multi_label_fidelity,
    regression_fidelity,
)
from exporters.latency import Measured, measure_latency
from exporters.metrics import TaskMetric, accuracy, cosine_of_pairs, micro_f1, spearman
from exporters.runners.base import Array, Runner
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner, pool_description
from kprune_export.bundle.layout import FIDELITY, LATENCY, ONNX
from kprune_export.job import Job
from kprune_export.stages.base import Desk, ShareDone, Stage
from kprune_export.stages.export import DENSE_ONNX, exported_checkpoint, model_spec
from pruning.calibration.batches import make_batches
from pruning.calibration.examples import Example, flatten_pairs
from pruning.tasks import Task, TaskKind

_MEASURES = {
    TaskKind.SINGLE_LABEL: classifier_fidelity,
    TaskKind.MULTI_LABEL: multi_label_fidelity,
    TaskKind.REGRESSION: regression_fidelity,
    TaskKind.EMBEDDING: embedding_fidelity,
}


class FidelityStage(Stage):
    """Run dense and pruned ONNX on the held-out texts and compare: writes fidelity.json."""

    name = "fidelity"
    title = "Measuring fidelity"
    outputs = (FIDELITY,)
    needs = ("export", "dense-twin")

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the texts and their labels."""
        return {"texts": job.held_out_record.sha256, "labels": job.labels}

    def execute(self, job: Job, desk: Desk) -> None:
        """Run both on every text."""
        task = job.source.task
        texts = flatten_pairs(job.held_out) if task.kind is TaskKind.EMBEDDING else list(job.held_out)
        outputs = []
        for side, path in enumerate((desk.files(DENSE_ONNX), desk.files(ONNX))):
            with OnnxRuntimeRunner(path, job.threads) as runner:

                def report_share(share: float, side: int = side) -> None:
                    desk.progress((side + share) / 2)

                outputs.append(_run_texts(runner, job, texts, report_share))
                runtime = runner.name
        dense, pruned = outputs
        report = FidelityReport(
            task=task.kind.value,
            texts=len(texts),
            texts_sha256=job.held_out_record.sha256,
            runtime=runtime,
            measures=_MEASURES[task.kind](dense, pruned),
            metric=_metric(task, job, texts, dense, pruned),
        )
        (desk.folder / FIDELITY).write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")


class LatencyStage(Stage):
    """Time dense and pruned ONNX against each other on this machine: writes latency.json."""

    name = "latency"
    title = "Measuring latency"
    outputs = (LATENCY,)
    needs = ("export", "dense-twin")
    reproducible = False

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the shapes, how long is measured, and the machine without its load."""
        return {
            "shapes": [str(shape) for shape in job.shapes],
            "seconds": job.recipe.timing_seconds,
            "machine": job.machine.model_dump(exclude={"load_1min"}),
        }

    def execute(self, job: Job, desk: Desk) -> None:
        """Measure every shape."""
        spec = model_spec(exported_checkpoint(job, desk.files), job.versions)
        subject = Measured(
            dense_bytes=desk.files(DENSE_ONNX).stat().st_size,
            pruned_bytes=desk.files(ONNX).stat().st_size,
            threads=job.threads,
            machine=job.machine,
        )
        with (
            OnnxRuntimeRunner(desk.files(DENSE_ONNX), job.threads) as dense,
            OnnxRuntimeRunner(desk.files(ONNX), job.threads) as pruned,
        ):
            report = measure_latency(
                dense, pruned, spec, job.shapes, subject, pool_description(), job.recipe.timing, desk.progress
            )
        (desk.folder / LATENCY).write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _run_texts(runner: Runner, job: Job, texts: Sequence[Example], progress: ShareDone) -> Array:
    """Return the outputs for all texts, in their order: (texts, outputs)."""
    batches = make_batches(job.source.tokenizer, texts, job.source.max_tokens)
    names = [spec.name for spec in runner.inputs]
    rows: list[Array] = [np.empty(0)] * len(texts)
    for done, batch in enumerate(batches, start=1):
        output = next(iter(runner.run({name: batch.inputs[name].numpy() for name in names}).values()))
        for row, values in zip(batch.rows, output, strict=True):
            rows[row] = values
        progress(done / len(batches))
    return np.stack(rows)


def _metric(task: Task, job: Job, texts: Sequence[Example], dense: Array, pruned: Array) -> TaskMetric | None:
    labels: Any = job.labels
    if labels is None:
        return None
    if task.kind is TaskKind.SINGLE_LABEL:
        return accuracy(dense, pruned, labels)
    if task.kind is TaskKind.MULTI_LABEL:
        return micro_f1(dense, pruned, labels)
    if task.kind is TaskKind.REGRESSION:
        return spearman(dense[:, 0], pruned[:, 0], labels)
    row = {example.text: number for number, example in enumerate(texts)}
    first = [row[example.text] for example in job.held_out]
    second = [row[example.pair or ""] for example in job.held_out]
    scores = [cosine_of_pairs(x[first], x[second]) for x in (dense, pruned)]
    return spearman(scores[0], scores[1], labels)
