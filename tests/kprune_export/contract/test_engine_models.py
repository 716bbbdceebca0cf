"""Models of every family and task, cut at random, through the exporter and the real compiler of TensorRT."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import plan_by_hand

from exporters.onnx.export import exported_graph, onnx_from_torch
from exporters.onnx.passes.attention import AttentionForm
from exporters.onnx.write import write_variant
from exporters.open import open_variant
from exporters.parity.check import check_parity
from exporters.runners.torch_runner import TorchRunner
from exporters.spec import Shape
from exporters.tensorrt import EngineArtefact, EngineSettings, OptimizationProfile, engine_from_onnx
from exporters.tensorrt.bindings import load_bindings
from exporters.tensorrt.log import BuilderLog
from exporters.tensorrt.network import load_graph, parse_network
from exporters.variant import REFERENCE, Precision, Runtime, Variant
from kprune_export.model_export import model_spec, tolerance_of
from pruning import PruningSettings, ServingModule, load_checkpoint, prune_checkpoint, save_pruned
from pruning.calibration.docstrings import docstring_examples
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.plan import LayerPlan

MakeCheckpoint = Callable[..., Path]
TASKS: dict[str, dict[str, Any]] = {
    "multi-label": {"problem_type": "multi_label_classification"},
    "regression": {"labels": ("score",), "problem_type": "regression"},
    "reranker": {"labels": ("LABEL_0",)},
    "embedder": {"pooling": "mean"},
    "tokens": {"head": "ForTokenClassification", "labels": ("O", "B-FILM", "I-FILM")},
    "answers": {"head": "ForQuestionAnswering"},
    "masked": {"head": "ForMaskedLM"},
}
TWO = (
    OptimizationProfile(Shape(1, 1), Shape(1, 16), Shape(1, 64)),
    OptimizationProfile(Shape(1, 1), Shape(8, 16), Shape(32, 64)),
)
LONG = (
    OptimizationProfile(Shape(1, 1), Shape(1, 128), Shape(1, 512)),
    OptimizationProfile(Shape(1, 1), Shape(8, 128), Shape(32, 512)),
)
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU two builds may choose other kernels")
pytestmark = pytest.mark.usefixtures("tensorrt")


def cut(source: Path, layers: tuple[LayerPlan, ...], folder: Path) -> EncoderCheckpoint:
    checkpoint = load_checkpoint(source)
    plan = plan_by_hand(checkpoint, layers)
    checkpoint.open().apply_widths(plan)
    save_pruned(checkpoint, plan, folder)
    return load_checkpoint(folder)


def build(checkpoint: EncoderCheckpoint, folder: Path, precision: Precision = Precision.FP32) -> EngineArtefact:
    spec = model_spec(checkpoint, {})
    types = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}
    module = ServingModule(checkpoint).eval().to(types.get(precision, torch.float32))
    graph = onnx_from_torch(module, spec, folder / "model.onnx")
    return engine_from_onnx(graph.path, spec, precision, folder, settings=EngineSettings(profiles=TWO))


@pytest.mark.parametrize("task", TASKS)
def test_every_task(task: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(make_checkpoint(**TASKS[task]))
    record = build(checkpoint, tmp_path).record
    assert record.outputs == model_spec(checkpoint, {}).outputs
    assert record.pruning_plan_sha256 == ""


@without_gpu
def test_attention_with_a_kernel_stays_whole(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """Heads of 32 in fp16 have a kernel: leave to take them apart changes no byte."""
    checkpoint = load_checkpoint(make_checkpoint(hidden_size=64, num_attention_heads=2))
    made = build(checkpoint, tmp_path, Precision.FP16)
    assert len(made.record.decomposable_attention) == 2
    bindings, log = load_bindings(), BuilderLog()
    logger = log.logger(bindings.module)
    builder = bindings.module.Builder(logger)
    path = tmp_path / "model.onnx"
    network = parse_network(bindings, builder, logger, path, load_graph(path))
    config = builder.create_builder_config()
    config.clear_flag(bindings.module.BuilderFlag.TF32)
    config.profiling_verbosity = bindings.module.ProfilingVerbosity.DETAILED
    for shapes in TWO:
        profile = builder.create_optimization_profile()
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            profile.set_shape(name, *((x.batch, x.sequence) for x in (shapes.min, shapes.opt, shapes.max)))
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, log.errors()
    assert bytes(plan) == made.plan.read_bytes()


@pytest.mark.parametrize("size", [32, 48, 64, 80])
def test_every_usual_head_size(size: int, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """In the precisions whose attention is left to a kernel; a layer with one head has none."""
    source = make_checkpoint(hidden_size=2 * size, num_attention_heads=2, intermediate_size=16)
    neurons = tuple(range(16))
    checkpoint = cut(
        source, (LayerPlan(heads=(0, 1), neurons=neurons), LayerPlan(heads=(1,), neurons=neurons)), tmp_path
    )
    spec = model_spec(checkpoint, {})
    graph = exported_graph(ServingModule(checkpoint).eval(), spec)
    for precision in (Precision.FP16, Precision.BF16):
        record = write_variant(graph, spec, Variant(Runtime.TENSORRT, precision), tmp_path)
        assert record.attention == (AttentionForm.HEADS_APART, AttentionForm.DECOMPOSED)
        settings_ = EngineSettings(profiles=TWO)
        built = engine_from_onnx(tmp_path / record.file.name, spec, precision, tmp_path, settings=settings_).record
        assert built.precision_check.matmuls.keys() == {precision}


LAYER = st.builds(
    LayerPlan,
    heads=st.sets(st.integers(0, 3)).map(lambda kept: tuple(sorted(kept))),
    neurons=st.sets(st.integers(0, 47)).map(lambda kept: tuple(sorted(kept))),
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=st.tuples(LAYER, LAYER))
def test_any_plan_exports_passes_parity_and_builds(
    layers: tuple[LayerPlan, ...], classifier: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In the form that the CPU is fast with, and in fp16 for TensorRT."""
    folder = tmp_path_factory.mktemp("plan")
    checkpoint = cut(classifier, layers, folder)
    spec, module = model_spec(checkpoint, {}), ServingModule(checkpoint).eval()
    graph = exported_graph(module, spec)
    for variant in (REFERENCE, Variant(Runtime.TENSORRT, Precision.FP16)):
        record = write_variant(graph, spec, variant, folder)
        assert len(record.attention) == sum(bool(layer.heads) for layer in layers)
        with open_variant(variant, folder, None, 2) as runner:
            tolerance = tolerance_of(variant, record)
            check_parity(TorchRunner(module, spec), runner, spec, tolerance=tolerance).raise_if_failed()
    path = folder / record.file.name
    built = engine_from_onnx(path, spec, Precision.FP16, folder, settings=EngineSettings(profiles=TWO)).record
    assert built.precision_check.matmuls.keys() == {Precision.FP16}
    assert checkpoint.plan is not None
    assert built.pruning_plan_sha256 == checkpoint.plan.sha256


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.BF16])
def test_the_size_of_a_real_models_plan_tells_its_precision(precision: Precision, minilm: Path, tmp_path: Path) -> None:
    report = build(load_checkpoint(minilm), tmp_path, precision).record.precision_check
    assert report.size_decides
    assert report.compiled is not None
    assert report.compiled[precision] >= 0.99 * sum(report.compiled.values())
    assert 1 <= report.plan_bytes / report.weight_bytes < 1.5


