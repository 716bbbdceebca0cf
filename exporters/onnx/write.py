"""Variants: one model for several runtimes and precisions, each in the graph form that its runtime is fast with.

Which form a variant has was decided by measurement (``benchmarks/graph_forms.py``, figures in docs/RESULTS.md), not
while exporting, so that the same model gives the same bytes everywhere.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
from pydantic import BaseModel, ConfigDict

from exporters.errors import ExportError
from exporters.onnx.file import OnnxArtefact, write_onnx
from exporters.onnx.passes import int8
from exporters.onnx.passes.attention import (
    AttentionForm,
    attend_token_major,
    attention_nodes,
    decompose_attention,
    fold_attention_biases,
)
from exporters.onnx.passes.embedding_tables import quantize_tables
from exporters.onnx.passes.int8 import MatmulError, matmul_errors, quantize_matmuls
from exporters.onnx.passes.low_precision import lower_precision
from exporters.onnx.passes.residuals import subtract_residuals
from exporters.onnx.passes.smoothing import smooth_activations
from exporters.openvino.ir import IrArtefact, write_ir
from exporters.runners.base import Feeds
from exporters.spec import ModelSpec
from exporters.variant import Precision, Runtime, Variant

_LOW = {Precision.FP16: ir.DataType.FLOAT16, Precision.BF16: ir.DataType.BFLOAT16}


class GraphRecord(BaseModel):
    """What a variant's graph is, and why it is so.

    Attributes:
        variant: the variant's name.
        file: the ONNX file.
        opset: its version of the standard operator set.
        attention: the form of each layer that attends, in order.
        residuals_subtracted: how many residual sums were written so that ONNX Runtime does not fuse them.
        matmuls: for int8, every multiplication by a weight, its own error, and whether it is quantized.
        tables: the embedding tables that are stored in 8 bits.
        ir: for OpenVINO, its form of the graph, beside the ONNX file.

    """

    model_config = ConfigDict(frozen=True)

    variant: str
    file: OnnxArtefact
    opset: int
    attention: tuple[AttentionForm, ...]
    residuals_subtracted: int
    matmuls: tuple[MatmulError, ...]
    tables: tuple[str, ...]
    ir: IrArtefact | None = None

    @property
    def why(self) -> str:
        """In words, which form the graph has and why."""
        forms = ", ".join(f"{count} of {form}" for form, count in Counter(self.attention).items()) or "none"
        reason = f"Attention: {forms}."
        if self.residuals_subtracted:
            reason += (
                f" {self.residuals_subtracted} residual sums are written as differences, which ONNX Runtime does not "
                "fuse into its slower SkipLayerNormalization."
            )
        if self.tables:
            reason += f" In 8 bits a row: {', '.join(self.tables)}."
        return reason


def write_variant(
    base: ir.Model,
    spec: ModelSpec,
    variant: Variant,
    folder: Path,
    feeds: Sequence[Feeds] = (),
    threads: int = 1,
) -> GraphRecord:
    """Bring an exported graph into a variant's form and write it.

    Args:
        base: the float32 graph with standard Attention operators, as `exported_graph` returns it; not changed.
        spec: the metadata, and how many layers attend.
        variant: what for.
        folder: where the file is put, under the variant's file name.
        feeds: calibration batches, for int8.
        threads: how many ONNX Runtime uses while calibrating.

    Raises:
        ExportError: the graph cannot be brought into the form, or is not valid ONNX afterwards.

    """
    model = base.clone()
    matmuls: tuple[MatmulError, ...] = ()
    tables: list[str] = []
    subtracted = 0
    if variant.runtime is Runtime.ONNXRUNTIME and variant.precision is not Precision.FP16:
        forms = attend_token_major(model)
        fold_attention_biases(model)
        subtracted = subtract_residuals(model)
    else:
        forms = decompose_attention(model, lambda heads: _is_written_out(variant, heads))
    if len(forms) != spec.attention_layers:
        raise ExportError(f"{len(forms)} layers attend in the graph, but {spec.attention_layers} in the model.")
    if variant.precision in _LOW and variant.runtime is not Runtime.OPENVINO:  # which lowers it when it compiles
        with_attribute = variant.runtime is not Runtime.TENSORRT
        lower_precision(model, _LOW[variant.precision], softmax_precision=with_attribute)
    elif variant.precision is Precision.INT8:
        form = int8.CPU if variant.runtime.on_cpu else int8.TENSORRT
        matmuls, channels = matmul_errors(model, feeds, threads, form)
        matmuls = smooth_activations(model, matmuls, channels, feeds, threads, form)
        quantize_matmuls(model, matmuls, form)
        tables = quantize_tables(model) if variant.runtime is Runtime.ONNXRUNTIME else []
    kept = sum(form is not AttentionForm.DECOMPOSED for form in forms)
    if len(attention_nodes(model)) != kept:
        raise ExportError(f"The {variant} graph has {len(attention_nodes(model))} Attention nodes, not {kept}.")
    model.metadata_props.update({**spec.metadata, "kprune.variant": str(variant)})
    file = write_onnx(model, folder / variant.file_name)
    return GraphRecord(
        variant=str(variant),
        file=file,
        opset=model.opset_imports[""],
        attention=tuple(forms),
        residuals_subtracted=subtracted,
        matmuls=matmuls,
        tables=tuple(tables),
        ir=write_ir(file.path, variant.precision) if variant.runtime is Runtime.OPENVINO else None,
    )


def _is_written_out(variant: Variant, heads: int) -> bool:
    """Whether a layer's attention is written out.

    TensorRT has kernels for the Attention operator in fp16 and bf16, but none for a single head; in fp32, and
    between Q/DQ nodes, it fuses attention that is written out.
    """
    if variant.runtime is not Runtime.TENSORRT:
        return False
    return heads == 1 or variant.precision not in _LOW
