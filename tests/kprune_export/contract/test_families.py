"""Every family through the exporters: the graph is the pruned model, at every shape and padding."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import TINY_FAMILIES, plan_by_hand

from exporters.onnx.export import onnx_from_torch
from exporters.parity.check import check_parity
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner
from exporters.runners.torch_runner import TorchRunner
from kprune_export.model_export import model_spec
from pruning import ServingModule, load_checkpoint, save_pruned
from pruning.plan import LayerPlan

MakeCheckpoint = Callable[..., Path]


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_an_embedder_in_onnx_is_that_in_torch(family: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """`test_variants` does the same for classifiers, in every variant."""
    checkpoint = load_checkpoint(make_checkpoint(family=family, pooling="mean", num_hidden_layers=3))
    layers = (
        LayerPlan(heads=(1, 3), neurons=(0, 5, 7)),
        LayerPlan(heads=(), neurons=tuple(range(9))),
        LayerPlan(heads=(0,), neurons=()),
    )
    plan = plan_by_hand(checkpoint, layers)
    checkpoint.open().apply_widths(plan)
    save_pruned(checkpoint, plan, tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    spec = model_spec(checkpoint, {})
    module = ServingModule(checkpoint).eval()
    artefact = onnx_from_torch(module, spec, tmp_path / "model.onnx")
    assert artefact.operators.get("Attention", 0) == 2
    with OnnxRuntimeRunner(artefact.path, threads=2) as runner:
        check_parity(TorchRunner(module, spec), runner, spec).raise_if_failed()
