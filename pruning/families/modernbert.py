"""ModernBERT: pre-norm, fused projections, gated FFNs, rotary positions, local and global attention by turns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from pruning.errors import UnsupportedModelError
from pruning.families.base import Context, EncoderAdapter, Family
from pruning.families.sublayer import AttentionSublayer, FfnSublayer, attend
from pruning.plan import EncoderShape

_LOCAL = "sliding_attention"
_LENGTH_DEPENDENT_ROTATIONS = ("dynamic", "longrope")


@dataclass(frozen=True)
class ModernBertContext(Context):
    """With what local attention and rotary positions need.

    Attributes:
        local_mask: (texts or 1, 1, tokens, tokens), true where a token may be attended to that is near enough.
        rotations: for each kind of layer the cosines and sines of its rotations, (1, tokens, d_h) each.

    """

    local_mask: Tensor
    rotations: Mapping[str, tuple[Tensor, Tensor]]


class ModernBertAttention(AttentionSublayer):
    """Attention of one ModernBertEncoderLayer with the norm before it."""

    def _features(self, hidden: Tensor, context: Context) -> Tensor:
        context = cast("ModernBertContext", context)
        kind = self.module.attention_type
        query, key, value = self.module.attn.Wqkv(self.module.attn_norm(hidden)).chunk(3, dim=-1)
        cos, sin = context.rotations[kind]
        mask = context.local_mask if kind == _LOCAL else context.pair_mask
        return attend(rotate(query, cos, sin), rotate(key, cos, sin), value, self.unit_size, mask)

    def finish(self, total: Tensor) -> Tensor:
        """Return the sum as it is: the norm comes before the sublayer."""
        return total


class ModernBertFfn(FfnSublayer):
    """Gated FFN of one ModernBertEncoderLayer with the norm before it."""

    def _features(self, hidden: Tensor, context: Context) -> Tensor:  # noqa: ARG002 - no token sees another
        mlp = self.module.mlp
        up, gate = mlp.Wi(self.module.mlp_norm(hidden)).chunk(2, dim=-1)
        features: Tensor = mlp.act(up) * gate
        return features

    def finish(self, total: Tensor) -> Tensor:
        """Return the sum as it is: the norm comes before the sublayer."""
        return total


class ModernBertAdapter(EncoderAdapter):
    """A model whose encoder is a ModernBertModel."""

    attention = ModernBertAttention
    ffn = ModernBertFfn

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the normed embeddings of ``input_ids``."""
        embedded: Tensor = self.encoder.embeddings(inputs["input_ids"])
        return embedded

    def context(
        self, attention_mask: Tensor, counted: Tensor | None = None, padded: bool | None = None
    ) -> ModernBertContext:
        """Compute the rotations and the local mask too: once for all layers."""
        base = super().context(attention_mask, counted, padded)
        positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        distance = (positions[:, None] - positions).abs()[None, None]
        near = distance <= self.encoder.config.sliding_window
        if base.pair_mask is not None:  # padding far from all tokens sees itself, so that no softmax is over nothing
            near = near & (base.pair_mask | (distance == 0))
        like = self.encoder.embeddings.tok_embeddings.weight
        rotations = {
            kind: self.encoder.rotary_emb(like, positions[None], kind) for kind in set(self.encoder.config.layer_types)
        }
        return ModernBertContext(**vars(base), local_mask=near, rotations=rotations)

    def finish(self, hidden: Tensor) -> Tensor:
        """Apply the norm that follows the last layer."""
        normed: Tensor = self.encoder.final_norm(hidden)
        return normed


def rotate(vectors: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the two halves of each head's vectors by their token's angles, in float32 as transformers does.

    Args:
        vectors: (texts, tokens, heads·d_h).
        cos: (1, tokens, d_h), both halves alike.
        sin: likewise.

    """
    heads = vectors.view(*vectors.shape[:-1], -1, cos.shape[-1]).float()
    first, second = heads.chunk(2, dim=-1)
    turned = heads * cos.unsqueeze(2) + torch.cat((-second, first), dim=-1) * sin.unsqueeze(2)
    return turned.to(vectors.dtype).flatten(2)


class ModernBertFamily(Family):
    """Checkpoints of ModernBERT."""

    inputs = ("input_ids", "attention_mask")
    pretraining_heads = ("head.", "decoder.")

    def check_config(self, config: Any) -> None:
        """Refuse also rotations that depend on how long a batch's texts are."""
        super().check_config(config)
        for kind in set(config.layer_types):
            rotation = config.rope_parameters[kind].get("rope_type")
            if rotation in _LENGTH_DEPENDENT_ROTATIONS:
                raise UnsupportedModelError(
                    f"The checkpoint turns its rotary positions with the length of the text (rope_type {rotation!r} in "
                    "its config.json), so that one graph cannot serve all lengths: only fixed rotations are supported."
                )

    def encoder_shape(self, config: Any) -> EncoderShape:
        """Return the dimensions; a neuron has a row in two matrices, one for its gate, and a column in a third."""
        return super().encoder_shape(config).model_copy(update={"ffn_matrices": 3})

    def tokens_that_tell(self, config: Any) -> int:
        """Return a length at which local attention leaves tokens out."""
        return int(config.sliding_window) + 4


MODERNBERT = ModernBertFamily("modernbert", ModernBertAdapter)
