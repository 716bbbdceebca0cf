"""Embedding tables in 8 bits: most of a small model's file, read a few rows at a time."""

import numpy as np
import onnx_ir as ir

from exporters.onnx.passes.editing import add_constant, constant_of, insert_before, is_constant, remove_unused, replace
from exporters.onnx.passes.int8 import int8_steps, symmetric_scales

SMALLEST_TABLE = 2**18
"""Tables with fewer numbers stay as they are: there is nothing to gain."""


def quantize_tables(model: ir.Model) -> list[str]:
    """Store large embedding tables, (rows, width), as int8 with one scale for each row.

    What is read is turned back into float32 right after the Gather: int8 row times its scale, half a step of
    which, 1/254 of the row's largest number, is the largest error.

    Returns:
        The names of the tables that were quantized.

    """
    names = []
    for node in list(model.graph):
        table = node.inputs[0] if node.op_type == "Gather" else None
        if table is None or not is_constant(table) or table.dtype != ir.DataType.FLOAT:
            continue
        axis = node.attributes.get("axis")
        numbers = constant_of(table)
        if numbers.ndim != 2 or numbers.size < SMALLEST_TABLE or (axis is not None and axis.as_int() != 0):
            continue
        scale = symmetric_scales(numbers, axis=1).astype(np.float32)
        rows = int8_steps(numbers, scale).astype(np.int8)
        ids, output = node.inputs[1], node.outputs[0]
        picked = insert_before(node, "Gather", [add_constant(model.graph, f"{table.name}.int8", rows), ids])
        scales = insert_before(node, "Gather", [add_constant(model.graph, f"{table.name}.scale", scale), ids])
        wide = insert_before(node, "Cast", [picked], {"to": int(ir.DataType.FLOAT)})
        replace(output, insert_before(node, "Mul", [wide, scales], like=output))
        names.append(table.name or "")
    remove_unused(model)
    return names