@pytest.mark.parametrize("reduction", [0.5, 0.8])
def test_a_real_model_that_is_cut_builds_in_every_precision(reduction: float, minilm: Path, tmp_path: Path) -> None:
    """By the cheapest method, whose widths are as uneven as any; int8's ranges are measured on real sentences."""
    checkpoint = load_checkpoint(minilm)
    texts = docstring_examples(32, 0)
    asked = PruningSettings(flops_reduction=reduction, method="magnitude")
    plan = prune_checkpoint(checkpoint, texts, asked)
    spec = model_spec(checkpoint, {})
    graph = exported_graph(ServingModule(checkpoint).eval(), spec)
    feeds = [{name: batch.inputs[name].numpy() for name in checkpoint.inputs} for batch in checkpoint.batches(texts)]
    sizes = {}
    for precision in Precision:
        record = write_variant(graph, spec, Variant(Runtime.TENSORRT, precision), tmp_path, feeds, 2)
        settings_ = EngineSettings(profiles=LONG)
        path = tmp_path / record.file.name
        built = engine_from_onnx(path, spec, precision, tmp_path, path.stem, settings_).record
        assert built.precision is precision
        assert built.optimization_profiles == LONG
        sizes[precision] = built.plan_bytes
    assert len(record.attention) == plan.attention_layers
    assert sizes[Precision.FP16] == pytest.approx(sizes[Precision.BF16], rel=0.02)
    assert sizes[Precision.FP16] < sizes[Precision.INT8] < sizes[Precision.FP32]  # int8 keeps its tables in fp32
