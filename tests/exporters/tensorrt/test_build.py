"""Engines from the real compiler, with the checks of their precision."""

import hashlib
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper

from exporters.errors import EngineError
from exporters.onnx.file import OnnxArtefact
from exporters.spec import ModelSpec, Shape, TensorSpec
from exporters.tensorrt import EngineRecord, EngineSettings, OptimizationProfile, engine_from_onnx
from exporters.tensorrt.engine_record import check_plan
from exporters.variant import Precision

TWO = (
    OptimizationProfile(Shape(1, 1), Shape(1, 16), Shape(1, 64)),
    OptimizationProfile(Shape(1, 1), Shape(8, 16), Shape(32, 64)),
)
PADDED = 16
"""The compiler pads the head's 3 outputs to 4."""
pytestmark = pytest.mark.usefixtures("tensorrt")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")


@pytest.mark.parametrize("precision", list(Precision))
def test_an_engine_in_every_precision(
    precision: Precision, graphs: dict[Precision, Path], spec: ModelSpec, tmp_path: Path
) -> None:
    graph = graphs[precision]
    made = engine_from_onnx(graph, spec, precision, tmp_path, "tiny", EngineSettings(profiles=TWO))
    assert sorted(x.name for x in tmp_path.iterdir()) == ["tiny.json", "tiny.log", "tiny.plan", "tiny.timing"]
    record = EngineRecord.read(made.record_path)
    assert record == made.record
    check_plan(record, made.plan)
    assert record.precision is precision
    assert record.optimization_profiles == TWO
    assert record.inputs == tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in spec.inputs)
    kinds = {"fp16": "float16", "bf16": "bfloat16"}
    assert record.outputs == (TensorSpec("logits", kinds.get(precision, "float32"), ("batch", 3)),)
    assert record.onnx_sha256 == hashlib.sha256(graph.read_bytes()).hexdigest()
    assert record.pruning_plan_sha256 is None
    assert record.builder_flags == ()
    assert len(record.decomposable_attention) == 2


@without_gpu  # whose compiler may list other layers
def test_what_shows_the_precision(graphs: dict[Precision, Path], spec: ModelSpec, tmp_path: Path) -> None:
    """Embeddings 50 and 2 × 16; in each of two layers 16 × 48 and 16 × 16; a head of 3 × 16."""
    reports = {x: engine_from_onnx(graphs[x], spec, x, tmp_path, x).record.precision_check for x in Precision}
    layers, rest = 2 * (16 * 48 + 16 * 16), (50 + 2 + 3) * 16
    for precision in (Precision.FP32, Precision.FP16, Precision.BF16):
        assert reports[precision].matmuls == {precision: 5}
        assert reports[precision].compiled == {precision: layers + rest + PADDED}
        assert not reports[precision].size_decides
    assert reports[Precision.INT8].matmuls == {"int8": 4, "fp32": 1}
    assert reports[Precision.INT8].compiled == {"int8": layers, "fp32": rest + PADDED}
    assert reports[Precision.FP32].weight_bytes == 2 * reports[Precision.FP16].weight_bytes


def test_no_other_precision_than_the_one_asked_for(
    graphs: dict[Precision, Path], spec: ModelSpec, tmp_path: Path
) -> None:
    for there, graph in graphs.items():
        for asked in set(Precision) - {there}:
            with pytest.raises(EngineError, match=f"The graph is not {asked}"):
                engine_from_onnx(graph, spec, asked, tmp_path)
    assert not list(tmp_path.iterdir())


@without_gpu  # there kernels are chosen by their measured times
def test_the_same_graph_gives_the_same_bytes(bench: Any, tmp_path: Path) -> None:
    first = bench.build(profiles=TWO).record
    assert bench.build(profiles=TWO).record == first


def test_every_setting_that_the_compiler_takes(bench: Any) -> None:
    made = bench.build(workspace_mib=64, optimization_level=5, weight_streaming=True, tf32=True)
    assert made.record.builder_flags == ("TF32", "WEIGHT_STREAMING")
    assert (made.record.workspace_mib, made.record.optimization_level) == (64, 5)
    assert made.record.plan_sha256 != bench.build().record.plan_sha256


