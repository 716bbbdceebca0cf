"""From a torch module to an ONNX file that is proven to be the graph that was asked for."""

import contextlib
import hashlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from exporters.errors import ExportError
from exporters.inputs import Padding, synthetic_inputs
from exporters.spec import BATCH, SEQUENCE, ModelSpec, Shape

OPSET = 23
"""The first opset with the standard Attention operator (https://onnx.ai/onnx/operators/onnx__Attention.html)."""
PROTOBUF_LIMIT_BYTES = 2**31 - 1
_TRACE_SHAPE = Shape(2, 16)


@dataclass(frozen=True)
class OnnxArtefact:
    """An exported ONNX file.

    Attributes:
        path: the file.
        sha256: the hash of its bytes.
        size_bytes: its size.
        opset: its version of the standard operator set.
        operators: how often each operator stands in the graph.

    """

    path: Path
    sha256: str
    size_bytes: int
    opset: int
    operators: dict[str, int]


def onnx_from_torch(module: nn.Module, spec: ModelSpec, path: Path) -> OnnxArtefact:
    """Export a module to ONNX at opset 23, with dynamic batch and sequence axes, and check the result.

    The graph uses the standard Attention operator, one for each layer that attends. Nothing of the
    exporting machine stays in the file, so that the same module gives the same bytes.

    Args:
        module: maps int64 tensors (batch, sequence), in the spec's order, to its outputs: one tensor, or a tuple.
        spec: the names, the limits, and the attention layers that the graph must have.
        path: the file to write; its folder is there already.

    Raises:
        ExportError: torch cannot export the module, or the graph fails a check.

    """
    model = _export(module, spec)
    _strip(model)
    model.metadata_props.clear()
    for key, value in sorted(spec.metadata.items()):
        model.metadata_props.add(key=key, value=value)
    operators = Counter(node.op_type for node in model.graph.node)
    _check_graph(model, operators, spec)
    size = model.ByteSize()
    if size > PROTOBUF_LIMIT_BYTES:
        raise ExportError(
            f"The model is {size / 2**30:.1f} GiB, more than the 2 GiB that one ONNX file can hold, "
            "and external data is not written yet."
        )
    data = model.SerializeToString(deterministic=True)
    path.write_bytes(data)
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The exported graph is not valid ONNX: {error}") from error
    return OnnxArtefact(path, hashlib.sha256(data).hexdigest(), len(data), OPSET, dict(sorted(operators.items())))


def _export(module: nn.Module, spec: ModelSpec) -> onnx.ModelProto:
    arrays = synthetic_inputs(spec, _TRACE_SHAPE, Padding.RIGHT)
    tensors = tuple(torch.from_numpy(arrays[name]) for name in spec.inputs)
    axes = {0: torch.export.Dim(BATCH, min=1), 1: torch.export.Dim(SEQUENCE, min=1, max=spec.max_positions)}
    try:
        with _quiet():
            program = torch.onnx.export(
                module.eval(),
                tensors,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(spec.inputs),
                output_names=[output.name for output in spec.outputs],
                dynamic_shapes=tuple(axes for _ in tensors),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # torch.export raises many kinds, all of which mean the same here
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ExportError(f"torch could not export the model to ONNX: {reason}") from error
    if program is None:
        raise ExportError("torch exported no ONNX program.")
    return program.model_proto


def _strip(model: onnx.ModelProto) -> None:
    """Remove stack traces, fx dumps and other traces of the exporting machine."""
    model.doc_string = ""
    model.graph.doc_string = ""
    model.graph.name = "encoder"
    model.graph.ClearField("metadata_props")
    protos: list[Any] = [*model.graph.node, *model.graph.input, *model.graph.output]
    protos += [*model.graph.value_info, *model.graph.initializer]
    for proto in protos:
        proto.ClearField("metadata_props")
        proto.ClearField("doc_string")


def _check_graph(model: onnx.ModelProto, operators: Counter[str], spec: ModelSpec) -> None:
    if operators["Attention"] != spec.attention_layers:
        raise ExportError(
            f"The graph has {operators['Attention']} Attention nodes, but {spec.attention_layers} layers attend: "
            "torch did not export scaled dot-product attention as the standard operator."
        )
    for value in model.graph.input:
        axes = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        if axes != [BATCH, SEQUENCE]:
            raise ExportError(
                f"The input {value.name} was exported with the axes {axes}, not with a dynamic {BATCH} and {SEQUENCE}."
            )
    found = {value.name: value.type.tensor_type.shape.dim for value in model.graph.output}
    wanted = {output.name: output.shape for output in spec.outputs}
    for name, shape in wanted.items():
        axes = [axis.dim_param or axis.dim_value for axis in found.get(name, ())]
        if axes != list(shape):
            raise ExportError(f"The output {name} was exported with the axes {axes}, not with {list(shape)}.")
    domains = {(entry.domain or "ai.onnx"): entry.version for entry in model.opset_import}
    if domains != {"ai.onnx": OPSET}:
        raise ExportError(f"The graph uses the operator sets {domains}, not ai.onnx {OPSET} alone.")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's prints, warnings and log lines off the terminal; its errors are raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
