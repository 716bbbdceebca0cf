"""A bfloat16 graph in a form that runtimes without bfloat16 kernels can run, with the same roundings.

Every operator works in float32 on operands that bfloat16 can hold, and its output is rounded to bfloat16:
what a device does that multiplies in bfloat16 and adds up in float32. For validation, not for serving.
"""

import onnx_ir as ir

from exporters.onnx.passes.editing import constant_of

_BF16, _FP32 = ir.DataType.BFLOAT16, ir.DataType.FLOAT


def emulate_bfloat16(model: ir.Model) -> None:
    """Rewrite a bfloat16 graph, in place, to float32 operators with a rounding to bfloat16 after each."""
    for value in list(model.graph.initializers.values()):
        if value.dtype == _BF16:
            numbers = constant_of(value).astype("float32")
            value.const_value = ir.tensor(numbers, name=value.name)
            value.type = ir.TensorType(_FP32)
    for node in list(model.graph):
        for output in node.outputs:
            if output.dtype != _BF16:
                continue
            if node.op_type == "Cast":  # it rounds by itself
                _cast_after(output, _FP32)
                continue
            output.type = ir.TensorType(_FP32)
            _cast_after(_cast_after(output, _BF16), _FP32)


def _cast_after(value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Let everything that reads a value read it through a Cast, and return what the Cast gives."""
    cast = ir.node("Cast", [value], attributes={"to": int(dtype)})
    result = cast.outputs[0]
    result.type, result.shape = ir.TensorType(dtype), value.shape
    value.replace_all_uses_with(result)
    cast.replace_input_with(0, value)
    value.graph.insert_after(value.producer(), cast)  # type: ignore[union-attr,arg-type]  # a node of a graph made it
    return result
