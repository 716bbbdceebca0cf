"""Checks that an engine is in the precision asked for: by its network, its compiled layers, and its size."""

import json
import re
from collections import Counter
from typing import Any

from pydantic import BaseModel, ConfigDict

from exporters.errors import EngineError
from exporters.graph_precision import GraphWeights
from exporters.tensorrt.bindings import Bindings, layers
from exporters.tensorrt.log import BuilderLog
from exporters.variant import Precision

_FORMATS = {
    "FLOAT": "fp32",
    "FP32": "fp32",
    "HALF": "fp16",
    "FP16": "fp16",
    "BF16": "bf16",
    "BFLOAT16": "bf16",
    "INT8": "int8",
}
"""What DataType and layer information call the formats, in capitals."""
_CONSTANT = re.compile(r"\{ Name: [^{}]*?, Dimensions: \[([\d,-]*)\][^{}]*?Datatype: (\w+)")
_FOLDED = 0.25
"""Compilers fold a few constants into others, of another format at times; this share of all is no longer few."""
_ENOUGH, _MOST = 0.9, 1.6
"""Limits of a plan's size over its weights'. A plan in the next wider format would have twice as much."""
_TELLING_BYTES = 32 * 2**20
"""A plan holds megabytes of kernels; its size says something of weights only where they are more than that."""


class PrecisionCheck(BaseModel):
    """What shows in which precision an engine computes.

    Attributes:
        matmuls: how many products with a weight the network has, by format, as TensorRT types them.
        compiled: how many numbers the weight matrices of the compiled layers hold, by format; where layers are
            listed once for each profile, so are their weights. None where the compiler does not report them.
        compiled_from: the source: the engine inspector, or the builder's log; or why there is none.
        weight_bytes: the bytes of the graph's weights.
        plan_bytes: the bytes of the plan.
        size_decides: whether the weights are so large beside kernels that the plan's size shows their format.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    matmuls: dict[str, int]
    compiled: dict[str, int] | None
    compiled_from: str
    weight_bytes: int
    plan_bytes: int
    size_decides: bool


def check_network(bindings: Bindings, network: Any, weights: GraphWeights, precision: Precision) -> dict[str, int]:
    """Count the products with a weight in a parsed network by format, and refuse it if they are not the graph's.

    Raises:
        EngineError: TensorRT typed the network in another way than the graph is.

    """
    every = layers(network)
    makers = {layer.get_output(place).name: layer for layer in every for place in range(layer.num_outputs)}
    counts: Counter[str] = Counter()
    fixed: set[str] = set()
    for layer in every:
        if all(layer.get_input(place).name in fixed for place in range(layer.num_inputs) if layer.get_input(place)):
            fixed.update(layer.get_output(place).name for place in range(layer.num_outputs))
            continue
        if layer.type != bindings.module.LayerType.MATRIX_MULTIPLY:
            continue
        sides = [_source(bindings, layer.get_input(place), makers) for place in (0, 1)]
        if not any(constant for constant, _ in sides):
            continue
        quantized = all(dequantized for _, dequantized in sides)
        counts["int8" if quantized else _FORMATS.get(layer.get_input(0).dtype.name, layer.get_input(0).dtype.name)] += 1
    if dict(counts) != weights.matmuls:
        raise EngineError(
            f"{bindings} reads the {precision} graph's products with weights as {_listed(counts)}, but the graph has "
            f"{_listed(weights.matmuls)}: the engine would not be {precision}."
        )
    return dict(counts)


def compiled_in_log(log: BuilderLog) -> str | None:
    """Return what the builder's log says of the compiled layers, None where it says nothing."""
    return next((entry.message for entry in reversed(log.entries) if entry.message.startswith("Layers:")), None)


def inspect_engine(bindings: Bindings, logger: Any, plan: Any) -> str | None:
    """Return the engine inspector's information on a plan, as JSON; None where there is no GPU that loads it.

    TensorRT-RTX builds for other GPUs than the one that may be there; TensorRT does not.

    Raises:
        EngineError: a GPU is there, but TensorRT cannot load what it has built for it.

    """
    import torch

    if not torch.cuda.is_available():
        return None
    trt = bindings.module
    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = True  # a version compatible plan brings code: ours, it was built just now
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        if bindings.name == "tensorrt_rtx":
            return None
        raise EngineError(f"{bindings} cannot load the engine that it has built.")
    return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))


