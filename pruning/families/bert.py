"""BERT: post-norm, separate query, key and value projections, a two-matrix FFN."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pruning.errors import UnsupportedModelError
from pruning.families.base import (
    Context,
    EncoderAdapter,
    Family,
    Sublayer,
    SublayerKind,
    keep_rows,
)
from pruning.plan import EncoderShape
from pruning.pooling import SentenceHead
from pruning.tasks import Task


class EmptySelfAttention(nn.Module):
    """Stands where a BERT self-attention was that lost all its heads; returns no features.

    Its projections have a width of 0, so that the state dict keeps the dense model's names.
    """

    def __init__(self, query: nn.Linear, key: nn.Linear, value: nn.Linear) -> None:
        super().__init__()
        self.query, self.key, self.value = query, key, value

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        """Return features of width 0 and no attention weights, as a pair like the original's."""
        return hidden_states[..., :0], None


class EmptyIntermediate(nn.Module):
    """Stands where a BERT FFN's first half was that lost all its neurons; returns no features."""

    def __init__(self, dense: nn.Linear) -> None:
        super().__init__()
        self.dense = dense

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return features of width 0."""
        return hidden_states[..., :0]


class BertAttentionSublayer(Sublayer):
    """Self-attention of one BertLayer with its output projection and norm."""

    def __init__(self, number: int, layer: Any, head_size: int) -> None:
        super().__init__(number, SublayerKind.ATTENTION, head_size)
        self._attention = layer.attention

    @property
    def projection(self) -> nn.Linear:
        """``attention.output.dense``."""
        dense: nn.Linear = self._attention.output.dense
        return dense

    def features(self, hidden: Tensor, context: Context) -> Tensor:
        """Return the heads' context vectors, (texts, tokens, heads·d_h)."""
        features: Tensor = self._attention.self(hidden, attention_mask=context.pair_mask)[0]
        return features

    def finish(self, total: Tensor) -> Tensor:
        """Apply the post-norm."""
        normed: Tensor = self._attention.output.LayerNorm(total)
        return normed

    def _slice(self, columns: Tensor, projection: nn.Module) -> None:
        attention = self._attention.self
        query, key, value = (keep_rows(x, columns) for x in (attention.query, attention.key, attention.value))
        if len(columns):
            attention.query, attention.key, attention.value = query, key, value
            attention.num_attention_heads = len(columns) // self.unit_size
            attention.all_head_size = len(columns)
        else:
            self._attention.self = EmptySelfAttention(query, key, value)
        self._attention.output.dense = projection


class BertFfnSublayer(Sublayer):
    """Feed-forward half of one BertLayer."""

    def __init__(self, number: int, layer: Any) -> None:
        super().__init__(number, SublayerKind.FFN, 1)
        self._layer = layer

    @property
    def projection(self) -> nn.Linear:
        """``output.dense``."""
        dense: nn.Linear = self._layer.output.dense
        return dense

    def features(self, hidden: Tensor, context: Context) -> Tensor:  # noqa: ARG002 - no token sees another
        """Return the neurons' activations, (texts, tokens, neurons)."""
        features: Tensor = self._layer.intermediate(hidden)
        return features

    def finish(self, total: Tensor) -> Tensor:
        """Apply the post-norm."""
        normed: Tensor = self._layer.output.LayerNorm(total)
        return normed

    def _slice(self, columns: Tensor, projection: nn.Module) -> None:
        dense = keep_rows(self._layer.intermediate.dense, columns)
        if len(columns):
            self._layer.intermediate.dense = dense
        else:
            self._layer.intermediate = EmptyIntermediate(dense)
        self._layer.output.dense = projection


class BertAdapter(EncoderAdapter):
    """A BertModel or a BertForSequenceClassification, opened up."""

    @property
    def family(self) -> Family:
        """The BERT family."""
        return BERT

    def _open_sublayers(self) -> tuple[Sublayer, ...]:
        sublayers: list[Sublayer] = []
        for number, layer in enumerate(self.model.base_model.encoder.layer):
            sublayers.append(BertAttentionSublayer(number, layer, self.shape.head_size))
            sublayers.append(BertFfnSublayer(number, layer))
        return tuple(sublayers)

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the embeddings of ``input_ids`` and, if given, ``token_type_ids``."""
        types = inputs.get("token_type_ids")
        ids = inputs["input_ids"]
        embedded: Tensor = self.model.base_model.embeddings(
            input_ids=ids, token_type_ids=torch.zeros_like(ids) if types is None else types
        )
        return embedded

    def logits(self, hidden: Tensor) -> Tensor:
        """Apply pooler and classifier to the [CLS] vector."""
        logits: Tensor = self.model.classifier(self.model.dropout(self.model.bert.pooler(hidden)))
        return logits


class BertFamily(Family):
    """Checkpoints whose ``model_type`` is bert."""

    name = "bert"

    def check_config(self, config: Any) -> None:
        """Refuse decoders, cross-attention and relative positions (which transformers 5 ignores)."""
        if config.is_decoder or config.add_cross_attention:
            raise UnsupportedModelError(
                "The checkpoint is a decoder (is_decoder or add_cross_attention is set in its config.json), "
                "but only encoders can be pruned."
            )
        positions = getattr(config, "position_embedding_type", "absolute")
        if positions != "absolute":
            raise UnsupportedModelError(
                f"The checkpoint uses {positions} position embeddings, which transformers 5 would ignore: "
                "only absolute ones are supported for BERT."
            )

    def encoder_shape(self, config: Any) -> EncoderShape:
        """Read the dimensions from a BertConfig."""
        return EncoderShape(
            layers=config.num_hidden_layers,
            hidden_size=config.hidden_size,
            heads=config.num_attention_heads,
            head_size=config.hidden_size // config.num_attention_heads,
            neurons=config.intermediate_size,
        )

    def open(self, model: Any, task: Task, sentence_head: SentenceHead | None) -> EncoderAdapter:
        """Open a BertModel or BertForSequenceClassification."""
        return BertAdapter(model, task, sentence_head)


BERT = BertFamily()
