"""What cannot be built, said in one sentence, with nothing left behind."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from exporters.errors import EngineError, ShapeError
from exporters.onnx.export import onnx_from_torch
from exporters.onnx.file import OnnxArtefact
from exporters.spec import BATCH, ModelSpec, Shape, TensorSpec
from exporters.tensorrt import EngineSettings, OptimizationProfile, engine_from_onnx
from exporters.variant import Precision

pytestmark = pytest.mark.usefixtures("tensorrt")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can do this")


@pytest.fixture
def broken(artefact: OnnxArtefact, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that changes a copy of the graph and writes it."""

    def change(edit: Callable[[onnx.ModelProto], None]) -> Path:
        model = onnx.load(artefact.path)
        edit(model)
        path = tmp_path_factory.mktemp("broken") / "model.onnx"
        onnx.save(model, path)
        return path

    return change


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.iterdir())


def test_all_nodes_that_are_refused_are_named_with_their_layers(bench: Any, broken: Callable[..., Path]) -> None:
    def edit(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.op_type == "Attention":
                node.op_type = "NoSuchAttention"
            elif node.op_type == "Gemm":
                node.op_type = "StringNormalizer"

    with pytest.raises(EngineError) as caught:
        bench.build(broken(edit))
    message = str(caught.value)
    assert ", 3 errors: " in message
    assert "the NoSuchAttention node node_scaled_dot_product_attention at layers.0.out: INVALID_NODE" in message
    assert "the NoSuchAttention node node_scaled_dot_product_attention_1 at layers.1.out: INVALID_NODE" in message
    assert "the StringNormalizer node node_linear_4 at head: UNSUPPORTED_NODE" in message
    assert "\n" not in message


def test_a_product_whose_sides_do_not_fit(bench: Any, broken: Callable[..., Path]) -> None:
    def edit(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if list(tensor.dims) == [16, 48]:
                tensor.CopyFrom(numpy_helper.from_array(np.ones((16, 47), np.float32), tensor.name))

    with pytest.raises(EngineError, match=r"the Add node node_linear at layers\.0\.qkv: INVALID_NODE"):
        bench.build(broken(edit))


def test_an_input_from_nowhere(bench: Any, broken: Callable[..., Path]) -> None:
    def edit(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if node.op_type == "Add").input[0] = "nowhere"

    with pytest.raises(EngineError, match="Node input was not registered"):
        bench.build(broken(edit))


def test_files_that_are_no_graph(bench: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("files")
    cut, empty, text = (folder / name for name in ("cut.onnx", "empty.onnx", "text.onnx"))
    cut.write_bytes(bench.graph.read_bytes()[:9000])
    empty.write_bytes(b"")
    text.write_text("not a graph", encoding="utf-8")
    for path in (cut, text):
        with pytest.raises(EngineError, match="is not an ONNX file, or is cut short: export the model again"):
            bench.build(path)
    with pytest.raises(EngineError, match="holds no graph"):
        bench.build(empty)
    with pytest.raises(EngineError, match="is missing: export the model first"):
        bench.build(folder / "none.onnx")


def test_a_profile_longer_than_the_model_reads(bench: Any) -> None:
    with pytest.raises(ShapeError, match="1x65 has 65 tokens, but the model reads at most 64"):
        bench.build(profiles=(OptimizationProfile(Shape(1, 1), Shape(1, 1), Shape(1, 65)),))


@without_gpu  # with one there are kernels that need less
def test_a_workspace_that_is_too_small(make_encoder: Callable[..., nn.Module], spec: ModelSpec, tmp_path: Path) -> None:
    """Attention between 512 tokens of 4,096 texts needs gigabytes for its weights."""
    long = dataclasses.replace(spec, max_positions=512)
    graph = onnx_from_torch(make_encoder(2), long, tmp_path / "model.onnx").path
    profile = OptimizationProfile(Shape(1, 1), Shape(8, 16), Shape(4096, 512))
    with pytest.raises(EngineError, match="within workspace limit"):
        engine_from_onnx(
            graph, long, Precision.FP32, tmp_path, settings=EngineSettings(profiles=(profile,), workspace_mib=1)
        )
    graph.unlink()


def test_axes_that_are_not_dynamic(bench: Any, broken: Callable[..., Path]) -> None:
    def edit(model: onnx.ModelProto) -> None:
        for value in model.graph.input:
            value.type.tensor_type.shape.dim[0].dim_value = 2

    with pytest.raises(EngineError, match=r"input_ids is INT64 \(2, -1\), not INT64 with a dynamic batch and sequence"):
        bench.build(broken(edit))


def test_another_model_than_the_one_described(bench: Any, spec: ModelSpec) -> None:
    def build(**changes: Any) -> None:
        dataclasses.replace(bench, spec=dataclasses.replace(spec, **changes)).build()

    with pytest.raises(EngineError, match="takes input_ids, attention_mask, token_type_ids, not input_ids"):
        build(inputs=("input_ids",))
    with pytest.raises(EngineError, match="gives logits, not scores"):
        build(outputs=(TensorSpec("scores", "float32", (BATCH, 3)),))
    with pytest.raises(EngineError, match=r"logits has the shape \(-1, 3\), not \(-1, 4\)"):
        build(outputs=(TensorSpec("logits", "float32", (BATCH, 4)),))


def test_timing_caches_that_cannot_be_used(bench: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = tmp_path_factory.mktemp("cache") / "old.timing"
    with pytest.raises(EngineError, match=r"The timing cache .*old\.timing is missing"):
        bench.build(timing_cache=cache)
    cache.write_bytes(b"garbage")
    with pytest.raises(EngineError, match="timing cache"):
        bench.build(timing_cache=cache)


@without_gpu
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"hardware_compatibility": "ampere_plus"}, "does not take hardware_compatibility_level AMPERE_PLUS: .*unsupp"),
        ({"refit": True}, "cannot build an engine of .*CUDA_SUCCESS"),
        ({"strip_plan": True}, "cannot build an engine of .*CUDA_SUCCESS"),
        ({"version_compatible": True}, "cannot build an engine of .*libnvinfer_lean"),
    ],
)
def test_what_this_compiler_cannot_do_is_an_error(bench: Any, settings: dict[str, Any], reason: str) -> None:
    """The compiler of TensorRT-RTX, without a GPU; each is taken where TensorRT and a GPU are there."""
    with pytest.raises(EngineError, match=reason):
        bench.build(**settings)