def weights_by_format(information: str) -> dict[str, int]:
    """Count the numbers in the weight matrices that layer information, text or JSON, lists as constants."""
    found: Counter[str] = Counter()
    if information.lstrip().startswith("{"):
        for listed in json.loads(information).get("Layers", ()):
            if not isinstance(listed, dict):
                continue  # a name alone, as of engines that list no more
            for constant in listed.get("Constants", ()):
                _count(
                    found,
                    constant.get("Dimensions", ()),
                    str(constant.get("Datatype", constant.get("Format/Datatype", ""))),
                )
        return dict(found)
    for line in information.splitlines():
        _, _, rest = line.partition("Constants: [")
        constants, _, _ = rest.partition("], Outputs:")
        for dimensions, kind in _CONSTANT.findall(constants):
            _count(found, [int(size) for size in dimensions.split(",") if size], kind)
    return dict(found)


def check_plan(
    matmuls: dict[str, int],
    weights: GraphWeights,
    precision: Precision,
    information: tuple[str, str | None],
    profiles: int,
    plan_bytes: int,
    weights_alone: bool,
) -> PrecisionCheck:
    """Put the check together from what a build has left.

    Args:
        matmuls: from `check_network`.
        weights: the graph's.
        precision: what was asked for.
        information: the source of information about the compiled layers and its text; or why there is none, and None.
        profiles: how many optimization profiles it has: the compiled layers may be listed once for each.
        plan_bytes: the size of the plan.
        weights_alone: whether it holds all weights, and beside them kernels alone: nothing was stripped, and no
            runtime added.

    Raises:
        EngineError: the compiled layers or the plan's size show another precision.

    """
    source, text = information
    compiled = weights_by_format(text) if text is not None else None
    if compiled == {}:
        compiled, source = None, f"{source} lists no weights"
    if compiled is not None:
        others = {kind: count / profiles for kind, count in compiled.items() if kind != precision}
        strange = sum(max(0, count - weights.elements.get(kind, 0)) for kind, count in others.items())
        if strange > _FOLDED * sum(weights.elements.values()):
            raise EngineError(
                f"The compiled engine is not {precision}: {source} lists weights of {_listed(compiled)} numbers, "
                f"but the graph's are {_listed(weights.elements)}."
            )
    decides = weights.size_bytes >= _TELLING_BYTES and weights_alone
    if decides and not _ENOUGH * weights.size_bytes <= plan_bytes <= _MOST * weights.size_bytes + _TELLING_BYTES / 2:
        raise EngineError(
            f"The plan has {plan_bytes:,} bytes, but the {precision} weights have {weights.size_bytes:,}: "
            "the engine holds them in another precision."
        )
    return PrecisionCheck(
        matmuls=matmuls,
        compiled=compiled,
        compiled_from=source,
        weight_bytes=weights.size_bytes,
        plan_bytes=plan_bytes,
        size_decides=decides,
    )


def _source(bindings: Bindings, tensor: Any, makers: dict[str, Any]) -> tuple[bool, bool]:
    """Return whether a tensor is made of a constant, and whether it was quantized on the way."""
    kinds = bindings.module.LayerType
    layout = (kinds.SHUFFLE, kinds.IDENTITY)
    passing = (*layout, kinds.CAST, kinds.QUANTIZE, kinds.DEQUANTIZE)
    dequantized, only_layout = False, True
    while True:
        layer = makers.get(tensor.name)
        if layer is None or layer.type not in passing:
            return layer is not None and layer.type == kinds.CONSTANT, dequantized
        dequantized |= only_layout and layer.type == kinds.DEQUANTIZE
        only_layout &= layer.type in layout
        tensor = layer.get_input(0)


def _count(found: Counter[str], dimensions: Any, kind: str) -> None:
    known = next((_FORMATS[word] for word in kind.upper().split() if word in _FORMATS), None)
    if known is not None and sum(size > 1 for size in dimensions) > 1:
        count = 1
        for size in dimensions:
            count *= size
        found[known] += count


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items())) or "none"
