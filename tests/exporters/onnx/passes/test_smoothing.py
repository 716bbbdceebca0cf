from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from exporters.onnx.passes.int8 import (
    CPU,
    LARGEST_ERROR,
    MatmulError,
    channel_ranges,
    matmul_errors,
    quantize_matmuls,
    relative_errors,
)
from exporters.onnx.passes.smoothing import smooth_activations, smoothing_scales
from exporters.runners.base import Array

TEXT = "two (float[B,4] x) => (float[B,3] y, float[B,2] z) { y = MatMul(x, w) z = MatMul(x, v) }"
CHAIN = "chain (float[B,4] x) => (float[B,4] r, float[B,3] y) { a = Relu(x) y = MatMul(a, w) r = Add(a, x) }"


def test_scales_by_hand() -> None:
    """16^0.75 / 16^0.25 = 8 / 2 and 81^0.75 / 1; what is always 0, or not read, has the median, 15.5."""
    weights = [np.array([[1.0, -16.0], [1.0, 0.5], [3.0, 2.0], [0.0, 0.0]]), np.array([[2.0], [-1.0], [1.0], [0.0]])]
    scales = smoothing_scales(np.array([16.0, 81.0, 0.0, 5.0]), weights)
    assert scales == pytest.approx([4.0, 27.0, 15.5, 15.5])
    assert scales.dtype == np.float32
    assert smoothing_scales(np.array([16.0]), [np.array([[16.0]])], strength=0.5) == pytest.approx([1.0])


def test_a_channel_that_was_quiet_is_not_blown_up() -> None:
    scales = smoothing_scales(np.array([1e-12, 16.0, 16.0]), [np.ones((3, 1))])
    assert scales == pytest.approx([0.08, 8.0, 8.0])
    assert smoothing_scales(np.zeros(2), [np.ones((2, 1))]).tolist() == [1.0, 1.0]


def smoothed(model: ir.Model, x: Array) -> tuple[MatmulError, ...]:
    errors, channels = matmul_errors(model, [{"x": x}], 2, CPU)
    return smooth_activations(model, errors, channels, [{"x": x}], 2, CPU)


def with_outlier(numbers: Any) -> Any:
    x = numbers(60, 4)
    x[:, 0] *= 300
    return x


def test_an_outlier_becomes_part_of_the_weights(graph_of: Any, numbers: Any, run_graph: Any) -> None:
    x, w, v = with_outlier(numbers), numbers(4, 3), numbers(4, 2, seed=1)
    w[0] *= 0.01
    v[0] *= 0.01
    model = graph_of(TEXT, w=w, v=v)
    before, channels = matmul_errors(model, [{"x": x}], 2, CPU)
    assert not any(error.quantized for error in before)
    after = smooth_activations(model, before, channels, [{"x": x}], 2, CPU)
    assert all(error.smoothed and error.quantized for error in after)
    assert [node.op_type for node in model.graph] == ["Mul", "MatMul", "MatMul"]  # both read the same smoothed numbers
    y, z = run_graph(model, {"x": x}).values()
    assert np.abs(y - x @ w).max() <= 1e-5 * np.abs(x @ w).max()  # still the same function
    assert np.abs(z - x @ v).max() <= 1e-5 * np.abs(x @ v).max()
    again, _ = matmul_errors(model, [{"x": x}], 2, CPU)
    for name in ("relative_error", "input_low", "input_high"):
        assert [getattr(x, name) for x in again] == pytest.approx([getattr(x, name) for x in after], rel=1e-4)
    quantize_matmuls(model, after, CPU)
    y = run_graph(model, {"x": x})["y"]
    error = np.sqrt(np.square(y - x @ w).sum() / np.square(x @ w).sum())
    assert error == pytest.approx(after[0].relative_error, rel=0.05)


def test_what_else_reads_the_activations_reads_them_as_they_were(graph_of: Any, numbers: Any, run_graph: Any) -> None:
    x, w = with_outlier(numbers), numbers(4, 3)
    w[0] *= 0.01
    model = graph_of(CHAIN, w=w)
    errors = smoothed(model, x)
    assert [error.smoothed for error in errors] == [True]
    r = run_graph(model, {"x": x})["r"]
    assert np.array_equal(r, np.maximum(x, 0) + x)


