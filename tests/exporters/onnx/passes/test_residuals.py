from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from exporters.onnx.passes.residuals import subtract_residuals

TEXT = """
block (float[B,S,4] x) => (float[B,S,4] y, float[B,S,4] z) {{
   m = MatMul(x, w)
   {linear}
   s = Add({sum})
   n = LayerNormalization<axis: int = -1>(s, g, b)
   m2 = MatMul(n, w2)
   s2 = Add(m2, n)
   y = LayerNormalization<axis: int = -1>(s2, g, b)
   z = Identity(s)
}}
"""
FORMS = {
    "linear first": ("l = Add(m, c)", "l, x"),
    "linear second": ("l = Add(c, m)", "x, l"),
    "without a bias": ("", "x, m"),
}


def weights(numbers: Any) -> dict[str, Any]:
    made = {"w": numbers(4, 4), "w2": numbers(4, 4, seed=1), "c": numbers(4, seed=2)}
    return made | {"g": numbers(4, seed=3), "b": numbers(4, seed=4)}


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_not_a_bit_changes(form: tuple[str, str], graph_of: Any, run_graph: Any, numbers: Any) -> None:
    model = graph_of(TEXT.format(linear=form[0], sum=form[1]), **weights(numbers))
    feeds = {"x": numbers(3, 5, 4, seed=5)}
    before = run_graph(model, feeds)
    assert subtract_residuals(model) == 2
    after = run_graph(model, feeds)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)
    assert Counter(node.op_type for node in model.graph)["Sub"] == 2


def test_onnxruntime_no_longer_fuses(
    graph_of: Any, numbers: Any, fused_operators: Callable[[ir.Model], list[str]]
) -> None:
    """What this is for: should ONNX Runtime stop fusing sums, or learn to fuse differences, this fails."""
    model = graph_of(TEXT.format(linear="l = Add(m, c)", sum="l, x"), **weights(numbers))
    assert "SkipLayerNormalization" in fused_operators(model)
    subtract_residuals(model)
    assert "SkipLayerNormalization" not in fused_operators(model)


def test_a_linear_layer_that_others_read_stays(graph_of: Any, numbers: Any) -> None:
    text = TEXT.format(linear="l = Add(m, c)", sum="l, x").replace("z = Identity(s)", "z = Identity(l)")
    model = graph_of(text, **weights(numbers))
    assert subtract_residuals(model) == 1


def test_a_sum_without_a_linear_layer_stays(graph_of: Any, numbers: Any) -> None:
    """Embeddings are summed too."""
    text = "block (float[B,S,4] x, float[B,S,4] p) => (float[B,S,4] y) { s = Add(x, p) "
    text += "y = LayerNormalization<axis: int = -1>(s, g, b) }"
    made = weights(numbers)
    assert subtract_residuals(graph_of(text, g=made["g"], b=made["b"])) == 0
