"""Small torch encoders that belong to no family, to test exporting by itself."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporters.onnx.export import onnx_from_torch
from exporters.onnx.file import OnnxArtefact
from exporters.spec import BATCH, ModelSpec, TensorSpec


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        batch, tokens, width = hidden.shape
        q, k, v = self.qkv(hidden).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        normed: Tensor = self.norm(hidden + self.out(attended.transpose(1, 2).reshape(batch, tokens, width)))
        return normed


class Encoder(nn.Module):
    def __init__(self, layers: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(50, 16)
        self.types = nn.Embedding(2, 16)
        self.layers = nn.ModuleList(Layer(16, 2) for _ in range(layers))
        self.head = nn.Linear(16, 3)
        for norm in (module for module in self.modules() if isinstance(module, nn.LayerNorm)):
            nn.init.normal_(norm.weight, 1.0, 0.1)  # alike, they would be exported as one tensor

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        mask = attention_mask[:, None, None, :].bool().expand(-1, -1, input_ids.shape[1], -1)
        hidden = self.words(input_ids) + self.types(token_type_ids)
        for layer in self.layers:
            hidden = layer(hidden, mask)
        logits: Tensor = self.head(hidden[:, 0])
        return logits


@pytest.fixture(scope="session")
def spec() -> ModelSpec:
    return ModelSpec(
        ("input_ids", "attention_mask", "token_type_ids"),
        (TensorSpec("logits", "float32", (BATCH, 3)),),
        64,
        50,
        2,
        0,
        2,
        {"kprune.task": "a test"},
    )


@pytest.fixture(scope="session")
def encoder() -> nn.Module:
    return Encoder().eval()


@pytest.fixture(scope="session")
def make_encoder() -> Callable[..., nn.Module]:
    return lambda layers: Encoder(layers).eval()


@pytest.fixture(scope="session")
def artefact(encoder: nn.Module, spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> OnnxArtefact:
    return onnx_from_torch(encoder, spec, tmp_path_factory.mktemp("onnx") / "model.onnx")
