"""Checks of an engine's precision, on engines that are not what they should be."""

import json
from pathlib import Path
from typing import Any

import pytest

from exporters.errors import EngineError
from exporters.graph_precision import GraphWeights
from exporters.tensorrt.bindings import load_bindings
from exporters.tensorrt.log import BuilderLog
from exporters.tensorrt.network import load_graph, parse_network
from exporters.tensorrt.precision_check import PrecisionCheck, check_network, check_plan, weights_by_format
from exporters.variant import Precision

MIB = 2**20
LOG = """Layers:
Name: embed, LayerType: kgen, Inputs: [ { Name: ids, Dimensions: [-1,-1], Datatype: Int64, Format: x }], Constants: \
[ { Name: table, Dimensions: [50,16], Strides: [16,1], Datatype: Half, Format: x }, { Name: bias, Dimensions: [1,16], \
Datatype: Half, Format: x }], Outputs: [ { Name: y, Dimensions: [4,4], Datatype: Float, Format: x }], TacticName:
Name: gemm, LayerType: gemm, Inputs: [], Constants: [ { Name: w, Dimensions: [16,48], Datatype: Int8, Format: x }, \
{ Name: alpha, Dimensions: [1], Datatype: Float, Format: x }], Outputs: []
"""


def test_what_the_log_says_of_weights() -> None:
    assert weights_by_format(LOG) == {"fp16": 800, "int8": 768}
    assert weights_by_format("Layers:\nName: x, LayerType: kgen, Inputs: [], Constants: [], Outputs: []") == {}


def test_what_the_inspector_says_of_weights() -> None:
    constants = [
        {"Name": "w", "Dimensions": [3, 4], "Format/Datatype": "Row major linear FP16 format"},
        {"Name": "v", "Dimensions": [5, 4], "Datatype": "BFloat16"},
        {"Name": "bias", "Dimensions": [1, 4], "Datatype": "Float"},
    ]
    layers = [{"Name": "a", "Constants": constants}, {"Name": "b"}, "c"]
    assert weights_by_format(json.dumps({"Layers": layers})) == {"fp16": 12, "bf16": 20}


def checked(
    text: str | None, weights: GraphWeights, plan_bytes: int = 2 * MIB, weights_alone: bool = True
) -> PrecisionCheck:
    return check_plan({}, weights, Precision.FP16, ("the builder's log", text), 1, plan_bytes, weights_alone)


def test_compiled_layers_of_another_format_are_an_error() -> None:
    mixed = GraphWeights({"fp16": 800, "int8": 768}, 2368, {})
    assert checked(LOG, mixed).compiled == {"fp16": 800, "int8": 768}
    with pytest.raises(EngineError, match="is not fp16: the builder's log lists weights of 800 fp16, 768 int8 numbers"):
        checked(LOG, GraphWeights({"fp16": 1568}, 3136, {}))


def test_missing_information_is_said() -> None:
    weights = GraphWeights({"fp16": 800}, 1600, {})
    assert checked(None, weights).compiled is None
    nothing = checked("Layers:\n", weights)
    assert (nothing.compiled, nothing.compiled_from) == (None, "the builder's log lists no weights")


@pytest.mark.parametrize("factor", [0.5, 2.1])
def test_a_plan_of_another_size_is_an_error(factor: float) -> None:
    """Half as large as fp16 weights is int8, twice as large is fp32."""
    weights = GraphWeights({"fp16": 50 * MIB}, 100 * MIB, {})
    assert checked(None, weights, 110 * MIB).size_decides
    with pytest.raises(EngineError, match="the engine holds them in another precision"):
        checked(None, weights, int(factor * 100 * MIB))
    assert not checked(None, weights, int(factor * 100 * MIB), weights_alone=False).size_decides
    small = GraphWeights({"fp16": MIB}, 2 * MIB, {})
    assert not checked(None, small, int(factor * 2 * MIB)).size_decides


def test_a_network_that_is_typed_otherwise_is_an_error(tensorrt: None, graphs: dict[Precision, Path]) -> None:
    bindings, log = load_bindings(), BuilderLog()
    logger = log.logger(bindings.module)
    builder: Any = bindings.module.Builder(logger)
    for precision, found in (("fp16", "5 fp16"), ("int8", "1 fp32, 4 int8")):
        path = graphs[Precision(precision)]
        network = parse_network(bindings, builder, logger, path, load_graph(path))
        with pytest.raises(
            EngineError, match=f"products with weights as {found}, but the graph has 5 fp32: the engine"
        ):
            check_network(bindings, network, GraphWeights({}, 0, {"fp32": 5}), Precision.FP32)
