import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from exporters.errors import ExportError
from exporters.onnx.export import onnx_from_torch
from exporters.onnx.file import OnnxArtefact
from exporters.spec import ModelSpec


def test_the_graph_is_what_was_asked_for(artefact: OnnxArtefact, spec: ModelSpec) -> None:
    model = onnx.load(artefact.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(x.domain, x.version) for x in model.opset_import] == [("", 23)]
    assert artefact.operators["Attention"] == 2
    assert artefact.operators["LayerNormalization"] == 2
    assert artefact.size_bytes == artefact.path.stat().st_size
    assert artefact.sha256 == hashlib.sha256(artefact.path.read_bytes()).hexdigest()
    assert {x.key: x.value for x in model.metadata_props} == {"kprune.task": "a test"}
    axes = [[d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim] for x in model.graph.input]
    assert axes == [["batch", "sequence"]] * 3
    assert [x.name for x in model.graph.output] == ["logits"]


def test_nothing_of_the_machine_is_in_the_file(artefact: OnnxArtefact) -> None:
    data = artefact.path.read_bytes()
    for trace in (b"site-packages", b".py", b"stack_trace", str(Path.cwd()).encode()):
        assert trace not in data


def test_the_same_module_gives_the_same_bytes(
    encoder: nn.Module, spec: ModelSpec, artefact: OnnxArtefact, tmp_path: Path
) -> None:
    assert onnx_from_torch(encoder, spec, tmp_path / "again.onnx").sha256 == artefact.sha256


def test_a_missing_attention_node_is_an_error(encoder: nn.Module, spec: ModelSpec, tmp_path: Path) -> None:
    wrong = dataclasses.replace(spec, attention_layers=3)
    with pytest.raises(ExportError, match="has 2 Attention nodes, but 3 layers attend"):
        onnx_from_torch(encoder, wrong, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


class FixedBatch(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        ids = input_ids.reshape(2, 16)  # only the shape that it was traced with
        output: Tensor = self.inner(ids, attention_mask, token_type_ids)
        return output


def test_a_specialised_axis_is_an_error(encoder: nn.Module, spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(ExportError):
        onnx_from_torch(FixedBatch(encoder), spec, tmp_path / "model.onnx")


def test_what_torch_cannot_export_is_an_error(spec: ModelSpec, tmp_path: Path) -> None:
    class Branch(nn.Module):
        def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
            return input_ids.float() if int(input_ids.sum()) > 3 else attention_mask.float()

    with pytest.raises(ExportError, match="torch could not export the model to ONNX: .+") as caught:
        onnx_from_torch(Branch(), spec, tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_all_attention_gone(make_encoder: Callable[..., nn.Module], spec: ModelSpec, tmp_path: Path) -> None:
    """A mask that nothing reads must stay an input, or servers could not send it."""
    none = dataclasses.replace(spec, attention_layers=0)
    made = onnx_from_torch(make_encoder(0), none, tmp_path / "model.onnx")
    assert [x.name for x in onnx.load(made.path).graph.input] == list(spec.inputs)
    assert "Attention" not in made.operators


def test_gradients_of_the_module_are_left_alone(
    spec: ModelSpec, make_encoder: Callable[..., nn.Module], tmp_path: Path
) -> None:
    module = make_encoder(1)
    onnx_from_torch(module, dataclasses.replace(spec, attention_layers=1), tmp_path / "model.onnx")
    assert all(p.requires_grad for p in module.parameters())
    assert torch.is_grad_enabled()