def test_less_information_on_layers_shows_less(bench: Any) -> None:
    assert bench.build(profiling_verbosity="detailed").record.precision_check.compiled is not None
    record = bench.build(profiling_verbosity="layer_names_only").record
    assert record.profiling_verbosity == "layer_names_only"
    assert record.precision_check.compiled is None
    assert record.precision_check.matmuls == {"fp32": 5}


@without_gpu  # whose compiler says other things
def test_the_log_lies_beside_the_plan_and_is_not_printed(bench: Any, capfd: pytest.CaptureFixture[str]) -> None:
    made = bench.build()
    assert capfd.readouterr() == ("", "")
    log = made.log.read_text(encoding="utf-8")
    assert "[INFO] Detected 3 inputs and 1 output network tensors." in log
    assert "Layers:\nName:" in log


def test_progress_only_grows_and_ends_at_one(artefact: OnnxArtefact, spec: ModelSpec, tmp_path: Path) -> None:
    shares: list[float] = []
    engine_from_onnx(artefact.path, spec, Precision.FP32, tmp_path, progress=shares.append)
    assert shares == sorted(shares)
    assert len(shares) > 5
    assert shares[0] > 0
    assert shares[-1] == 1


def test_what_progress_raises_ends_the_build(artefact: OnnxArtefact, spec: ModelSpec, tmp_path: Path) -> None:
    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine_from_onnx(artefact.path, spec, Precision.FP32, tmp_path, progress=stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
def test_a_timing_cache_goes_on(bench: Any) -> None:
    first = bench.build()
    again = bench.build(timing_cache=first.timing_cache)
    assert again.record.timing_cache_from_sha256 == first.record.timing_cache_sha256
    assert again.record.timing_cache_sha256 == hashlib.sha256(again.timing_cache.read_bytes()).hexdigest()


@without_gpu
def test_a_timing_cache_is_of_a_gpu(bench: Any) -> None:
    made = bench.build()
    assert made.record.timing_cache_sha256 == hashlib.sha256(made.timing_cache.read_bytes()).hexdigest()
    with pytest.raises(EngineError, match=r"does not take the timing cache .*model\.timing: .*will not be used"):
        bench.build(timing_cache=made.timing_cache)


def test_the_hash_of_the_pruning_plan_goes_with_it(bench: Any, artefact: OnnxArtefact, tmp_path: Path) -> None:
    model = onnx.load(artefact.path)
    model.metadata_props.add(key="kprune.plan_sha256", value="ab" * 32)
    onnx.save(model, tmp_path / "pruned.onnx")
    assert bench.build(tmp_path / "pruned.onnx").record.pruning_plan_sha256 == "ab" * 32


def test_weights_in_a_file_of_their_own(bench: Any, artefact: OnnxArtefact, tmp_path: Path) -> None:
    model = onnx.load(artefact.path)
    for tensor in model.graph.initializer:  # they have to be raw to be moved
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=64)
    made = bench.build(path)
    data = hashlib.sha256((tmp_path / "model.onnx.data").read_bytes()).hexdigest()
    assert made.record.onnx_data_sha256 == {"model.onnx.data": data}
    assert made.record.precision_check.matmuls == bench.build().record.precision_check.matmuls


@without_gpu
def test_without_a_gpu_the_record_says_so(bench: Any) -> None:
    record = bench.build().record
    assert record.gpu is None
    assert record.gpu_missing == "no CUDA device where the engine was built"
    assert record.precision_check.compiled_from == "the builder's log"


@pytest.mark.gpu
def test_on_a_gpu_the_inspector_shows_the_precision(
    graphs: dict[Precision, Path], spec: ModelSpec, tmp_path: Path
) -> None:
    record = engine_from_onnx(graphs[Precision.FP16], spec, Precision.FP16, tmp_path).record
    assert record.gpu is not None
    assert record.precision_check.compiled_from.startswith("the engine inspector")
