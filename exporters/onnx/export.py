"""From a torch module to an ONNX graph, with checks that it is the one that was asked for."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir
import torch
from onnx_ir.passes import common
from torch import nn

from exporters.errors import ExportError
from exporters.inputs import Padding, synthetic_inputs
from exporters.onnx.file import OnnxArtefact, write_onnx
from exporters.spec import BATCH, SEQUENCE, ModelSpec, Shape

OPSET = 23
"""The first opset with the standard Attention operator (https://onnx.ai/onnx/operators/onnx__Attention.html)."""
_TRACE_SHAPE = Shape(2, 16)


def exported_graph(module: nn.Module, spec: ModelSpec) -> ir.Model:
    """Export a module to an ONNX graph at opset 23, with dynamic batch and sequence axes, and check it.

    The graph is float32 and uses the standard Attention operator, one for each layer that attends. Nothing of
    the exporting machine stays in it, so that the same module gives the same graph. `exporters.onnx.write`
    writes it for a runtime and a precision.

    Args:
        module: maps int64 tensors (batch, sequence), in the spec's order, to its outputs: one tensor, or a tuple.
        spec: the names, the limits, and the attention layers that the graph must have.

    Raises:
        ExportError: torch cannot export the module, or the graph fails a check.

    """
    model = _export(module, spec)
    _strip(model)
    _check_graph(model, spec)
    return model


def onnx_from_torch(module: nn.Module, spec: ModelSpec, path: Path) -> OnnxArtefact:
    """Export a module to an ONNX file as `exported_graph` gives it, with the spec's metadata, for any runtime.

    Raises:
        ExportError: as `exported_graph`, or the file is not valid ONNX.

    """
    model = exported_graph(module, spec)
    model.metadata_props.update(spec.metadata)
    return write_onnx(model, path)


def _export(module: nn.Module, spec: ModelSpec) -> ir.Model:
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
    return program.model


def _strip(model: ir.Model) -> None:
    """Remove stack traces, fx dumps and other traces of the exporting machine."""
    common.ClearMetadataAndDocStringPass()(model)
    common.RemoveUnusedNodesPass()(model)
    model.doc_string = model.graph.doc_string = None
    model.graph.name = "encoder"
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    values += [output for node in model.graph for output in node.outputs]
    for value in values:
        value.metadata_props.clear()
        value.doc_string = None


def _check_graph(model: ir.Model, spec: ModelSpec) -> None:
    attending = sum(node.op_type == "Attention" for node in model.graph)
    if attending != spec.attention_layers:
        raise ExportError(
            f"The graph has {attending} Attention nodes, but {spec.attention_layers} layers attend: "
            "torch did not export scaled dot-product attention as the standard operator."
        )
    for value in model.graph.inputs:
        if _axes(value) != [BATCH, SEQUENCE]:
            raise ExportError(
                f"The input {value.name} was exported with the axes {_axes(value)}, not with a dynamic {BATCH} and "
                f"{SEQUENCE}."
            )
    found = {value.name: _axes(value) for value in model.graph.outputs}
    for output in spec.outputs:
        axes = found.get(output.name, [])
        if axes != list(output.shape):
            raise ExportError(
                f"The output {output.name} was exported with the axes {axes}, not with {list(output.shape)}."
            )
    domains = {(domain or "ai.onnx"): version for domain, version in model.opset_imports.items()}
    if domains != {"ai.onnx": OPSET}:
        raise ExportError(f"The graph uses the operator sets {domains}, not ai.onnx {OPSET} alone.")


def _axes(value: ir.Value) -> list[int | str | None]:
    return [axis if isinstance(axis, int) else axis.value for axis in value.shape or ()]


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
