"""Measure the exported pair: fidelity on held-out texts, and latency."""

from typing import Any

from exporters.fidelity import FidelityReport
from exporters.latency import Measured, measure_latency
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner, pool_description
from kprune_export.bundle.layout import FIDELITY, LATENCY, ONNX
from kprune_export.evaluation import EVALUATIONS
from kprune_export.job import Job
from kprune_export.stages.base import Desk, Stage
from kprune_export.stages.export import DENSE_ONNX, exported_checkpoint, model_spec


class FidelityStage(Stage):
    """Run dense and pruned ONNX on the held-out texts and compare: writes fidelity.json."""

    name = "fidelity"
    title = "Measuring fidelity"
    outputs = (FIDELITY,)
    needs = ("export", "dense-twin")

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the texts, their labels, and the seed where it decides what is masked."""
        seed = {"seed": job.recipe.seed} if job.source.task.masks_tokens else {}
        return {"texts": job.held_out_record.sha256, "labels": job.labels, **seed}

    def execute(self, job: Job, desk: Desk) -> None:
        """Run both on every text, batch by batch."""
        source = job.source
        evaluation = EVALUATIONS[source.task.kind](source, job.held_out, job.labels)
        batches = evaluation.batches(job.recipe.seed)
        with (
            OnnxRuntimeRunner(desk.files(DENSE_ONNX), job.threads) as dense,
            OnnxRuntimeRunner(desk.files(ONNX), job.threads) as pruned,
        ):
            for done, batch in enumerate(batches, start=1):
                feeds = {spec.name: batch.inputs[spec.name].numpy() for spec in dense.inputs}
                evaluation.add(batch, dense.run(feeds), pruned.run(feeds))
                desk.progress(done / len(batches))
            runtime = pruned.name
        first, *further = evaluation.metrics() or (None,)
        report = FidelityReport(
            task=source.task.kind.value,
            texts=sum(len(batch.rows) for batch in batches),
            texts_sha256=job.held_out_record.sha256,
            runtime=runtime,
            measures=evaluation.fidelity(),
            metric=first,
            further_metrics=tuple(further),
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
