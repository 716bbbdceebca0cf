"""Residual sums in a form that ONNX Runtime's CPU provider runs fast."""

import onnx_ir as ir

from exporters.onnx.passes.editing import (
    Linear,
    add_constant,
    bias_of,
    constant_of,
    insert_before,
    linear_of,
    only_user,
    remove_unused,
    replace,
)


def subtract_residuals(model: ir.Model) -> int:
    """Write ``residual + linear`` before a LayerNormalization as ``residual - (-linear)``; bit for bit the same.

    ONNX Runtime fuses Add and LayerNormalization into SkipLayerNormalization, whose CPU kernel takes four
    times as long as the two apart, and a file cannot ask it not to. It has no such fusion for Sub. The linear
    layer's weight and bias are stored negated, which changes no rounding.

    Returns:
        How many sums were rewritten.

    """
    count = 0
    for norm in [node for node in model.graph if node.op_type == "LayerNormalization"]:
        total = norm.inputs[0]
        add = total.producer() if total is not None else None
        if total is None or add is None or add.op_type != "Add":
            continue
        for index, value in enumerate(add.inputs):
            linear = linear_of(value)
            if value is None or linear is None or not _feeds_only(linear, add):
                continue
            _negate(model.graph, linear)
            replace(total, insert_before(add, "Sub", [add.inputs[1 - index], value], like=total))
            count += 1
            break
    remove_unused(model)
    return count


def _feeds_only(linear: Linear, add: ir.Node) -> bool:
    """Whether nothing but a sum reads what a linear layer makes."""
    inner = linear.matmul.outputs[0]
    return only_user(linear.output) is add and (linear.add is None or only_user(inner) is linear.add)


def _negate(graph: ir.Graph, linear: Linear) -> None:
    weight = add_constant(graph, f"{linear.weight.name}.negated", -constant_of(linear.weight))
    linear.matmul.replace_input_with(1, weight)
    if linear.add is not None:
        index, bias = bias_of(linear.add)
        linear.add.replace_input_with(index, add_constant(graph, f"{linear.matmul.name}.bias.negated", -bias))
