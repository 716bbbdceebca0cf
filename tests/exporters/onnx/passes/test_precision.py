from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from exporters.errors import ExportError
from exporters.onnx.file import bytes_by_type
from exporters.onnx.passes.bfloat16_emulation import emulate_bfloat16
from exporters.onnx.passes.editing import constant_of
from exporters.onnx.passes.low_precision import lower_precision

TEXT = """
small (int64[B,S] ids, bool[B,1,S] mask) => (float[B,3] y) {
   e = Gather(table, ids)
   h = MatMul(e, w)
   t = Transpose<perm: ints = [0, 2, 1]>(h)
   scores = MatMul(h, t)
   bias = Where(mask, zero, lowest)
   masked = Add(scores, bias)
   p = Softmax<axis: int = -1>(masked)
   c = MatMul(p, h)
   n = LayerNormalization<axis: int = -1>(c, g, b)
   s = ReduceSum<keepdims: int = 0>(n, axes)
   y = Div(s, scale)
}
"""
LOW = {ir.DataType.FLOAT16: np.float16, ir.DataType.BFLOAT16: ml_dtypes.bfloat16}


def small(graph_of: Any, numbers: Any, **changed: Any) -> ir.Model:
    weights = {"table": numbers(7, 4), "w": numbers(4, 3, seed=1), "g": numbers(3, seed=2), "b": numbers(3, seed=3)}
    weights |= {"zero": np.zeros(1, np.float32), "lowest": np.full(1, np.finfo(np.float32).min)}
    weights |= {"axes": np.array([1]), "scale": np.float32([4])}
    return graph_of(TEXT, **weights | changed)


def feeds() -> dict[str, Any]:
    mask = np.ones((2, 1, 5), bool)
    mask[1, :, 3:] = False
    return {"ids": np.random.default_rng(0).integers(0, 7, (2, 5)), "mask": mask}


@pytest.mark.parametrize("dtype", LOW, ids=lambda x: x.name)
def test_types_are_those_that_were_asked_for(dtype: ir.DataType, graph_of: Any, numbers: Any) -> None:
    model = small(graph_of, numbers)
    lower_precision(model, dtype)
    assert {name for name, value in model.graph.initializers.items() if value.dtype == ir.DataType.FLOAT} == {"scale"}
    assert bytes_by_type(model)["float"] == 4
    inputs = {node.op_type: [x.dtype for x in node.inputs if x is not None] for node in model.graph}
    assert inputs["MatMul"] == [dtype, dtype]
    assert inputs["LayerNormalization"] == [dtype] * 3
    assert inputs["Softmax"] == inputs["Div"][:1] == [ir.DataType.FLOAT]
    assert inputs["ReduceSum"][0] == ir.DataType.FLOAT
    assert [x.dtype for x in model.graph.inputs] == [ir.DataType.INT64, ir.DataType.BOOL]
    assert [(x.name, x.dtype) for x in model.graph.outputs] == [("y", ir.DataType.FLOAT)]


def test_what_leaves_tokens_out_fits(graph_of: Any, numbers: Any) -> None:
    model = small(graph_of, numbers)
    lower_precision(model, ir.DataType.FLOAT16)
    lowest = next(v for name, v in model.graph.initializers.items() if name.startswith("lowest"))
    assert constant_of(lowest).tolist() == [-65504.0]


def test_float16_is_near(graph_of: Any, numbers: Any, run_graph: Any) -> None:
    model = small(graph_of, numbers)
    expected = run_graph(model, feeds())["y"]
    lower_precision(model, ir.DataType.FLOAT16)
    found = run_graph(model, feeds())["y"]
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 2e-3


def test_a_weight_that_float16_cannot_hold(graph_of: Any, numbers: Any) -> None:
    table = numbers(7, 4)
    table[3, 2] = 1e5
    with pytest.raises(ExportError, match="The weight table holds 1e.05, more than float16 can hold: use --precision"):
        lower_precision(small(graph_of, numbers, table=table), ir.DataType.FLOAT16)
    lower_precision(small(graph_of, numbers, table=table), ir.DataType.BFLOAT16)


def test_positions_keep_their_angles(graph_of: Any, run_graph: Any, numbers: Any) -> None:
    """Angles of thousands of radians are computed in float32, their sines are used in low precision."""
    text = """
    rotary (int64[S] positions, int64[S] ids) => (float[S,2] y) {
       p = Cast<to: int = 1>(positions)
       a = Unsqueeze(p, axes)
       angles = MatMul(a, frequencies)
       turn = Cos(angles)
       e = Gather(table, ids)
       y = Mul(e, turn)
    }"""
    weights = {"frequencies": np.float32([[1.0, 0.3]]), "table": np.ones((1, 2), np.float32), "axes": np.array([1])}
    model = graph_of(text, **weights)
    lower_precision(model, ir.DataType.FLOAT16)
    inputs = {"positions": np.array([4099, 8191]), "ids": np.zeros(2, np.int64)}
    expected = np.cos(inputs["positions"][:, None] * np.array([1.0, 0.3]))
    np.testing.assert_allclose(run_graph(model, inputs)["y"], expected, atol=2e-3)


def test_weights_left_behind_are_refused(graph_of: Any) -> None:
    text = "left (int64[S] ids) => (float y) { s = ReduceSum<keepdims: int = 0>(big) y = Identity(s) }"
    with pytest.raises(ExportError, match=r"0\.2 MiB of the weights stay in float32 in a float16 graph"):
        lower_precision(graph_of(text, big=np.ones((200, 200), np.float32)), ir.DataType.FLOAT16)


def rounded(x: Any) -> Any:
    return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def test_bfloat16_is_rounded_after_each_operator(graph_of: Any, run_graph: Any, numbers: Any) -> None:
    text = "two (int64[S] ids) => (float[S,3] y) { e = Gather(table, ids) m = MatMul(e, w) y = Add(m, b) }"
    table, w, b = numbers(7, 4), numbers(4, 3, seed=1), numbers(3, seed=2)
    model = graph_of(text, table=table, w=w, b=b)
    lower_precision(model, ir.DataType.BFLOAT16)
    emulate_bfloat16(model)
    ids = np.array([0, 5, 2])
    product = rounded(rounded(table)[ids] @ rounded(w))
    np.testing.assert_array_equal(run_graph(model, {"ids": ids})["y"], rounded(product + rounded(b)))
