"""DeBERTa-v2 and v3: BERT's layers with disentangled attention, whose scores also compare contents with positions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from pruning.errors import UnsupportedModelError
from pruning.families.base import Context, EncoderAdapter, Family
from pruning.families.bert import BertAttention, BertFfn
from pruning.families.sublayer import attend
from pruning.plan import EncoderShape


@dataclass(frozen=True)
class DebertaContext(Context):
    """With what positions are to each other.

    Attributes:
        relative_positions: (1, tokens, tokens), None without relative attention.
        position_embeddings: (positions, d), None likewise.

    """

    relative_positions: Tensor | None
    position_embeddings: Tensor | None


def _compared(kinds: Sequence[str] | None) -> int:
    """Return how many comparisons of contents with positions there are: of queries with keys' positions, and back."""
    return sum(kind in (kinds or ()) for kind in ("c2p", "p2c"))


class DebertaAttention(BertAttention):
    """Self-attention of one DebertaV2Layer with its output projection and norm."""

    def _features(self, hidden: Tensor, context: Context) -> Tensor:
        attention = self.module.attention.self
        query, key, value = (
            linear(hidden) for linear in (attention.query_proj, attention.key_proj, attention.value_proj)
        )
        factor = 1 + _compared(attention.pos_att_type)  # products that a score sums up
        mask = context.pair_mask
        if attention.relative_attention:
            mask = self._position_scores(query, key, factor, cast("DebertaContext", context))
        root = float(np.sqrt(np.float32(factor * self.unit_size)))  # transformers takes it in float32
        return attend(query, key, value, self.unit_size, mask, scale=1 / root)

    def _position_scores(self, query: Tensor, key: Tensor, factor: int, context: "DebertaContext") -> Tensor:
        """Return what positions add to the scores, (texts, heads, tokens, tokens), with padding masked."""
        attention = self.module.attention.self
        heads = attention.num_attention_heads
        scores: Tensor = attention.disentangled_attention_bias(
            attention.transpose_for_scores(query, heads),
            attention.transpose_for_scores(key, heads),
            context.relative_positions,
            context.position_embeddings,
            factor,
        ).view(-1, heads, query.shape[1], key.shape[1])
        if context.pair_mask is None:
            return scores
        return scores.masked_fill(~context.pair_mask, torch.finfo(scores.dtype).min)


class DebertaAdapter(EncoderAdapter):
    """A model whose encoder is a DebertaV2Model."""

    attention = DebertaAttention
    ffn = BertFfn

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the embeddings of ``input_ids`` and, if given, ``token_type_ids``; those of padding are zero."""
        embedded: Tensor = self.encoder.embeddings(
            input_ids=inputs["input_ids"],
            token_type_ids=inputs.get("token_type_ids"),
            mask=inputs["attention_mask"],
        )
        return embedded

    def context(
        self, attention_mask: Tensor, counted: Tensor | None = None, padded: bool | None = None
    ) -> DebertaContext:
        """Compute the relative positions and their embeddings too: once for all layers."""
        return DebertaContext(
            **vars(super().context(attention_mask, counted, padded)),
            relative_positions=self.encoder.encoder.get_rel_pos(attention_mask.unsqueeze(-1)),
            position_embeddings=self.encoder.encoder.get_rel_embedding(),
        )


class DebertaFamily(Family):
    """Checkpoints of DeBERTa-v2 and DeBERTa-v3."""

    pretraining_heads = ("cls.predictions.", "lm_predictions.", "mask_predictions.")
    attention_implementation = "eager"  # all that transformers has for it; the adapter attends in one operator

    def check_config(self, config: Any) -> None:
        """Refuse also the convolution that stands beside the first layer of the two largest DeBERTa-v2."""
        super().check_config(config)
        if getattr(config, "conv_kernel_size", 0) > 0:
            raise UnsupportedModelError(
                f"The checkpoint has a convolution beside its first layer (conv_kernel_size {config.conv_kernel_size} "
                "in its config.json), which pruning does not know: DeBERTa-v2 is supported without one, and DeBERTa-v3."
            )

    def encoder_shape(self, config: Any) -> EncoderShape:
        """Read the dimensions from a DebertaV2Config, which may name a head size, and the rows of positions."""
        shape = super().encoder_shape(config)
        spans = (getattr(config, "position_buckets", -1), config.max_relative_positions, config.max_position_embeddings)
        span = next(span for span in spans if span > 0)
        kinds = _compared(config.pos_att_type) if config.relative_attention else 0
        head_size = getattr(config, "attention_head_size", shape.head_size)
        return shape.model_copy(update={"head_size": head_size, "position_rows": kinds * 2 * span})


DEBERTA_V2 = DebertaFamily("deberta-v2", DebertaAdapter)
