"""BERT and its kin: post-norm, separate query, key and value projections, a two-matrix FFN."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pruning.families.base import Context, EncoderAdapter, Family
from pruning.families.sublayer import AttentionSublayer, FfnSublayer


class BertAttention(AttentionSublayer):
    """Self-attention of one BertLayer with its output projection and norm."""

    def _features(self, hidden: Tensor, context: Context) -> Tensor:
        features: Tensor = self.module.attention.self(hidden, attention_mask=context.pair_mask)[0]
        return features

    def finish(self, total: Tensor) -> Tensor:
        """Apply the post-norm."""
        normed: Tensor = self.module.attention.output.LayerNorm(total)
        return normed


class BertFfn(FfnSublayer):
    """Feed-forward half of one BertLayer."""

    def _features(self, hidden: Tensor, context: Context) -> Tensor:  # noqa: ARG002 - no token sees another
        features: Tensor = self.module.intermediate(hidden)
        return features

    def finish(self, total: Tensor) -> Tensor:
        """Apply the post-norm."""
        normed: Tensor = self.module.output.LayerNorm(total)
        return normed


class BertAdapter(EncoderAdapter):
    """A model whose encoder is a BertModel, or one that only has other embeddings."""

    attention = BertAttention
    ffn = BertFfn

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the embeddings of ``input_ids`` and, if given, ``token_type_ids``."""
        ids = inputs["input_ids"]
        types = inputs.get("token_type_ids")
        embedded: Tensor = self.encoder.embeddings(
            input_ids=ids, token_type_ids=torch.zeros_like(ids) if types is None else types
        )
        return embedded


BERT = Family("bert", BertAdapter)
