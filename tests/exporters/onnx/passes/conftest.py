"""Graphs written out as text, so that a test shows what it is about."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from exporters.runners.base import Array
from exporters.runners.onnxruntime_runner import CPU_PROVIDER, session_options

Run = Callable[..., dict[str, Array]]


@pytest.fixture(scope="session")
def graph_of() -> Callable[..., ir.Model]:
    """Build a graph from ONNX's text form and its weights."""

    def build(text: str, **weights: Array) -> ir.Model:
        proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 23]>\n{text}')
        for name, numbers in weights.items():
            proto.graph.initializer.append(onnx.numpy_helper.from_array(numbers, name))
        for number, node in enumerate(proto.graph.node):
            node.name = node.name or f"{node.op_type}_{number}"
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
        onnx.checker.check_model(inferred, full_check=True)
        return ir.from_proto(inferred)

    return build


@pytest.fixture(scope="session")
def run_graph() -> Run:
    """Run a graph in ONNX Runtime."""

    def run(model: ir.Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
        import onnxruntime

        proto = ir.to_proto(model)
        onnx.checker.check_model(proto, full_check=True)
        session = onnxruntime.InferenceSession(proto.SerializeToString(), session_options(2), providers=[CPU_PROVIDER])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))

    return run


@pytest.fixture
def fused_operators(tmp_path: Path) -> Callable[[ir.Model], list[str]]:
    """Return what operators ONNX Runtime runs a graph with after its own optimisation."""

    def operators(model: ir.Model) -> list[str]:
        import onnxruntime

        options = session_options(2)
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=[CPU_PROVIDER])
        return [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]

    return operators


@pytest.fixture(scope="session")
def numbers() -> Callable[..., Array]:
    """Return reproducible normal numbers of a shape."""

    def make(*shape: int, seed: int = 0) -> Array:
        return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)

    return make
