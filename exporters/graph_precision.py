"""Check of the number format that a graph's weights and products are in."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from exporters.errors import EngineError
from exporters.variant import Precision

FLOATS: dict[int, str] = {
    onnx.TensorProto.FLOAT: "fp32",
    onnx.TensorProto.FLOAT16: "fp16",
    onnx.TensorProto.BFLOAT16: "bf16",
}
_INT8 = onnx.TensorProto.INT8
_BYTES = {**{kind: 4 if name == "fp32" else 2 for kind, name in FLOATS.items()}, _INT8: 1}
_LAYOUT = ("Transpose", "Reshape", "Identity")
_PASSING = (*_LAYOUT, "Cast", "QuantizeLinear", "DequantizeLinear")
FLOAT32_LEFT_BYTES = 64 * 2**10
"""More than this in float32 in a graph of a lower precision means that weights were left behind; less is what has to
stay, such as the angles of rotary positions."""


@dataclass(frozen=True)
class GraphWeights:
    """What the types of a graph say about its precision.

    Attributes:
        elements: how many numbers its weight matrices and embedding tables hold, by format.
        size_bytes: the bytes of all its weights, vectors too.
        matmuls: how many products of a weight and what depends on the inputs it has, by the format that they are
            computed in: ``int8`` where both sides come from a DequantizeLinear and the weight is stored in int8.

    """

    elements: dict[str, int]
    size_bytes: int
    matmuls: dict[str, int]


def graph_weights(model: onnx.ModelProto, precision: Precision) -> GraphWeights:
    """Read a graph's weights and refuse it where they are not in a precision.

    In fp32, fp16 and bf16 every product with a weight is computed in that format, and every matrix is stored in it,
    but for a few in float32 that no product is with. In int8 at least one product has both sides quantized; which
    the others are is the graph's choice.

    Raises:
        EngineError: the graph is in another precision; the message names the first weight that says so.

    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    matrices = [t for t in stored.values() if t.data_type in _BYTES and sum(size > 1 for size in t.dims) > 1]
    products = list(_products(model, stored))
    if precision is Precision.INT8:
        if not any(kind == "int8" for _, kind in products):
            raise EngineError(
                "The graph is not int8: no MatMul has both sides quantized by QuantizeLinear and DequantizeLinear: "
                "export it with --precision int8."
            )
    else:
        wrong = [(name, kind) for name, kind in products if kind != precision]
        others = [t for t in matrices if FLOATS.get(t.data_type) != precision]
        if sum(_BYTES[t.data_type] * _elements(t) for t in others) > FLOAT32_LEFT_BYTES:
            wrong += [(t.name, FLOATS.get(t.data_type, "int8")) for t in others]
        if wrong:
            name, kind = wrong[0]
            more = f", and {len(wrong) - 1} others are not {precision} either" if len(wrong) > 1 else ""
            raise EngineError(
                f"The graph is not {precision}: {name} is {kind}{more}: export it with --precision {precision}."
            )
    elements: Counter[str] = Counter()
    for tensor in matrices:
        elements[FLOATS.get(tensor.data_type, "int8")] += _elements(tensor)
    size = sum(_BYTES[t.data_type] * _elements(t) for t in stored.values() if t.data_type in _BYTES)
    return GraphWeights(dict(elements), size, dict(Counter(kind for _, kind in products)))


def _products(model: onnx.ModelProto, stored: dict[str, onnx.TensorProto]) -> Iterator[tuple[str, str]]:
    """Give the weight of each MatMul and Gemm that has one, and the format that the product is computed in."""
    producers = {name: node for node in model.graph.node for name in node.output}
    fixed = {*stored, ""}  # an optional input that is left out has no name
    for node in model.graph.node:
        if fixed.issuperset(node.input):
            fixed.update(node.output)  # a product of constants is computed once, when an engine is built
            continue
        if node.op_type not in ("MatMul", "Gemm"):
            continue
        for place in (1, 0):
            origin = _weight(node.input[place], producers, stored)
            if origin is None:
                continue
            weight, kind = origin
            if stored[weight].data_type == _INT8 and all(_is_quantized(x, producers) for x in node.input[:2]):
                kind = "int8"
            yield weight, kind
            break


def _weight(
    name: str, producers: dict[str, onnx.NodeProto], stored: dict[str, onnx.TensorProto]
) -> tuple[str, str] | None:
    """Return the initializer that a tensor is made of, and the float format that it arrives in; None if of none."""
    arrives: str | None = None
    while name not in stored:
        node = producers.get(name)
        if node is None or node.op_type not in _PASSING:
            return None
        if node.op_type == "Cast" and arrives is None:
            arrives = FLOATS.get(next(a.i for a in node.attribute if a.name == "to"))
        elif node.op_type == "DequantizeLinear" and arrives is None:
            scale = stored.get(node.input[1])
            arrives = FLOATS.get(scale.data_type) if scale is not None else None
        name = node.input[0]
    return name, arrives or FLOATS.get(stored[name].data_type, "int8")


def _is_quantized(name: str, producers: dict[str, onnx.NodeProto]) -> bool:
    """Return whether a tensor comes from a DequantizeLinear, its layout changed at most."""
    node = producers.get(name)
    while node is not None and node.op_type in _LAYOUT:
        node = producers.get(node.input[0])
    return node is not None and node.op_type == "DequantizeLinear"


def _elements(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count
