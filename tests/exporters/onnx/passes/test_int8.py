from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from exporters.errors import ExportError
from exporters.onnx.passes import int8
from exporters.onnx.passes.editing import constant_of
from exporters.onnx.passes.embedding_tables import quantize_tables
from exporters.onnx.passes.int8 import (
    CPU,
    TENSORRT,
    IntegerForm,
    MatmulError,
    int8_steps,
    matmul_errors,
    quantize_matmuls,
    quantized_activations,
    quantized_weight,
    saturation_free_scales,
    symmetric_scales,
)

TEXT = "two (float[B,4] x) => (float[B,3] y, float[B,2] z) { y = MatMul(x, w) z = MatMul(x, v) }"


FORMS = pytest.mark.parametrize("form", [CPU, TENSORRT], ids=["cpu", "tensorrt"])


def test_a_weight_by_hand() -> None:
    """Columns have steps of 1 and 0.5; halves go to the even neighbour."""
    weight = np.array([[127.0, 63.5], [-3.4, 0.2], [2.5, 0.25]])
    assert quantized_weight(weight, symmetric_scales(weight, 0)).tolist() == [[127.0, 63.5], [-3.0, 0.0], [2.0, 0.0]]
    zeros = np.zeros((2, 1))
    assert quantized_weight(zeros, symmetric_scales(zeros, 0)).tolist() == [[0.0], [0.0]]


def test_scales_that_do_not_saturate_by_hand() -> None:
    """Inputs 0 and 1 are neighbours, and 2 stands alone: sums of 127 and 254, of 2 and 381."""
    weight = np.array([[100.0, -1.0], [-27.0, 1.0], [-254.0, 381.0]])
    assert saturation_free_scales(weight).tolist() == [[2.0, 3.0]]
    assert CPU.weight_scales(weight).tolist() == [[2.0, 3.0]]
    assert saturation_free_scales(np.zeros((3, 1))).tolist() == [[1.0]]


@given(
    weight=arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 3)),
        elements=st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False),
    )
)
def test_no_weight_that_is_written_saturates(weight: Any) -> None:
    """Two neighbours times the largest activation stay within 16 bits."""
    steps = int8_steps(weight, saturation_free_scales(weight)).astype(np.int64)
    if len(steps) % 2:
        steps = np.concatenate([steps, np.zeros_like(steps[:1])])
    assert (255 * (np.abs(steps[0::2]) + np.abs(steps[1::2])) <= 2**15 - 1).all()


def test_activations_by_hand() -> None:
    """From -51 to 204 a step is 1 and zero stands at 51; signed, a range of 254 has steps of 2; both clip."""
    x = np.array([-51.0, 0.0, 0.4, 99.6, 204.0])
    assert quantized_activations(x, -51, 204, CPU).tolist() == [-51.0, 0.0, 0.0, 100.0, 204.0]
    assert quantized_activations(np.array([25.5, 256.0]), 25.5, 255, CPU).tolist() == [26.0, 255.0]  # 0 is in the range
    assert quantized_activations(x, -3, 254, TENSORRT).tolist() == [-52.0, 0.0, 0.0, 100.0, 204.0]
    assert quantized_activations(np.array([300.0]), -254, 3, TENSORRT).tolist() == [254.0]
    assert quantized_activations(np.zeros(2), 0, 0, CPU).tolist() == [0.0, 0.0]


@FORMS
def test_the_error_of_a_multiplication(form: IntegerForm, graph_of: Any, numbers: Any) -> None:
    w, v = numbers(4, 3), numbers(4, 2, seed=1)
    batches = [numbers(5, 4, seed=2), 3 * numbers(6, 4, seed=3)]
    low = int8.MARGIN * float(min(x.min() for x in batches))
    high = int8.MARGIN * float(max(x.max() for x in batches))
    found, channels = matmul_errors(graph_of(TEXT, w=w, v=v), [{"x": x} for x in batches], 2, form)
    for error, weight in zip(found, (w, v), strict=True):
        coarse = quantized_weight(weight, form.weight_scales(weight))
        lost = whole = 0.0
        for x in batches:
            rounded = quantized_activations(x, low, high, form)
            lost += float(np.square(rounded @ coarse - x @ weight, dtype=np.float64).sum())
            whole += float(np.square(x @ weight, dtype=np.float64).sum())
        assert error.relative_error == pytest.approx(np.sqrt(lost / whole), rel=1e-4)
        assert (error.input_low, error.input_high) == pytest.approx((low, high))
        assert error.quantized is (error.relative_error <= int8.LARGEST_ERROR)
        assert np.array_equal(channels[error.node].low, np.concatenate(batches).min(0))
        assert np.array_equal(channels[error.node].high, np.concatenate(batches).max(0))