def test_what_smoothing_does_not_help_stays_as_it_is(graph_of: Any, numbers: Any) -> None:
    """All channels are large, and the weights only see their small differences."""
    x = 100 + numbers(60, 4)
    w = np.array([[1.0, 0.01], [-1.0, 0.01], [0.0, -0.01], [0.0, -0.01]], np.float32)
    model = graph_of("one (float[B,4] x) => (float[B,2] y) { y = MatMul(x, w) }", w=w)
    errors, channels = matmul_errors(model, [{"x": x}], 2, CPU)
    assert errors[0].relative_error > 0.01
    assert smooth_activations(model, errors, channels, [{"x": x}], 2, CPU) == errors
    assert [node.op_type for node in model.graph] == ["MatMul"]


def test_what_still_does_not_tolerate_8_bits_is_not_smoothed(graph_of: Any, numbers: Any) -> None:
    """Less of an error, but still too much of one: the division would be for nothing."""
    x = 100 + numbers(60, 4)
    x[:, 0] *= 4
    w = np.array([[0.25, 0.01], [-1.0, 0.01], [0.0, -0.01], [0.0, -0.01]], np.float32)
    model = graph_of("one (float[B,4] x) => (float[B,2] y) { y = MatMul(x, w) }", w=w)
    errors, channels = matmul_errors(model, [{"x": x}], 2, CPU)
    scales = smoothing_scales(np.abs(x).max(0), [w])
    nodes, feeds = list(model.graph), [{"x": x}]
    assert np.array_equal(channel_ranges(model, nodes, feeds, 2)["MatMul_0"].largest, np.abs(x).max(0))
    (after,) = relative_errors(model, nodes, feeds, 2, CPU, channels, scales={"MatMul_0": scales}).values()
    assert LARGEST_ERROR < after < errors[0].relative_error
    assert smooth_activations(model, errors, channels, [{"x": x}], 2, CPU) == errors
    assert [node.op_type for node in model.graph] == ["MatMul"]


ATTENTION = """attend (float[B,S,4] x) => (float[B,S,3] y) {
    q = MatMul(x, wq)
    k = MatMul(x, wk)
    v = MatMul(x, wv)
    a = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v)
    y = MatMul(a, wo)
}"""


@pytest.mark.parametrize("free", [True, False])
def test_attentions_output_is_divided_in_the_values_weights(
    free: bool, graph_of: Any, numbers: Any, run_graph: Any
) -> None:
    """Without another node; where something else reads the values too, by a node of its own."""
    text = ATTENTION if free else ATTENTION.replace("y) {", "y, float[B,S,4] v) {")
    weights = {name: numbers(4, 4, seed=seed) for seed, name in enumerate(("wq", "wk", "wv"))}
    weights["wv"][:, 1] *= 300
    wo = numbers(4, 3)
    wo[1] *= 0.001
    x = numbers(8, 6, 4)
    model = graph_of(text, wo=wo, **weights)
    before = run_graph(model, {"x": x})["y"]
    errors = smoothed(model, x)
    assert [error.smoothed for error in errors] == [False, False, False, True]
    assert ("Mul" in [node.op_type for node in model.graph]) is not free
    found = run_graph(model, {"x": x})
    assert np.abs(found["y"] - before).max() <= 1e-5 * np.abs(before).max()
    if not free:
        np.testing.assert_allclose(found["v"], x @ weights["wv"], rtol=1e-4, atol=1e-4)
    (last,) = relative_errors_of(model, x)
    assert last == pytest.approx(errors[-1].relative_error, rel=1e-3)


def relative_errors_of(model: ir.Model, x: Array) -> list[float]:
    """The errors of the last multiplication, measured on the graph as it is."""
    errors, _ = matmul_errors(model, [{"x": x}], 2, CPU)
    return [errors[-1].relative_error]
