from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from exporters.errors import ExportError
from exporters.graph import int8
from exporters.graph.editing import constant_of
from exporters.graph.int8 import (
    MatmulError,
    matmul_errors,
    quantize_for_cpu,
    quantize_for_tensorrt,
    quantized_dynamically,
    quantized_statically,
    quantized_weight,
)
from exporters.graph.tables import quantize_tables

TEXT = "two (float[B,4] x) => (float[B,3] y, float[B,2] z) { y = MatMul(x, w) z = MatMul(x, v) }"


def test_a_weight_by_hand() -> None:
    """Columns have steps of 1 and 0.5; halves go to the even neighbour."""
    weight = np.array([[127.0, 63.5], [-3.4, 0.2], [2.5, 0.25]])
    assert quantized_weight(weight).tolist() == [[127.0, 63.5], [-3.0, 0.0], [2.0, 0.0]]
    assert quantized_weight(np.zeros((2, 1))).tolist() == [[0.0], [0.0]]


def test_activations_by_hand() -> None:
    """From -51 to 204 a step is 1 and zero stands at 51; a fixed range of 254 has steps of 2, and cuts."""
    x = np.array([-51.0, 0.0, 0.4, 99.6, 204.0])
    assert quantized_dynamically(x).tolist() == [-51.0, 0.0, 0.0, 100.0, 204.0]
    assert quantized_dynamically(np.array([25.5, 255.0])).tolist() == [26.0, 255.0]  # zero is always in the range
    assert quantized_statically(x, 254.0).tolist() == [-52.0, 0.0, 0.0, 100.0, 204.0]
    assert quantized_statically(np.array([300.0]), 254.0).tolist() == [254.0]


@pytest.mark.parametrize("dynamic", [True, False])
def test_the_error_of_a_multiplication(dynamic: bool, graph_of: Any, numbers: Any) -> None:
    w, v = numbers(4, 3), numbers(4, 2, seed=1)
    batches = [numbers(5, 4, seed=2), 3 * numbers(6, 4, seed=3)]
    largest = max(float(np.abs(x).max()) for x in batches)
    found = matmul_errors(graph_of(TEXT, w=w, v=v), [{"x": x} for x in batches], 2, dynamic=dynamic)
    for error, weight in zip(found, (w, v), strict=True):
        lost = whole = 0.0
        for x in batches:
            coarse = quantized_dynamically(x) if dynamic else quantized_statically(x, largest)
            lost += float(np.square(coarse @ quantized_weight(weight) - x @ weight, dtype=np.float64).sum())
            whole += float(np.square(x @ weight, dtype=np.float64).sum())
        assert error.relative_error == pytest.approx(np.sqrt(lost / whole), rel=1e-4)
        assert error.input_range == (None if dynamic else pytest.approx(largest))
        assert error.quantized is (error.relative_error <= int8.LARGEST_ERROR)


def test_outliers_keep_a_multiplication_in_float(graph_of: Any, numbers: Any) -> None:
    """One huge channel that the weight ignores leaves the others less than a step."""
    x = numbers(50, 4)
    x[:, 0] *= 1e4
    w = numbers(4, 3)
    w[0] = 0
    errors = matmul_errors(graph_of(TEXT, w=w, v=np.eye(4, 2, dtype=np.float32)), [{"x": x}], 2, dynamic=True)
    assert [x.quantized for x in errors] == [False, True]


def chosen(*quantized: bool) -> list[MatmulError]:
    names = [("MatMul_0", "w"), ("MatMul_1", "v")]
    return [
        MatmulError(node=node, weight=weight, input_range=4.0, relative_error=0.01, quantized=x)
        for (node, weight), x in zip(names, quantized, strict=True)
    ]


def test_for_the_cpu_as_the_formula_says(graph_of: Any, numbers: Any, run_graph: Any) -> None:
    w, v, x = numbers(4, 3), numbers(4, 2, seed=1), numbers(5, 4, seed=2)
    model = graph_of(TEXT, w=w, v=v)
    quantize_for_cpu(model, chosen(True, False))
    assert Counter(node.op_type for node in model.graph)["MatMulInteger"] == 1
    found = run_graph(model, {"x": x})
    np.testing.assert_allclose(found["y"], quantized_dynamically(x) @ quantized_weight(w), atol=1e-4)
    np.testing.assert_allclose(found["z"], x @ v, rtol=1e-6)


