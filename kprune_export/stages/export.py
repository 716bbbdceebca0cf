"""Export the pruned checkpoint and its dense twin to ONNX, in the same way."""

from pathlib import Path
from typing import Any, ClassVar

from exporters.errors import ParityError
from exporters.first_difference import first_difference
from exporters.onnx_export import OPSET, onnx_from_torch
from exporters.parity import ParityReport, check_parity
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner
from exporters.runners.torch_runner import TorchRunner
from exporters.spec import BATCH, SEQUENCE, ModelSpec, TensorSpec
from kprune_export.bundle.layout import CHECKPOINT, ONNX, PARITY
from kprune_export.job import Job
from kprune_export.stages.base import Desk, Files, ShareDone, Stage
from pruning.checkpoint.load import EncoderCheckpoint, load_checkpoint
from pruning.serving import ServingModule
from pruning.tasks import Output

DENSE_ONNX = "dense/model.onnx"


def model_spec(checkpoint: EncoderCheckpoint, versions: dict[str, str]) -> ModelSpec:
    """Describe a checkpoint to the exporters, with the metadata that its graph carries."""
    config = checkpoint.model.config
    plan = checkpoint.plan
    metadata = {
        "kprune.task": checkpoint.task.kind.value,
        "kprune.pooling": checkpoint.pooled_by or "",
        "kprune.labels": "\n".join(checkpoint.task.labels),
        "kprune.max_tokens": str(checkpoint.max_tokens),
        "kprune.plan_sha256": plan.sha256 if plan else "",
        "kprune.source_sha256": plan.source_sha256 if plan else checkpoint.folder.weights_sha256(),
        **{f"version.{name}": version for name, version in versions.items()},
    }
    return ModelSpec(
        inputs=checkpoint.inputs,
        outputs=tuple(_tensor_spec(output) for output in checkpoint.task.outputs),
        max_positions=checkpoint.max_positions,
        vocabulary=config.vocab_size,
        token_types=checkpoint.family.token_types(config),
        pad_token_id=checkpoint.tokenizer.pad_token_id or 0,
        attention_layers=plan.attention_layers if plan else config.num_hidden_layers,
        metadata=metadata,
    )


def _tensor_spec(output: Output) -> TensorSpec:
    tokens = (SEQUENCE,) if output.per_token else ()
    width = () if output.width is None else (output.width,)
    return TensorSpec(output.name, "float32", (BATCH, *tokens, *width))


def exported_checkpoint(job: Job, files: Files) -> EncoderCheckpoint:
    """Return the checkpoint that a bundle's ONNX is made from: the pruned one, or the source itself."""
    if job.ships_checkpoint:
        return load_checkpoint(files(CHECKPOINT))
    return job.source


def parity_of(checkpoint: EncoderCheckpoint, path: Path, job: Job, progress: ShareDone) -> ParityReport:
    """Compare an ONNX file with the checkpoint that it was exported from."""
    spec = model_spec(checkpoint, job.versions)
    module = ServingModule(checkpoint).eval()
    with OnnxRuntimeRunner(path, job.threads) as candidate:
        return check_parity(
            TorchRunner(module, spec),
            candidate,
            spec,
            locate=lambda feeds: first_difference(module, path, feeds, job.threads),
            progress=progress,
        )


class ExportStage(Stage):
    """Export the run's checkpoint: writes onnx/model.onnx."""

    name = "export"
    title = "Exporting to ONNX"
    outputs = (ONNX,)
    needs: ClassVar[tuple[str, ...]] = ("prune",)

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the source and the opset."""
        return {"source": job.source_record.model_dump(exclude={"model"}), "opset": OPSET}

    def execute(self, job: Job, desk: Desk) -> None:
        """Export and check the graph."""
        checkpoint = exported_checkpoint(job, desk.files)
        path = desk.folder / ONNX
        path.parent.mkdir()
        onnx_from_torch(ServingModule(checkpoint), model_spec(checkpoint, job.versions), path)
        desk.progress(1.0)


class ExportSourceStage(ExportStage):
    """Export the source as it is, without pruning."""

    needs = ()


class DenseTwinStage(Stage):
    """Export the dense source in the same way, to compare with; checked for parity like the other."""

    name = "dense-twin"
    title = "Exporting the dense twin"
    outputs = (DENSE_ONNX,)
    transient = True

    def settings(self, job: Job) -> dict[str, Any]:
        """Return the source and the opset."""
        return {"source": job.source_record.model_dump(exclude={"model"}), "opset": OPSET}

    def execute(self, job: Job, desk: Desk) -> None:
        """Export, check the graph, and check parity."""
        checkpoint = job.take_dense()
        path = desk.folder / DENSE_ONNX
        path.parent.mkdir()
        onnx_from_torch(ServingModule(checkpoint), model_spec(checkpoint, job.versions), path)
        desk.progress(0.7)
        parity_of(checkpoint, path, job, lambda share: desk.progress(0.7 + 0.3 * share)).raise_if_failed()


class ParityStage(Stage):
    """Compare the ONNX file with the checkpoint in torch: writes parity.json."""

    name = "parity"
    title = "Checking parity with torch"
    outputs = (PARITY,)
    needs = ("export",)

    def settings(self, job: Job) -> dict[str, Any]:  # noqa: ARG002 - as the base class declares it
        """Return nothing: the export decides it."""
        return {}

    def execute(self, job: Job, desk: Desk) -> None:
        """Compare; the report is written even where parity fails."""
        report = parity_of(exported_checkpoint(job, desk.files), desk.files(ONNX), job, desk.progress)
        (desk.folder / PARITY).write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def check(self, files: Files) -> None:
        """Stop the run if parity failed.

        Raises:
            ParityError: with the worst case, and where the whole report is.

        """
        path = files(PARITY)
        try:
            ParityReport.model_validate_json(path.read_text(encoding="utf-8")).raise_if_failed()
        except ParityError as error:
            raise ParityError(f"{error} All cases are in {path}.") from error
