"""The few graph edits that all rewrites are made of, over onnx-ir's mutable graphs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from exporters.errors import ExportError

Constant = NDArray[Any]


@dataclass(frozen=True)
class Linear:
    """A linear layer as it is exported: MatMul with a constant weight, and an Add where it has a bias.

    Attributes:
        matmul: the multiplication; its second input is the weight, (inputs, outputs).
        add: the addition of the bias, (outputs,); None without one.

    """

    matmul: ir.Node
    add: ir.Node | None

    @property
    def output(self) -> ir.Value:
        """The layer's output."""
        return (self.add or self.matmul).outputs[0]

    @property
    def weight(self) -> ir.Value:
        """The constant weight."""
        return input_of(self.matmul, 1)


def input_of(node: ir.Node, index: int) -> ir.Value:
    """Return a node's input.

    Raises:
        ExportError: it has none there.

    """
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        raise ExportError(f"The node {node.name} ({node.op_type}) has no input {index}.")
    return value


def bias_of(add: ir.Node) -> tuple[int, Constant]:
    """Return which input of a linear layer's Add is the bias, and its numbers, (outputs,)."""
    index = next(index for index, value in enumerate(add.inputs) if is_constant(value))
    return index, constant_of(add.inputs[index])


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is an initializer."""
    return value is not None and value.const_value is not None


def constant_of(value: ir.Value | None) -> Constant:
    """Return an initializer's numbers.

    Raises:
        ExportError: the value is no initializer.

    """
    if value is None or value.const_value is None:
        raise ExportError(f"The value {value.name if value is not None else None} is not a constant of the graph.")
    return value.const_value.numpy()


def producer_of(value: ir.Value | None, operator: str) -> ir.Node | None:
    """Return the node that makes a value if it is of a kind, else None."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == operator else None


def only_user(value: ir.Value, operator: str | None = None) -> ir.Node | None:
    """Return the one node that reads a value, if there is one only, of a kind where one is named."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node = uses[0].node
    return node if operator is None or node.op_type == operator else None


def linear_of(value: ir.Value | None) -> Linear | None:
    """Return the linear layer that puts a value out, or None."""
    if add := producer_of(value, "Add"):
        biases = [x for x in add.inputs if is_constant(x) and x is not None and len(x.shape or ()) == 1]
        others = [x for x in add.inputs if not is_constant(x)]
        if len(biases) == len(others) == 1 and (matmul := _constant_matmul(others[0])):
            return Linear(matmul, add)
        return None
    matmul = _constant_matmul(value)
    return Linear(matmul, None) if matmul else None


def _constant_matmul(value: ir.Value | None) -> ir.Node | None:
    node = producer_of(value, "MatMul")
    return node if node and is_constant(node.inputs[1]) and not is_constant(node.inputs[0]) else None


def add_constant(graph: ir.Graph, name: str, numbers: Constant) -> ir.Value:
    """Add an initializer, under this name or, if that is taken, one like it."""
    while name in graph.initializers:
        name += "_"
    tensor = ir.tensor(np.asarray(numbers, order="C"), name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(numbers.shape), const_value=tensor)
    graph.register_initializer(value)
    return value


def insert_before(
    place: ir.Node,
    operator: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any] | None = None,
    like: ir.Value | None = None,
) -> ir.Value:
    """Insert a node with one output before another and return the output.

    Args:
        place: the node that it is put before.
        operator: its kind, of the standard operator set.
        inputs: its inputs.
        attributes: its attributes.
        like: a value whose type and shape the output has.

    """
    node = ir.node(operator, inputs, attributes=dict(attributes or {}))
    place.graph.insert_before(place, node)  # type: ignore[union-attr]  # a node of a graph has one
    if like is not None:
        node.outputs[0].type, node.outputs[0].shape = like.type, like.shape
    return node.outputs[0]


def replace(old: ir.Value, new: ir.Value) -> None:
    """Let everything that reads a value read another one; an output of the graph keeps its name."""
    if old.is_graph_output():
        old.name, new.name = None, old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def remove_unused(model: ir.Model) -> None:
    """Remove the nodes and initializers that nothing reads."""
    common.RemoveUnusedNodesPass()(model)
