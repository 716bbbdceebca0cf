"""MPNet: BERT's layers, whose heads add a bias by relative position that all layers share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from pruning.families.base import Context, EncoderAdapter, Family
from pruning.families.bert import BertFfn
from pruning.families.sublayer import AttentionSublayer, attend

_FIRST_POSITION = 2
"""Of a token, whatever the padding's id: MPNetEmbeddings counts from it."""


@dataclass(frozen=True)
class MpnetContext(Context):
    """With the position bias of all heads of a dense layer, (1, heads, tokens, tokens)."""

    position_bias: Tensor


class MpnetAttention(AttentionSublayer):
    """Self-attention of one MPNetLayer with its output projection and norm."""

    def _features(self, hidden: Tensor, context: Context) -> Tensor:
        attention = self.module.attention.attn
        bias = cast("MpnetContext", context).position_bias
        if hasattr(attention, "kept_heads"):
            bias = bias[:, attention.kept_heads]
        if context.pair_mask is not None:
            bias = bias.masked_fill(~context.pair_mask, torch.finfo(bias.dtype).min)
        query, key, value = (linear(hidden) for linear in (attention.q, attention.k, attention.v))
        return attend(query, key, value, self.unit_size, bias)

    def finish(self, total: Tensor) -> Tensor:
        """Apply the post-norm."""
        normed: Tensor = self.module.attention.LayerNorm(total)
        return normed


class MpnetAdapter(EncoderAdapter):
    """A model whose encoder is an MPNetModel."""

    attention = MpnetAttention
    ffn = BertFfn

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the embeddings of ``input_ids``."""
        embedded: Tensor = self.encoder.embeddings(input_ids=inputs["input_ids"])
        return embedded

    def context(
        self, attention_mask: Tensor, counted: Tensor | None = None, padded: bool | None = None
    ) -> MpnetContext:
        """Compute the position bias too: once for all layers, and for one text, since all texts have the same."""
        bias = self.encoder.encoder.compute_position_bias(attention_mask[:1])
        return MpnetContext(**vars(super().context(attention_mask, counted, padded)), position_bias=bias)


class MpnetFamily(Family):
    """Checkpoints of MPNet."""

    inputs = ("input_ids", "attention_mask")
    pretraining_heads = ("lm_head.",)
    attention_implementation = "eager"  # all that transformers has for it; the adapter attends in one operator

    def max_positions(self, config: Any) -> int:
        """Return the positions without those that no token has: 512 of 514."""
        return int(config.max_position_embeddings) - _FIRST_POSITION


MPNET = MpnetFamily("mpnet", MpnetAdapter)
