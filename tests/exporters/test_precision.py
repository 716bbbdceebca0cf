"""What a graph's types say, on graphs of a few nodes."""

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.errors import EngineError
from exporters.graph_precision import FLOAT32_LEFT_BYTES, GraphWeights, graph_weights
from exporters.variant import Precision

DTYPES: dict[str, Any] = {"fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16}
SCALE = np.float32(0.1)


def graph(nodes: Sequence[onnx.NodeProto], **weights: Any) -> onnx.ModelProto:
    """Return a graph whose types matter, and whose inputs and outputs do not."""
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    return helper.make_model(helper.make_graph(nodes, "graph", [], [], stored))


def product(weight: str = "w", left: str = "x") -> onnx.NodeProto:
    return helper.make_node("MatMul", [left, weight], [f"{weight}.y"])


def quantized(weight: Any, activations: bool = True) -> onnx.ModelProto:
    nodes = [helper.make_node("DequantizeLinear", ["w8", "scale"], ["w"]), product(left="x.dq" if activations else "x")]
    if activations:
        nodes.insert(0, helper.make_node("QuantizeLinear", ["x", "scale"], ["x.q"]))
        nodes.insert(1, helper.make_node("DequantizeLinear", ["x.q", "scale"], ["x.dq"]))
    return graph(nodes, w8=weight, scale=SCALE)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_plain_formats(precision: str) -> None:
    dtype = DTYPES[precision]
    model = graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["x"]),
            product(),
            helper.make_node("Transpose", ["v"], ["v.t"]),
            product("v.t", "w.y"),
            helper.make_node("Gemm", ["v.t.y", "u"], ["z"]),
            helper.make_node("MatMul", ["z", "z"], ["attention"]),
        ],
        table=np.ones((5, 2), dtype),
        w=np.ones((2, 3), dtype),
        v=np.ones((4, 3), dtype),
        u=np.ones((4, 2), dtype),
        norm=np.ones(7, dtype),
        shape=np.ones(2, np.int64),
    )
    bytes_each = 4 if precision == "fp32" else 2
    wanted = GraphWeights({precision: 10 + 6 + 12 + 8}, (36 + 7) * bytes_each, {precision: 3})
    assert graph_weights(model, Precision(precision)) == wanted
    for other in set(Precision) - {precision}:
        with pytest.raises(EngineError, match=f"The graph is not {other}"):
            graph_weights(model, other)


def test_a_weight_that_is_cast_as_it_is_used() -> None:
    """Stored in one format and multiplied in another, it is neither."""
    model = graph(
        [helper.make_node("Cast", ["w16"], ["w"], to=TensorProto.FLOAT), product()], w16=np.ones((300, 300), "f2")
    )
    for precision in (Precision.FP32, Precision.FP16):
        with pytest.raises(EngineError, match="w16 is "):
            graph_weights(model, precision)


def test_what_stays_in_float32() -> None:
    small, large = (np.ones((size, 2), np.float32) for size in (FLOAT32_LEFT_BYTES // 8, FLOAT32_LEFT_BYTES // 8 + 1))
    weight = np.ones((2, 2), np.float16)
    assert graph_weights(graph([product()], w=weight, angles=small), Precision.FP16).matmuls == {"fp16": 1}
    with pytest.raises(EngineError, match="The graph is not fp16: table is fp32: export it with --precision fp16"):
        graph_weights(graph([product()], w=weight, table=large), Precision.FP16)


def test_int8_is_both_sides() -> None:
    weight = np.ones((2, 3), np.int8)
    assert graph_weights(quantized(weight), Precision.INT8) == GraphWeights({"int8": 6}, 6 + 4, {"int8": 1})
    with pytest.raises(EngineError, match="no MatMul has both sides quantized"):
        graph_weights(quantized(weight, activations=False), Precision.INT8)
    with pytest.raises(EngineError, match="The graph is not fp32: w8 is int8"):
        graph_weights(quantized(weight), Precision.FP32)


def test_a_product_of_constants_is_none() -> None:
    norm = helper.make_node("LayerNormalization", ["table", "gain", ""], ["table.n"])
    ones = {name: np.ones((2, 2), np.float32) for name in ("table", "v")}
    nodes = [norm, product("v", "table.n"), product(), helper.make_node("MatMul", ["w.y", "v.y"], ["z"])]
    model = graph(nodes, **ones, gain=np.ones(2, np.float32), w=np.ones((2, 2), np.float16))
    assert graph_weights(model, Precision.FP16).matmuls == {"fp16": 1}


def test_how_many_are_wrong_is_said() -> None:
    model = graph([product("a"), product("b"), product("c")], **{x: np.ones((2, 2), np.float32) for x in "abc"})
    with pytest.raises(EngineError, match="a is fp32, and 2 others are not fp16 either: export it with"):
        graph_weights(model, Precision.FP16)
