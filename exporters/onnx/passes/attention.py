"""The forms that attention can have in a graph, and what a runtime is given.

torch exports scaled dot-product attention as the standard Attention operator
(https://onnx.ai/onnx/operators/onnx__Attention.html) over (batch, heads, tokens, size), with a Reshape and a
Transpose around each tensor. The operator also reads (batch, tokens, heads·size), the form of projections'
outputs; and where a runtime has no kernel for it, it is decomposed into MatMul, Softmax and MatMul.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import numpy as np
import onnx_ir as ir

from exporters.onnx.passes.editing import (
    Linear,
    add_constant,
    bias_of,
    constant_of,
    input_of,
    insert_before,
    is_constant,
    linear_of,
    only_user,
    producer_of,
    remove_unused,
    replace,
)

HEADS_APART = [0, 2, 1, 3]
"""The permutation between (batch, tokens, heads, size) and (batch, heads, tokens, size)."""


class AttentionForm(StrEnum):
    """How one layer's attention stands in a graph."""

    HEADS_APART = "Attention over (batch, heads, tokens, size)"
    TOKEN_MAJOR = "Attention over (batch, tokens, heads x size)"  # noqa: S105 - not a password
    DECOMPOSED = "MatMul, Softmax, MatMul"


def attention_nodes(model: ir.Model) -> list[ir.Node]:
    """Return the Attention nodes in the order of the graph, which is that of the layers."""
    return [node for node in model.graph if node.op_type == "Attention"]


def heads_of(node: ir.Node) -> int:
    """Return how many heads an Attention node over (batch, heads, tokens, size) has."""
    query = node.inputs[0]
    heads = query.shape[1] if query is not None and query.shape is not None and len(query.shape) == 4 else None
    if not isinstance(heads, int):
        raise TypeError(f"The heads of {node.name} are not known.")
    return heads


def decompose_attention(model: ir.Model, wanted: Callable[[int], bool] = lambda _: True) -> list[AttentionForm]:
    """Write Attention out, softmax(q·kᵀ·scale + mask)·v, where the number of a layer's heads asks for it.

    Tokens that a boolean mask leaves out get the lowest finite number, which any later conversion of the
    graph's precision has to keep finite.

    Args:
        model: changed in place.
        wanted: given a layer's heads, whether to write it out.

    Returns:
        The form of each layer that attends, in order.

    """
    biases: dict[ir.Value, ir.Value] = {}
    forms = []
    for node in attention_nodes(model):
        if not wanted(heads_of(node)):
            forms.append(AttentionForm.HEADS_APART)
            continue
        query, key, value = (input_of(node, index) for index in range(3))
        mask = node.inputs[3] if len(node.inputs) > 3 else None
        scaled = insert_before(node, "Mul", [query, _scale(model, node)], like=query)
        scores = insert_before(node, "MatMul", [scaled, _keys_transposed(node, key)])
        if mask is not None:
            if mask not in biases:
                biases[mask] = _additive(model, node, mask)
            scores = insert_before(node, "Add", [scores, biases[mask]])
        weights = insert_before(node, "Softmax", [scores], {"axis": -1})
        replace(node.outputs[0], insert_before(node, "MatMul", [weights, value], like=node.outputs[0]))
        forms.append(AttentionForm.DECOMPOSED)
    remove_unused(model)
    return forms


def attend_token_major(model: ir.Model) -> list[AttentionForm]:
    """Let Attention read and write (batch, tokens, heads·size), without the Transposes around it.

    A layer whose heads are needed apart, as those that are rotated by position, stays as it is.

    Returns:
        The form of each layer that attends, in order.

    """
    forms = []
    for node in attention_nodes(model):
        sources = [_token_major(value) for value in node.inputs[:3]]
        end = _token_major_end(node)
        if end is None or any(source is None for source in sources):
            forms.append(AttentionForm.HEADS_APART)
            continue
        attributes: dict[str, Any] = {"q_num_heads": heads_of(node), "kv_num_heads": heads_of(node)}
        attributes |= {name: x for name, x in node.attributes.items() if name in ("scale", "is_causal", "softcap")}
        new = insert_before(node, "Attention", [*sources, *node.inputs[3:]], attributes, like=end)
        new.producer().name = node.name  # type: ignore[union-attr]  # the node was made just now
        replace(end, new)
        forms.append(AttentionForm.TOKEN_MAJOR)
    remove_unused(model)
    return forms


