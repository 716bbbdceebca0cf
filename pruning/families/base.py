"""What the algorithms need to know of an encoder, and nothing about any one architecture.

An encoder is embeddings, then sublayers from the bottom to the top (attention, FFN, attention, …),
then an output head. Every sublayer computes ``finish(X + projection(features(X)))``: the features are
the concatenated heads' context vectors or the FFN's activations, the projection is linear, and
``finish`` is the norm of a post-norm encoder or the identity of a pre-norm one. Units (heads, neurons)
are equal groups of adjacent feature columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pruning.errors import PlanError
from pruning.plan import EncoderShape, PruningPlan
from pruning.pooling import SentenceHead
from pruning.tasks import Task


class SublayerKind(StrEnum):
    """What a sublayer's units are: attention heads, or FFN neurons."""

    ATTENTION = "attention"
    FFN = "ffn"


@dataclass(frozen=True)
class Context:
    """What every sublayer of one batch reads beside the hidden states.

    Attributes:
        attention_mask: (texts, tokens), 1 where there is a token and 0 in padding.
        pair_mask: (texts, 1, tokens, tokens), true where a token may be attended to; None where
            nothing is padded.

    """

    attention_mask: Tensor
    pair_mask: Tensor | None


class EmptyProjection(nn.Module):
    """The output projection of a sublayer that has lost every unit: its bias is what remains.

    It keeps the weight's name with a width of 0, so that a pruned state dict has the dense model's
    names, and loading it into a dense model fails on the shapes instead of passing unseen.
    """

    def __init__(self, hidden_size: int, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(bias.new_zeros(hidden_size, 0), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=bias.requires_grad)
        self.in_features = 0
        self.out_features = hidden_size

    def forward(self, features: Tensor) -> Tensor:  # noqa: ARG002 - stands where a Linear stood
        """Return the bias, of shape (d,); the residual sum broadcasts it."""
        return self.bias


class Sublayer(ABC):
    """One attention or FFN sublayer of a model, seen through its family's adapter."""

    def __init__(self, layer: int, kind: SublayerKind, unit_size: int) -> None:
        self.layer = layer
        self.kind = kind
        self.unit_size = unit_size
        """Feature columns of one unit: the head size, or 1."""

    @property
    def name(self) -> str:
        """How the sublayer is called in messages: ``layer 3 attention``."""
        return f"layer {self.layer} {self.kind}"

    @property
    def units(self) -> int:
        """How many heads or neurons it has now."""
        return self.projection.in_features // self.unit_size

    @property
    @abstractmethod
    def projection(self) -> nn.Linear:
        """The output projection: weight (d, units·unit_size), bias (d,)."""

    @abstractmethod
    def features(self, hidden: Tensor, context: Context) -> Tensor:
        """Return the projection's input, (texts, tokens, units·unit_size), from hidden states."""

    @abstractmethod
    def finish(self, total: Tensor) -> Tensor:
        """Turn residual plus projection into the next hidden states (the norm, where there is one)."""

    @abstractmethod
    def _slice(self, columns: Tensor, projection: nn.Module) -> None:
        """Keep the feature columns named, all others removed, and replace the output projection."""

    def forward(self, hidden: Tensor, context: Context) -> Tensor:
        """Return the hidden states above this sublayer, of the shape of those below it."""
        if self.units == 0:
            return self.finish(hidden + self.projection.bias)
        return self.finish(hidden + self.projection(self.features(hidden, context)))

    def columns(self, units: Tensor) -> Tensor:
        """Return the feature columns of the units named: (n,) to (n·unit_size,)."""
        return (units[:, None] * self.unit_size + torch.arange(self.unit_size)).flatten()

    def shrink(self, kept: Tensor, weight: Tensor, bias: Tensor) -> None:
        """Keep some units and give the output projection new weights.

        Args:
            kept: ascending indices of the units that stay, (n,).
            weight: the projection's new weight, (d, n·unit_size).
            bias: its new bias, (d,).

        """
        columns = self.columns(kept)
        hidden_size = self.projection.out_features
        if weight.shape != (hidden_size, len(columns)) or bias.shape != (hidden_size,):
            raise PlanError(
                f"{self.name} keeps {len(columns)} columns of a hidden size of {hidden_size}, but was given "
                f"a weight of shape {tuple(weight.shape)} and a bias of shape {tuple(bias.shape)}."
            )
        dtype = self.projection.weight.dtype
        weight, bias = weight.to(dtype).contiguous(), bias.to(dtype).contiguous()
        projection = linear(weight, bias) if len(columns) else EmptyProjection(hidden_size, bias)
        self._slice(columns, projection)


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a Linear that holds the tensors given, without gradients: (out, in) and (out,)."""
    layer = nn.Linear(1, 1, bias=bias is not None, device="meta")
    layer.out_features, layer.in_features = weight.shape
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def keep_rows(layer: nn.Linear, rows: Tensor) -> nn.Linear:
    """Return a Linear with some of another's outputs: the rows named, in order."""
    bias = None if layer.bias is None else layer.bias.detach()[rows].clone()
    return linear(layer.weight.detach()[rows].clone(), bias)


class EncoderAdapter(ABC):
    """A model of one family, opened up into embeddings, sublayers and output head.

    Args:
        model: a model that `Family.check_config` accepts.
        task: what it is for.
        sentence_head: the pooling, for a sentence embedder; None for the other tasks.

    """

    def __init__(self, model: Any, task: Task, sentence_head: SentenceHead | None) -> None:
        self.model = model
        self.task = task
        self.sentence_head = sentence_head
        self.shape = self.family.encoder_shape(model.config)
        self.sublayers = self._open_sublayers()

    @property
    @abstractmethod
    def family(self) -> "Family":
        """The family that this adapter belongs to."""

    @abstractmethod
    def _open_sublayers(self) -> tuple[Sublayer, ...]:
        """Return the sublayers from the bottom to the top."""

    @abstractmethod
    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the hidden states below the first sublayer, (texts, tokens, d)."""

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """Apply the classification head to the top's hidden states: (texts, outputs)."""

    def context(self, attention_mask: Tensor) -> Context:
        """Return what the sublayers read beside the hidden states, for a mask (texts, tokens)."""
        if bool(attention_mask.all()):
            return Context(attention_mask, None)
        return Context(attention_mask, pair_mask(attention_mask))

    def output(self, hidden: Tensor, context: Context) -> Tensor:
        """Return the task's output for the top's hidden states: (texts, outputs)."""
        if self.sentence_head is not None:
            pooled: Tensor = self.sentence_head(hidden, context.attention_mask)
            return pooled
        return self.logits(hidden)

    def apply_widths(self, plan: PruningPlan) -> None:
        """Cut every sublayer to the plan's widths; the weights left in place are arbitrary.

        For a model whose weights are loaded afterwards.

        Raises:
            PlanError: the plan was made for an encoder of other dimensions.

        """
        if plan.shape != self.shape:
            raise PlanError(f"The plan is for an encoder of {plan.shape!r}, but the model is {self.shape!r}.")
        for sublayer in self.sublayers:
            layer = plan.layers[sublayer.layer]
            units = len(layer.heads if sublayer.kind is SublayerKind.ATTENTION else layer.neurons)
            weight = sublayer.projection.weight.detach()[:, : units * sublayer.unit_size]
            sublayer.shrink(torch.arange(units), weight.clone(), sublayer.projection.bias.detach().clone())


def pair_mask(attention_mask: Tensor) -> Tensor:
    """Return which token may attend to which: (texts, tokens) to boolean (texts, 1, tokens, tokens).

    Written so that it also exports well: one Expand, no data-dependent branch.
    """
    return attention_mask[:, None, None, :].bool().expand(-1, -1, attention_mask.shape[1], -1)


class Family(ABC):
    """One supported architecture: how to recognise, check and open its checkpoints."""

    name: ClassVar[str]
    """The ``model_type`` of its configurations."""

    @abstractmethod
    def check_config(self, config: Any) -> None:
        """Refuse a configuration with a feature that pruning would not preserve.

        Raises:
            UnsupportedModelError: the configuration uses such a feature.

        """

    @abstractmethod
    def encoder_shape(self, config: Any) -> EncoderShape:
        """Return the dense encoder's dimensions."""

    def shape_of_folder(self, folder: Path) -> EncoderShape:
        """Return a dense checkpoint's dimensions from its config.json alone."""
        from transformers import AutoConfig

        return self.encoder_shape(AutoConfig.from_pretrained(folder, local_files_only=True))

    @abstractmethod
    def open(self, model: Any, task: Task, sentence_head: SentenceHead | None) -> EncoderAdapter:
        """Return the adapter of a loaded model."""