def test_outliers_keep_a_multiplication_in_float(graph_of: Any, numbers: Any) -> None:
    """One huge channel that the weight ignores leaves the others less than a step."""
    x = numbers(50, 4)
    x[:, 0] *= 1e4
    w = numbers(4, 3)
    w[0] = 0
    errors, _ = matmul_errors(graph_of(TEXT, w=w, v=np.eye(4, 2, dtype=np.float32)), [{"x": x}], 2, CPU)
    assert [x.quantized for x in errors] == [False, True]


def chosen(*quantized: bool) -> list[MatmulError]:
    names = [("MatMul_0", "w"), ("MatMul_1", "v")]
    return [
        MatmulError(node=node, weight=weight, input_low=-3, input_high=4, relative_error=0.01, quantized=x)
        for (node, weight), x in zip(names, quantized, strict=True)
    ]


@FORMS
def test_a_graph_computes_what_the_formula_says(form: IntegerForm, graph_of: Any, numbers: Any, run_graph: Any) -> None:
    w, v, x = numbers(4, 3), numbers(4, 2, seed=1), numbers(5, 4, seed=2)
    model = graph_of(TEXT, w=w, v=v)
    quantize_matmuls(model, chosen(True, True), form)
    found = Counter(node.op_type for node in model.graph)
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 3)  # both read the same activations
    stored = {value.dtype for name, value in model.graph.initializers.items() if name.endswith(".int8")}
    assert stored == {ir.DataType.INT8}
    given = run_graph(model, {"x": x})
    rounded = quantized_activations(x, -3, 4, form)
    for name, weight in (("y", w), ("z", v)):
        expected = rounded @ quantized_weight(weight, form.weight_scales(weight))
        np.testing.assert_allclose(given[name], expected, atol=1e-5)


@FORMS
def test_the_rows_of_a_batch_do_not_depend_on_each_other(
    form: IntegerForm, graph_of: Any, numbers: Any, run_graph: Any
) -> None:
    w, v, x = numbers(4, 3), numbers(4, 2, seed=1), numbers(5, 4, seed=2)
    x[1] *= 100
    model = graph_of(TEXT, w=w, v=v)
    quantize_matmuls(model, chosen(True, True), form)
    together = run_graph(model, {"x": x})["y"]
    alone = np.concatenate([run_graph(model, {"x": row[None]})["y"] for row in x])
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_what_is_not_chosen_stays(graph_of: Any, numbers: Any, run_graph: Any) -> None:
    w, v, x = numbers(4, 3), numbers(4, 2, seed=1), numbers(5, 4, seed=2)
    model = graph_of(TEXT, w=w, v=v)
    quantize_matmuls(model, chosen(False, True), CPU)
    np.testing.assert_allclose(run_graph(model, {"x": x})["y"], x @ w, rtol=1e-5)


def test_onnxruntime_fuses_it(graph_of: Any, numbers: Any, fused_operators: Callable[[ir.Model], list[str]]) -> None:
    """What makes it fast: one integer kernel a multiplication, one quantization for two that share it."""
    text = TEXT.replace("[B,", "[B,S,").replace("y = MatMul(x, w)", "m = MatMul(x, w) y = Add(m, b)")
    model = graph_of(text, w=numbers(4, 3), v=numbers(4, 2), b=numbers(3))
    first, second = chosen(True, True)
    quantize_matmuls(model, [first, second.model_copy(update={"node": "MatMul_2"})], CPU)
    found = Counter(fused_operators(model))
    assert found == {"QuantizeLinear": 1, "MatMulIntegerToFloat": 2, "Add": 1}


def test_int8_by_name_only_is_refused(graph_of: Any, numbers: Any) -> None:
    errors = [x.model_copy(update={"relative_error": 0.2}) for x in chosen(False, False)]
    with pytest.raises(ExportError, match=r"no multiplication tolerates it: the smallest error .* is 20\.0%"):
        quantize_matmuls(graph_of(TEXT, w=numbers(4, 3), v=numbers(4, 2)), errors, CPU)


def test_ranges_need_texts(graph_of: Any, numbers: Any) -> None:
    with pytest.raises(ExportError, match="int8 needs calibration texts, and there are none"):
        matmul_errors(graph_of(TEXT, w=numbers(4, 3), v=numbers(4, 2)), [], 2, CPU)


def test_a_table_by_hand(
    graph_of: Any, run_graph: Any, numbers: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporters.onnx.passes.embedding_tables.SMALLEST_TABLE", 6)
    text = "lookup (int64[S] ids) => (float[S,2] y, float[S,2] z) { y = Gather(large, ids) z = Gather(small, ids) }"
    large = np.float32([[127, -1.2], [0, 0], [0.254, 0.1]])
    small = numbers(2, 2)
    model = graph_of(text, large=large, small=small)
    assert quantize_tables(model) == ["large"]
    found = run_graph(model, {"ids": np.array([0, 1])})
    np.testing.assert_allclose(found["y"], [[127, -1], [0, 0]])
    np.testing.assert_array_equal(found["z"], small[[0, 1]])
    assert constant_of(model.graph.initializers["large.int8"]).tolist() == [[127, -1], [0, 0], [127, 50]]