def fold_attention_biases(model: ir.Model) -> None:
    """Move the value projections' biases into the output projections', and drop the keys'; exactly the same function.

    A bias of the keys adds the same to all of a query's scores, which softmax does not see. A bias of the
    values passes through softmax unchanged, whose weights add up to one. Both save a pass over the tokens.
    """
    graph = model.graph
    for node in attention_nodes(model):
        key, value = (linear_of(x) for x in node.inputs[1:3])
        output = _linear_after(node.outputs[0])
        if key is not None and key.add is not None and only_user(key.output):
            node.replace_input_with(1, key.matmul.outputs[0])
        if value is None or value.add is None or output is None or output.add is None or not only_user(value.output):
            continue
        shift = bias_of(value.add)[1].astype(np.float64) @ constant_of(output.weight).astype(np.float64)
        index, bias = bias_of(output.add)
        name = f"{input_of(output.add, index).name}.folded"
        output.add.replace_input_with(index, add_constant(graph, name, (bias + shift).astype(bias.dtype)))
        node.replace_input_with(2, value.matmul.outputs[0])
    remove_unused(model)


def _scale(model: ir.Model, node: ir.Node) -> ir.Value:
    scale = node.attributes.get("scale")
    if scale is not None:
        number = scale.as_float()
    else:
        shape = input_of(node, 0).shape
        number = 1 / float(np.sqrt(int(shape[3]) if shape is not None else 1))  # type: ignore[arg-type]
    return add_constant(model.graph, f"{node.name}.scale", np.asarray(number, np.float32))


def _keys_transposed(node: ir.Node, key: ir.Value) -> ir.Value:
    """Return the keys as (batch, heads, size, tokens), by one Transpose where there was one."""
    transpose = producer_of(key, "Transpose")
    if transpose is not None and list(transpose.attributes["perm"].as_ints()) == HEADS_APART:
        return insert_before(node, "Transpose", [transpose.inputs[0]], {"perm": [0, 2, 3, 1]})
    return insert_before(node, "Transpose", [key], {"perm": [0, 1, 3, 2]})


def _additive(model: ir.Model, node: ir.Node, mask: ir.Value) -> ir.Value:
    """Return a mask as what is added to scores; a boolean one says which tokens count."""
    if mask.dtype != ir.DataType.BOOL:
        return mask
    zero = add_constant(model.graph, "attention.counts", np.zeros(1, np.float32))
    lowest = add_constant(model.graph, "attention.left_out", np.full(1, np.finfo(np.float32).min, np.float32))
    return insert_before(node, "Where", [mask, zero, lowest])


def _token_major(value: ir.Value | None) -> ir.Value | None:
    """Return the (batch, tokens, heads·size) tensor that heads were split from, or None."""
    node = producer_of(value, "Transpose")
    if node is not None and list(node.attributes["perm"].as_ints()) != HEADS_APART:
        return None
    reshape = producer_of(node.inputs[0] if node else value, "Reshape")
    source = reshape.inputs[0] if reshape else None
    one_head = value is not None and value.shape is not None and value.shape[1] == 1
    if (node is None and not one_head) or source is None or source.shape is None or len(source.shape) != 3:
        return None
    return source


def _token_major_end(node: ir.Node) -> ir.Value | None:
    """Return the (batch, tokens, heads·size) tensor that a node's heads are put together to, or None."""
    output = node.outputs[0]
    if transpose := only_user(output, "Transpose"):
        output = transpose.outputs[0]
    elif heads_of(node) != 1:
        return None
    while output.shape is not None and len(output.shape) != 3:  # one head is put together in more steps
        step = only_user(output)
        if step is None or step.op_type not in ("Reshape", "Transpose"):
            return None
        output = step.outputs[0]
    return output


def _linear_after(value: ir.Value) -> Linear | None:
    """Return the linear layer that alone reads a value, or None."""
    matmul = only_user(value, "MatMul")
    if matmul is None or not is_constant(matmul.inputs[1]):
        return None
    add = only_user(matmul.outputs[0], "Add")
    return linear_of(add.outputs[0]) if add else None
