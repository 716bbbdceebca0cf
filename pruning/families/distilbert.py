"""DistilBERT: BERT's layers under other names, without token types."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pruning.families.base import Context, EncoderAdapter, Family
from pruning.families.sublayer import AttentionSublayer, FfnSublayer, attend
from pruning.plan import EncoderShape


class DistilBertAttention(AttentionSublayer):
    """Self-attention of one TransformerBlock with its output projection and norm."""

    def _features(self, hidden: Tensor, context: Context) -> Tensor:
        attention = self.module.attention
        query, key, value = (linear(hidden) for linear in (attention.q_lin, attention.k_lin, attention.v_lin))
        return attend(query, key, value, self.unit_size, context.pair_mask)

    def finish(self, total: Tensor) -> Tensor:
        """Apply the post-norm."""
        normed: Tensor = self.module.sa_layer_norm(total)
        return normed


class DistilBertFfn(FfnSublayer):
    """Feed-forward half of one TransformerBlock."""

    def _features(self, hidden: Tensor, context: Context) -> Tensor:  # noqa: ARG002 - no token sees another
        features: Tensor = self.module.ffn.activation(self.module.ffn.lin1(hidden))
        return features

    def finish(self, total: Tensor) -> Tensor:
        """Apply the post-norm."""
        normed: Tensor = self.module.output_layer_norm(total)
        return normed


class DistilBertAdapter(EncoderAdapter):
    """A model whose encoder is a DistilBertModel."""

    attention = DistilBertAttention
    ffn = DistilBertFfn

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the embeddings of ``input_ids``."""
        embedded: Tensor = self.encoder.embeddings(inputs["input_ids"])
        return embedded


class DistilBertFamily(Family):
    """Checkpoints whose configurations name sizes in DistilBERT's own way."""

    inputs = ("input_ids", "attention_mask")
    pretraining_heads = ("vocab_transform.", "vocab_layer_norm.", "vocab_projector.")

    def encoder_shape(self, config: Any) -> EncoderShape:
        """Read the dimensions from a DistilBertConfig."""
        return EncoderShape(
            layers=config.n_layers,
            hidden_size=config.dim,
            heads=config.n_heads,
            head_size=config.dim // config.n_heads,
            neurons=config.hidden_dim,
        )


DISTILBERT = DistilBertFamily("distilbert", DistilBertAdapter)
