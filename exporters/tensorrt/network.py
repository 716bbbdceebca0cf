"""Parsing an ONNX file into a TensorRT network, and checking that it is the model that was exported."""

from pathlib import Path
from typing import Any

import onnx

from exporters.errors import EngineError
from exporters.spec import ModelSpec, TensorSpec
from exporters.tensorrt.bindings import Bindings
from exporters.tensorrt.origin import origin_of

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


def load_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file without its external data.

    Raises:
        EngineError: it is missing, or not ONNX.

    """
    try:
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError:
        raise EngineError(f"{path} is missing: export the model first.") from None
    except Exception as error:  # protobuf's DecodeError has no public place to import it from
        raise EngineError(f"{path} is not an ONNX file, or is cut short: export the model again.") from error
    if not model.graph.output:
        raise EngineError(f"{path} holds no graph: export the model again.")
    return model


def parse_network(bindings: Bindings, builder: Any, logger: Any, path: Path, model: onnx.ModelProto) -> Any:
    """Parse an ONNX file into a new, strongly typed network; ``model`` is the same file, to locate errors.

    Raises:
        EngineError: TensorRT refuses nodes; the message names all of them, with the modules that they came from.

    """
    trt = bindings.module
    network = builder.create_network(bindings.network_flags)
    if network is None:
        raise EngineError(f"{bindings} cannot create a strongly typed network.")
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        problems = [_problem(parser.get_error(index), model) for index in range(parser.num_errors)]
        found = "; ".join(problems) or "it does not say why"
        raise EngineError(f"{bindings} cannot parse {path}, {len(problems)} errors: {found}.")
    return network


def network_tensors(
    bindings: Bindings, network: Any, spec: ModelSpec
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return a network's inputs and outputs, checked against the model's: names, dtypes, and dynamic axes.

    Raises:
        EngineError: one is not as it has to be.

    """
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    if [tensor.name for tensor in inputs] != list(spec.inputs):
        raise EngineError(
            f"The network takes {', '.join(tensor.name for tensor in inputs)}, not {', '.join(spec.inputs)}."
        )
    for tensor in inputs:
        if tensor.dtype != bindings.module.DataType.INT64 or tuple(tensor.shape) != (-1, -1):
            raise EngineError(
                f"The input {tensor.name} is {tensor.dtype.name} {tuple(tensor.shape)}, not INT64 with a dynamic "
                "batch and sequence."
            )
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    if [tensor.name for tensor in outputs] != [output.name for output in spec.outputs]:
        raise EngineError(
            f"The network gives {', '.join(tensor.name for tensor in outputs)}, "
            f"not {', '.join(output.name for output in spec.outputs)}."
        )
    for tensor, output in zip(outputs, spec.outputs, strict=True):
        wanted = tuple(-1 if isinstance(size, str) else size for size in output.shape)
        if tuple(tensor.shape) != wanted:
            raise EngineError(f"The output {tensor.name} has the shape {tuple(tensor.shape)}, not {wanted}.")
    return (
        tuple(TensorSpec(tensor.name, "int64", ("batch", "sequence")) for tensor in inputs),
        tuple(
            TensorSpec(tensor.name, _DTYPES.get(tensor.dtype.name, tensor.dtype.name), output.shape)
            for tensor, output in zip(outputs, spec.outputs, strict=True)
        ),
    )


def _problem(error: Any, model: onnx.ModelProto) -> str:
    """Put one parser error into words: the node, where in the model it is, and what is wrong."""
    reason = " ".join(str(error.desc()).split())
    index = error.node()
    if not 0 <= index < len(model.graph.node):
        return reason
    node = model.graph.node[index]
    origin = origin_of(model, index)
    place = f" at {origin}" if origin else ""
    return f"the {node.op_type} node {node.name or node.output[0]}{place}: {error.code().name}, {reason}"
