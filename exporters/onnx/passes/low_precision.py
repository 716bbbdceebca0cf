"""A float32 graph as a strongly typed float16 or bfloat16 one.

Every tensor's type is written in the graph, as TensorRT 11 and ONNX Runtime take it: weights are stored once,
in the low precision. What would overflow or lose its meaning in it stays in float32 between two Casts: sums over
tokens, softmax, and the angles of rotary positions. LayerNormalization takes its statistics in float32 by itself
(``stash_type``, https://onnx.ai/onnx/operators/onnx__LayerNormalization.html). Inputs stay int64 and outputs float32.
"""

import ml_dtypes
import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from exporters.errors import ExportError
from exporters.graph_precision import FLOAT32_LEFT_BYTES
from exporters.onnx.file import bytes_by_type
from exporters.onnx.passes.editing import Constant, add_constant, constant_of, insert_before, is_constant, remove_unused

LOW_TYPES = {ir.DataType.FLOAT16: np.dtype(np.float16), ir.DataType.BFLOAT16: np.dtype(ml_dtypes.bfloat16)}
WIDE = frozenset(
    {"Softmax", "LogSoftmax", "ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare", "CumSum"}
    | {"Cos", "Sin", "Exp", "Log", "Sqrt", "Pow", "Reciprocal", "Range"}
)
"""Operators that stay in float32: sums of many terms, and functions with a wide range."""


def lower_precision(model: ir.Model, dtype: ir.DataType, *, softmax_precision: bool = True) -> None:
    """Make a float32 graph a float16 or bfloat16 one, in place.

    Args:
        model: a graph of standard operators, with float32 tensors.
        dtype: ``FLOAT16`` or ``BFLOAT16``.
        softmax_precision: whether Attention is set to take its softmax in float32; TensorRT's parser refuses
            that attribute, and its kernels do so anyway.

    Raises:
        ExportError: a weight is too large for the type, or weights would stay in float32.

    """
    common.ShapeInferencePass()(model)
    lowering = _Lowering(model, dtype, softmax_precision)
    for node in list(model.graph):
        lowering.visit(node)
    lowering.restore_outputs()
    remove_unused(model)
    left = bytes_by_type(model).get("float", 0)
    if left > FLOAT32_LEFT_BYTES:
        raise ExportError(
            f"{left / 2**20:.1f} MiB of the weights stay in float32 in a {dtype.name.lower()} graph: an operator of "
            "this model is not one that the exporter can lower."
        )


class _Lowering:
    def __init__(self, model: ir.Model, dtype: ir.DataType, softmax_precision: bool) -> None:
        self._graph = model.graph
        self._dtype = dtype
        self._softmax_precision = softmax_precision
        self._constants: dict[ir.Value, ir.Value] = {}
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._low: set[ir.Value] = set()

    def visit(self, node: ir.Node) -> None:
        """Give a node's inputs the type that it works in, and note the type of its outputs."""
        floats = [x for x in node.inputs if x is not None and (x in self._low or x.dtype == ir.DataType.FLOAT)]
        makes_float = any(x.dtype == ir.DataType.FLOAT for x in node.outputs)
        if node.op_type == "Cast" or not (floats or makes_float):
            return
        low = self._works_low(node, floats)
        for index, value in enumerate(node.inputs):
            if value is not None and value in floats:
                node.replace_input_with(index, self._typed(value, low, node))
        if low:
            self._lower_outputs(node)

    def _typed(self, value: ir.Value, low: bool, node: ir.Node) -> ir.Value:
        """Return an input in the type that its node works in."""
        if is_constant(value):
            return self._lowered_constant(value) if low else value
        if low == (value in self._low):
            return value
        return self._cast(value, self._dtype if low else ir.DataType.FLOAT, node)

    def _lower_outputs(self, node: ir.Node) -> None:
        for output in node.outputs:
            if output.dtype in (ir.DataType.FLOAT, None):
                output.type = ir.TensorType(self._dtype)
                self._low.add(output)
        if node.op_type == "Attention" and self._softmax_precision:
            node.attributes["softmax_precision"] = ir.AttrInt64("softmax_precision", int(ir.DataType.FLOAT))

    def _works_low(self, node: ir.Node, floats: list[ir.Value]) -> bool:
        if node.op_type in WIDE:
            return False
        variable = [x for x in floats if not is_constant(x)]
        if variable:
            return any(x in self._low for x in variable)
        return bool(floats)  # embeddings, masks, and what is computed from weights alone

    def _lowered_constant(self, value: ir.Value) -> ir.Value:
        if value not in self._constants:
            name = f"{value.name}.{self._dtype.name.lower()}"
            self._constants[value] = add_constant(self._graph, name, self._fitting(value))
        return self._constants[value]

    def _fitting(self, value: ir.Value) -> Constant:
        """Return a constant in the low precision; a mask's lowest number becomes the lowest that there is."""
        numbers = constant_of(value)
        limits = ml_dtypes.finfo(LOW_TYPES[self._dtype])  # type: ignore[no-untyped-call]
        lowest, highest = float(limits.min), float(limits.max)
        if numbers.size == 1 and np.isfinite(numbers).all():
            numbers = np.clip(numbers, lowest, highest)
        finite = numbers[np.isfinite(numbers)]
        if finite.size and (finite.max() > highest or finite.min() < lowest):
            raise ExportError(
                f"The weight {value.name} holds {np.abs(finite).max():.3g}, more than {self._dtype.name.lower()} can "
                "hold: use --precision bf16 or fp32."
            )
        return numbers.astype(LOW_TYPES[self._dtype])

    def _cast(self, value: ir.Value, dtype: ir.DataType, user: ir.Node) -> ir.Value:
        key = (value, dtype)
        if key not in self._casts:
            cast = insert_before(user, "Cast", [value], {"to": int(dtype)})
            cast.type, cast.shape = ir.TensorType(dtype), value.shape
            self._casts[key] = cast
            if dtype == self._dtype:
                self._low.add(cast)
        return self._casts[key]

    def restore_outputs(self) -> None:
        """Give the graph's outputs in float32 again."""
        for index, output in enumerate(self._graph.outputs):
            if output not in self._low:
                continue
            name, output.name = output.name, f"{output.name}.{self._dtype.name.lower()}"
            cast = ir.node("Cast", [output], attributes={"to": int(ir.DataType.FLOAT)})
            cast.outputs[0].name, cast.outputs[0].shape = name, output.shape
            cast.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            self._graph.append(cast)
            self._graph.outputs[index] = cast.outputs[0]
