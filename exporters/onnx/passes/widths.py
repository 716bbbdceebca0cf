"""One graph for all widths: what two exports of the same model differ in determines a third.

Exporting takes seconds and a latency table needs dozens of widths. Two graphs of one model whose layers all have
some heads and neurons, and all one fewer of each in the other, have the same nodes; every size that differs is a
multiple of the heads or of the neurons, and is rewritten for other numbers. Weights are cut out of the first
graph's, or repeated where more is needed: the values mean nothing then, and the times are the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from exporters.errors import ExportError
from exporters.onnx.passes.editing import add_constant, remove_unused


@dataclass(frozen=True)
class UniformWidths:
    """How many heads and neurons every layer has, each at least 1."""

    heads: int
    neurons: int


class WidthTemplate:
    """Two exports of one model, from which graphs of other widths are made.

    Args:
        model: the graph whose weights are cut.
        widths: what its layers have.
        other: the graph that it is compared with.
        other_widths: what that one's layers have; each number differs, and in another ratio.

    Raises:
        ExportError: the graphs differ in more than sizes.

    """

    def __init__(self, model: ir.Model, widths: UniformWidths, other: ir.Model, other_widths: UniformWidths) -> None:
        self._model = model
        pairs = list(zip(model.graph, other.graph, strict=False))
        if len(list(model.graph)) != len(list(other.graph)) or any(a.op_type != b.op_type for a, b in pairs):
            raise ExportError("Graphs of other widths have other nodes.")
        self._sizes = _Sizes(widths, other_widths)
        self._constants: list[tuple[int, int]] = []
        for number, (node, counterpart) in enumerate(pairs):
            if len(node.inputs) != len(counterpart.inputs):
                raise ExportError(f"The node {node.name} has other inputs in a graph of other widths.")
            for index, (value, second) in enumerate(zip(node.inputs, counterpart.inputs, strict=True)):
                if self._sizes.differ(value, second):
                    self._constants.append((number, index))
        self._counterpart = [list(node.inputs) for node in other.graph]
        self._outputs = [[value.shape for value in node.outputs] for node in other.graph]
        self._attributes = [dict(node.attributes) for node in other.graph]

    def at(self, widths: UniformWidths) -> ir.Model:
        """Return the graph of a model whose layers all have these widths.

        Raises:
            ExportError: a size that differs is no multiple of the heads or the neurons.

        """
        model = self._model.clone()
        nodes = list(model.graph)
        made: dict[tuple[str | None, ir.Value | None], ir.Value] = {}
        for number, index in self._constants:
            value, second = nodes[number].inputs[index], self._counterpart[number][index]
            name = value.name if value else None
            if (name, second) not in made:  # one constant may stand for several that differ at other widths
                made[name, second] = add_constant(model.graph, f"{name}_cut", self._resized(value, second, widths))
            nodes[number].replace_input_with(index, made[name, second])
        for number, node in enumerate(nodes):
            for name, attribute in self._attributes[number].items():
                self._resize_attribute(node, name, attribute, widths)
            for output, shape in zip(node.outputs, self._outputs[number], strict=True):
                if output.shape is not None and shape is not None:
                    output.shape = ir.Shape(list(self._shape(output.shape, shape, widths)))
        remove_unused(model)
        return model

    def _resized(self, value: ir.Value | None, second: ir.Value | None, widths: UniformWidths) -> Any:
        first, counterpart = _numbers(value), _numbers(second)
        if first.shape != counterpart.shape:
            for axis, (size, counterpart_size) in enumerate(zip(first.shape, counterpart.shape, strict=True)):
                first = first.take(np.arange(self._sizes.resize(size, counterpart_size, widths)) % size, axis)
            return np.ascontiguousarray(first)
        flat = [self._sizes.resize(int(a), int(b), widths) for a, b in zip(first.flat, counterpart.flat, strict=True)]
        return np.asarray(flat, dtype=first.dtype).reshape(first.shape)

    def _resize_attribute(self, node: ir.Node, name: str, counterpart: Any, widths: UniformWidths) -> None:
        attribute = node.attributes[name]
        if attribute.type == ir.AttributeType.INT and attribute.value != counterpart.value:
            node.attributes[name] = ir.AttrInt64(name, self._sizes.resize(attribute.value, counterpart.value, widths))
        elif attribute.type == ir.AttributeType.INTS and list(attribute.value) != list(counterpart.value):
            pairs = zip(attribute.value, counterpart.value, strict=True)
            node.attributes[name] = ir.AttrInt64s(name, [self._sizes.resize(a, b, widths) for a, b in pairs])

    def _shape(self, shape: ir.Shape, counterpart: ir.Shape, widths: UniformWidths) -> Iterator[int | ir.SymbolicDim]:
        for size, other in zip(shape, counterpart, strict=True):
            if isinstance(size, int) and isinstance(other, int):
                yield self._sizes.resize(size, other, widths)
            else:  # an expression such as 4*batch is not known at other widths
                yield size if size == other else ir.SymbolicDim(None)


class _Sizes:
    """Which sizes are multiples of the heads, and which of the neurons."""

    def __init__(self, widths: UniformWidths, other: UniformWidths) -> None:
        self._widths, self._other = widths, other

    def differ(self, value: ir.Value | None, counterpart: ir.Value | None) -> bool:
        """Whether an input is a constant that has to be resized."""
        constant, other = (x is not None and x.const_value is not None for x in (value, counterpart))
        if constant != other:
            raise ExportError("Graphs of other widths have other constants.")
        if not constant:
            return False
        first, second = value.const_value, counterpart.const_value  # type: ignore[union-attr]  # both are there
        if list(first.shape) != list(second.shape):  # type: ignore[union-attr]
            return True
        small = first.dtype.is_integer() and first.size < 64  # type: ignore[union-attr]
        return small and not np.array_equal(_numbers(value), _numbers(counterpart))

    def resize(self, size: int, counterpart: int, widths: UniformWidths) -> int:
        """Return what a number in the first graph, and another in the second, is at other widths."""
        if size == counterpart:
            return size
        for name in ("heads", "neurons"):
            mine, its, new = (getattr(x, name) for x in (self._widths, self._other, widths))
            if size % mine == 0 and counterpart == size // mine * its:
                return int(size // mine * new)
        raise ExportError(f"A size is {size} in one graph and {counterpart} in another, a multiple of no width.")


def _numbers(value: ir.Value | None) -> Any:
    assert value is not None and value.const_value is not None  # noqa: S101, PT018 - `differ` has seen to it
    return value.const_value.numpy()
