"""A bfloat16 graph in a form that runtimes without bfloat16 kernels can run, with the same roundings.

Every operator works in float32 on operands that bfloat16 can hold, and what it puts out is rounded to bfloat16:
what a device does that multiplies in bfloat16 and adds up in float32. For proof, not for serving.
"""

import onnx_ir as ir

from exporters.graph.editing import constant_of, is_constant

_BF16, _FP32 = ir.DataType.BFLOAT16, ir.DataType.FLOAT


def emulate_bfloat16(model: ir.Model) -> None:
    """Rewrite a bfloat16 graph, in place, to float32 operators with a rounding to bfloat16 after each."""
    for value in list(model.graph.initializers.values()):
        if value.dtype == _BF16:
            numbers = constant_of(value).astype("float32")
            value.const_value = ir.tensor(numbers, name=value.name)
            value.type = ir.TensorType(_FP32)
    for node in list(model.graph):
        if node.op_type == "Cast" and not is_constant(node.inputs[0]):
            _leave_cast(node)
            continue
        for output in node.outputs:
            if output.dtype == _BF16:
                output.type = ir.TensorType(_FP32)
                _round(node, output)


def _leave_cast(node: ir.Node) -> None:
    """Let a Cast to bfloat16 round, and a Cast from it do nothing."""
    output = node.outputs[0]
    if node.attributes["to"].as_int() == int(_BF16):
        _round_again(node, output)


def _round_again(node: ir.Node, output: ir.Value) -> None:
    wide = ir.node("Cast", [output], attributes={"to": int(_FP32)})
    wide.outputs[0].type, wide.outputs[0].shape = ir.TensorType(_FP32), output.shape
    output.replace_all_uses_with(wide.outputs[0])
    wide.replace_input_with(0, output)
    node.graph.insert_after(node, wide)  # type: ignore[union-attr]  # a node of a graph has one


def _round(node: ir.Node, output: ir.Value) -> None:
    narrow = ir.node("Cast", [output], attributes={"to": int(_BF16)})
    narrow.outputs[0].type, narrow.outputs[0].shape = ir.TensorType(_BF16), output.shape
    output.replace_all_uses_with(narrow.outputs[0])
    narrow.replace_input_with(0, output)
    node.graph.insert_after(node, narrow)  # type: ignore[union-attr]  # as above
    _round_again(narrow, narrow.outputs[0])
