"""Several outputs, with values for each token: export, runners, and parity where there is no padding."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from torch import Tensor, nn

from exporters.errors import ExportError
from exporters.inputs import synthetic_inputs
from exporters.onnx.export import onnx_from_torch
from exporters.onnx.file import OnnxArtefact
from exporters.parity.check import check_parity
from exporters.runners.base import Array, Feeds
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner
from exporters.runners.torch_runner import TorchRunner
from exporters.spec import BATCH, SEQUENCE, ModelSpec, Shape, TensorSpec

OUTPUTS = (
    TensorSpec("scores", "float32", (BATCH, SEQUENCE, 3)),
    TensorSpec("starts", "float32", (BATCH, SEQUENCE)),
)


class TokenEncoder(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        mask = attention_mask[:, None, None, :].bool().expand(-1, -1, input_ids.shape[1], -1)
        hidden = self.encoder.words(input_ids) + self.encoder.types(token_type_ids)  # type: ignore[operator]
        for layer in self.encoder.layers:  # type: ignore[union-attr]
            hidden = layer(hidden, mask)
        scores = self.encoder.head(hidden)  # type: ignore[operator]
        return scores, scores[..., 0]


@pytest.fixture(scope="module")
def module(encoder: nn.Module) -> nn.Module:
    return TokenEncoder(encoder).eval()


@pytest.fixture(scope="module")
def tokens(spec: ModelSpec) -> ModelSpec:
    return dataclasses.replace(spec, outputs=OUTPUTS)


@pytest.fixture(scope="module")
def exported(module: nn.Module, tokens: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> OnnxArtefact:
    return onnx_from_torch(module, tokens, tmp_path_factory.mktemp("onnx") / "model.onnx")


def test_the_outputs_keep_their_names_and_axes(exported: OnnxArtefact) -> None:
    found = {
        x.name: tuple(d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim)
        for x in onnx.load(exported.path).graph.output
    }
    assert found == {output.name: output.shape for output in OUTPUTS}
    assert OnnxRuntimeRunner(exported.path, 2).outputs == OUTPUTS


def test_runners_agree(module: nn.Module, tokens: ModelSpec, exported: OnnxArtefact) -> None:
    report = check_parity(TorchRunner(module, tokens), OnnxRuntimeRunner(exported.path, 2), tokens)
    assert report.passed
    feeds = synthetic_inputs(tokens, Shape(2, 5))
    assert {k: v.shape for k, v in TorchRunner(module, tokens).run(feeds).items()} == {
        "scores": (2, 5, 3),
        "starts": (2, 5),
    }


class Disturbed(TorchRunner):
    """A real run whose second output is then changed: in padding, or at one token."""

    where = "padding"

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        outputs = {name: array.copy() for name, array in super()._run(feeds).items()}
        if self.where == "padding":
            outputs["starts"][feeds["attention_mask"] == 0] = np.nan
        else:
            outputs["starts"][-1, 0] += 1
        return outputs


def test_padding_is_not_compared_and_every_token_is(module: nn.Module, tokens: ModelSpec) -> None:
    disturbed = Disturbed(module, tokens)
    assert check_parity(TorchRunner(module, tokens), disturbed, tokens).passed
    disturbed.where = "token"
    report = check_parity(TorchRunner(module, tokens), disturbed, tokens)
    assert len(report.failures) == len(report.cases)
    assert "starts is off by 1.0" in str(report.worst.problem)


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (TensorSpec("scores", "float32", (BATCH, SEQUENCE, 4)), r"scores was exported with .*3\], not with .*4\]"),
        (TensorSpec("scores", "float32", (BATCH, 3)), "scores was exported with the axes"),
    ],
)
def test_other_axes_than_asked_for_are_an_error(
    module: nn.Module, tokens: ModelSpec, output: TensorSpec, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=problem):
        onnx_from_torch(module, dataclasses.replace(tokens, outputs=(output, OUTPUTS[1])), tmp_path / "model.onnx")