def test_for_tensorrt_as_the_formula_says(graph_of: Any, numbers: Any, run_graph: Any) -> None:
    w, v, x = numbers(4, 3), numbers(4, 2, seed=1), numbers(5, 4, seed=2)
    model = graph_of(TEXT, w=w, v=v)
    quantize_for_tensorrt(model, chosen(True, True))
    found = Counter(node.op_type for node in model.graph)
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 3)  # both read the same activations
    stored = {value.dtype for name, value in model.graph.initializers.items() if name.endswith(".int8")}
    assert stored == {ir.DataType.INT8}
    given = run_graph(model, {"x": x})
    np.testing.assert_allclose(given["y"], quantized_statically(x, 4.0) @ quantized_weight(w), atol=1e-5)
    np.testing.assert_allclose(given["z"], quantized_statically(x, 4.0) @ quantized_weight(v), atol=1e-5)


def test_what_is_not_chosen_stays(graph_of: Any, numbers: Any, run_graph: Any) -> None:
    w, v, x = numbers(4, 3), numbers(4, 2, seed=1), numbers(5, 4, seed=2)
    model = graph_of(TEXT, w=w, v=v)
    quantize_for_tensorrt(model, chosen(False, True))
    np.testing.assert_allclose(run_graph(model, {"x": x})["y"], x @ w, rtol=1e-5)


def test_onnxruntime_fuses_it(graph_of: Any, numbers: Any, fused_operators: Callable[[ir.Model], list[str]]) -> None:
    """What makes it fast: one kernel for a multiplication and its bias, one quantization for two that share it."""
    text = "two (float[B,4] x) => (float[B,3] y, float[B,2] z) { m = MatMul(x, w) y = Add(m, b) z = MatMul(x, v) }"
    model = graph_of(text, w=numbers(4, 3), v=numbers(4, 2), b=numbers(3))
    first, second = chosen(True, True)
    quantize_for_cpu(model, [first, second.model_copy(update={"node": "MatMul_2"})])
    assert set(fused_operators(model)) <= {"DynamicQuantizeMatMul", "DynamicQuantizeLinear", "MatMulIntegerToFloat"}


def test_int8_by_name_only_is_refused(graph_of: Any, numbers: Any) -> None:
    errors = [x.model_copy(update={"relative_error": 0.2}) for x in chosen(False, False)]
    for quantize in (quantize_for_cpu, quantize_for_tensorrt):
        with pytest.raises(ExportError, match=r"no multiplication bears it: the smallest error .* is 20\.0%"):
            quantize(graph_of(TEXT, w=numbers(4, 3), v=numbers(4, 2)), errors)


def test_ranges_need_texts(graph_of: Any, numbers: Any) -> None:
    with pytest.raises(ExportError, match="int8 needs calibration texts, and there are none"):
        matmul_errors(graph_of(TEXT, w=numbers(4, 3), v=numbers(4, 2)), [], 2, dynamic=True)


def test_a_table_by_hand(
    graph_of: Any, run_graph: Any, numbers: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporters.graph.tables.SMALLEST_TABLE", 6)
    text = "lookup (int64[S] ids) => (float[S,2] y, float[S,2] z) { y = Gather(large, ids) z = Gather(small, ids) }"
    large = np.float32([[127, -1.2], [0, 0], [0.254, 0.1]])
    small = numbers(2, 2)
    model = graph_of(text, large=large, small=small)
    assert quantize_tables(model) == ["large"]
    found = run_graph(model, {"ids": np.array([0, 1])})
    np.testing.assert_allclose(found["y"], [[127, -1], [0, 0]])
    np.testing.assert_array_equal(found["z"], small[[0, 1]])
    assert constant_of(model.graph.initializers["large.int8"]).tolist() == [[127, -1], [0, 0], [127, 50]]
