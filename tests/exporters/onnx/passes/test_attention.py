from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from exporters.onnx.passes.attention import (
    AttentionForm,
    attend_token_major,
    decompose_attention,
    fold_attention_biases,
    heads_of,
)
from exporters.onnx.passes.editing import constant_of
from exporters.runners.base import Array

TEXT = """
attention (float[B,S,6] x, bool[B,1,S,S] mask) => (float[B,S,5] y) {{
   qm = MatMul(x, wq)
   q = Add(qm, bq)
   km = MatMul(x, wk)
   k = Add(km, bk)
   vm = MatMul(x, wv)
   v = Add(bv, vm)
   q4 = Reshape(q, apart)
   qt = Transpose<perm: ints = [0, 2, 1, 3]>(q4)
   k4 = Reshape(k, apart)
   kt = Transpose<perm: ints = [0, 2, 1, 3]>(k4)
   v4 = Reshape(v, apart)
   vt = Transpose<perm: ints = [0, 2, 1, 3]>(v4)
   a = Attention<scale: float = {scale}>(qt, kt, vt, mask)
   at = Transpose<perm: ints = [0, 2, 1, 3]>(a)
   a3 = Reshape(at, together)
   om = MatMul(a3, wo)
   y = Add(om, bo)
}}
"""
HEADS, SIZE, SCALE = 3, 2, 0.4
Graph = Callable[..., ir.Model]


def attention(graph_of: Graph, numbers: Callable[..., Array], heads: int = HEADS) -> ir.Model:
    width = heads * SIZE
    weights = {f"w{x}": numbers(6, width, seed=i) for i, x in enumerate("qkv")}
    weights |= {f"b{x}": numbers(width, seed=i + 9) for i, x in enumerate("qkv")}
    weights |= {"wo": numbers(width, 5, seed=3), "bo": numbers(5, seed=4)}
    shapes = {"apart": np.array([0, 0, heads, SIZE]), "together": np.array([0, 0, width])}
    return graph_of(TEXT.format(scale=SCALE), **weights, **shapes)


def inputs(numbers: Callable[..., Array]) -> dict[str, Array]:
    mask = np.ones((2, 1, 4, 4), bool)
    mask[1, :, :, 2:] = False
    return {"x": numbers(2, 4, 6, seed=7), "mask": mask}


def by_hand(model: ir.Model, x: Array, mask: Array, heads: int = HEADS) -> Array:
    """softmax(q·kᵀ·scale)·v in float64, head by head."""
    weight = {name: constant_of(v).astype(np.float64) for name, v in model.graph.initializers.items()}
    q, k, v = (x @ weight[f"w{n}"] + weight[f"b{n}"] for n in "qkv")
    context = []
    for head in range(heads):
        part = slice(head * SIZE, (head + 1) * SIZE)
        scores = np.where(mask[:, 0], q[..., part] @ k[..., part].transpose(0, 2, 1) * SCALE, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        context.append(shares / shares.sum(-1, keepdims=True) @ v[..., part])
    return np.concatenate(context, -1) @ weight["wo"] + weight["bo"]


REWRITES: dict[str, Callable[[ir.Model], Any]] = {
    "as exported": lambda _: None,
    "decomposed": decompose_attention,
    "token major": attend_token_major,
    "token major, folded": lambda model: (attend_token_major(model), fold_attention_biases(model)),
}


@pytest.mark.parametrize("heads", [3, 1])
@pytest.mark.parametrize("rewrite", REWRITES.values(), ids=list(REWRITES))
def test_every_form_is_attention(
    rewrite: Callable[[ir.Model], Any], heads: int, graph_of: Graph, run_graph: Any, numbers: Any
) -> None:
    model = attention(graph_of, numbers, heads)
    feeds = inputs(numbers)
    expected = by_hand(model, **feeds, heads=heads)
    rewrite(model)
    np.testing.assert_allclose(run_graph(model, feeds)["y"], expected, rtol=2e-5, atol=2e-6)


def test_decomposing_leaves_no_attention_and_shares_the_mask(graph_of: Graph, numbers: Any) -> None:
    model = attention(graph_of, numbers)
    assert decompose_attention(model) == [AttentionForm.DECOMPOSED]
    found = Counter(node.op_type for node in model.graph)
    assert (found["Attention"], found["Softmax"], found["Where"]) == (0, 1, 1)
    assert found["Transpose"] == 4  # the keys' two became one


def test_only_the_layers_that_are_asked_for(graph_of: Graph, numbers: Any) -> None:
    model = attention(graph_of, numbers)
    assert decompose_attention(model, lambda heads: heads == 1) == [AttentionForm.HEADS_APART]
    assert sum(node.op_type == "Attention" for node in model.graph) == 1


def test_token_major_needs_no_transpose(graph_of: Graph, numbers: Any) -> None:
    model = attention(graph_of, numbers)
    assert attend_token_major(model) == [AttentionForm.TOKEN_MAJOR]
    found = Counter(node.op_type for node in model.graph)
    assert (found["Transpose"], found["Reshape"], found["Attention"]) == (0, 0, 1)
    (node,) = (node for node in model.graph if node.op_type == "Attention")
    assert node.attributes["q_num_heads"].as_int() == HEADS
    assert node.attributes["scale"].as_float() == pytest.approx(SCALE)


def test_heads_that_are_rotated_stay_apart(graph_of: Graph, run_graph: Any, numbers: Any) -> None:
    """A product between the projection and the attention, as rotary positions are."""
    text = TEXT.format(scale=SCALE).replace("a = Attention", "kr = Mul(kt, turn)\n   a = Attention")
    text = text.replace("(qt, kt, vt, mask)", "(qt, kr, vt, mask)")
    plain = attention(graph_of, numbers)
    weights = {name: constant_of(v) for name, v in plain.graph.initializers.items()}
    model = graph_of(text, turn=np.float32([0.5]), **weights)
    feeds = inputs(numbers)
    before = run_graph(model, feeds)["y"]
    assert attend_token_major(model) == [AttentionForm.HEADS_APART]
    fold_attention_biases(model)
    np.testing.assert_array_equal(run_graph(model, feeds)["y"], before)


def test_folded_biases_by_hand(graph_of: Graph, numbers: Any) -> None:
    """bo + bv·Wo, and none for keys and values."""
    model = attention(graph_of, numbers)
    weight = {name: constant_of(v).astype(np.float64) for name, v in model.graph.initializers.items()}
    attend_token_major(model)
    fold_attention_biases(model)
    adds = [node for node in model.graph if node.op_type == "Add"]
    assert len(adds) == 2
    folded = next(v for name, v in model.graph.initializers.items() if name.endswith(".folded"))
    np.testing.assert_allclose(constant_of(folded), weight["bo"] + weight["bv"] @ weight["wo"], rtol=1e-6)
    assert "bk" not in model.graph.initializers


def test_heads_are_read_off_the_graph(graph_of: Graph, numbers: Any) -> None:
    (node,) = (node for node in attention(graph_of, numbers).graph if node.op_type == "Attention")
    assert heads_of(node) == HEADS
