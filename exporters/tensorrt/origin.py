"""Origin in the model of a node of its ONNX graph."""

from collections import deque

import onnx


def origin_of(model: onnx.ModelProto, index: int) -> str | None:
    """Return the module whose parameter stands nearest to a node, ``encoder.layer.3.attention`` for example.

    An export names initializers after the parameters that they are, and parameters after the modules that own
    them; a node without a parameter is identified by the nearest one that has, before it rather than behind it.

    Args:
        model: the graph.
        index: the node's place in it.

    """
    nodes = model.graph.node
    if not 0 <= index < len(nodes):
        return None
    parameters = {tensor.name for tensor in model.graph.initializer if "." in tensor.name}
    producers = {name: place for place, node in enumerate(nodes) for name in node.output}
    readers: dict[str, list[int]] = {}
    for place, node in enumerate(nodes):
        for name in node.input:
            readers.setdefault(name, []).append(place)
    waiting, seen = deque([index]), {index}
    while waiting:
        node = nodes[waiting.popleft()]
        for name in node.input:
            if name in parameters:
                return str(name).rsplit(".", 1)[0]
        near = [producers[name] for name in node.input if name in producers]
        near += [place for name in node.output for place in readers.get(name, ())]
        for place in near:
            if place not in seen:
                seen.add(place)
                waiting.append(place)
    return None
