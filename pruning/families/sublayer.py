"""Sublayers: the attentions and FFNs that pruning takes units from."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.errors import PlanError
from pruning.families.modeling_kprune import Layout, fit_attention


class SublayerKind(StrEnum):
    """What a sublayer's units are: attention heads, or FFN neurons."""

    ATTENTION = "attention"
    FFN = "ffn"


@dataclass(frozen=True)
class Context:
    """What every sublayer of one batch reads beside the hidden states.

    Attributes:
        attention_mask: (texts, tokens), 1 where there is a token and 0 in padding.
        counted: (texts, tokens), 1 where the task's output counts; the attention mask, or less.
        pair_mask: (texts, 1, tokens, tokens), true where a token may be attended to; None where
            nothing is padded.

    """

    attention_mask: Tensor
    counted: Tensor
    pair_mask: Tensor | None


class Sublayer(ABC):
    """One attention or FFN sublayer of a model, seen through its family's adapter.

    Args:
        layer: the number of its layer, from 0 at the bottom.
        module: that layer.
        layout: where the layer has its units.
        unit_size: feature columns of one unit: the head size, or 1.

    """

    kind: ClassVar[SublayerKind]

    def __init__(self, layer: int, module: nn.Module, layout: Layout, unit_size: int) -> None:
        self.layer = layer
        self.module: Any = module
        self.layout = layout
        self.unit_size = unit_size

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The names of the Linears with rows for each unit, relative to the layer."""

    @property
    @abstractmethod
    def output(self) -> str:
        """The name of the output projection, relative to the layer."""

    @abstractmethod
    def _features(self, hidden: Tensor, context: Context) -> Tensor:
        """Return the features of a sublayer that has units."""

    @abstractmethod
    def finish(self, total: Tensor) -> Tensor:
        """Turn residual plus projection into the next hidden states (the norm, where there is one)."""

    @property
    def name(self) -> str:
        """How the sublayer is called in messages: ``layer 3 attention``."""
        return f"layer {self.layer} {self.kind}"

    @property
    def units(self) -> int:
        """How many heads or neurons it has now."""
        return self.projection.in_features // self.unit_size

    @property
    def projection(self) -> nn.Linear:
        """The output projection: weight (d, units·unit_size), and perhaps a bias (d,)."""
        projection: nn.Linear = self.module.get_submodule(self.output)
        return projection

    @property
    def bias(self) -> Tensor | None:
        """The output projection's bias, (d,); None where the architecture has none."""
        bias: Tensor | None = self.projection.bias
        return bias

    def features(self, hidden: Tensor, context: Context) -> Tensor:
        """Return the projection's input, (texts, tokens, units·unit_size), from hidden states."""
        return self._features(hidden, context) if self.units else hidden[..., :0]

    def forward(self, hidden: Tensor, context: Context) -> Tensor:
        """Return the hidden states above this sublayer, of the shape of those below it."""
        if self.units == 0:  # as the projection gives it, but without a product of nothing in exported graphs
            return self.finish(hidden if self.bias is None else hidden + self.bias)
        return self.finish(hidden + self.projection(self.features(hidden, context)))

    def columns(self, units: Tensor) -> Tensor:
        """Return the feature columns of the units named: (n,) to (n·unit_size,)."""
        return (units[:, None] * self.unit_size + torch.arange(self.unit_size, device=units.device)).flatten()

    def shrink(self, kept: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        """Keep some units and give the output projection new weights.

        Args:
            kept: ascending indices of the units that stay, (n,).
            weight: the projection's new weight, (d, n·unit_size).
            bias: its new bias, (d,); None exactly where it has none.

        """
        columns = self.columns(kept)
        old = self.projection
        expected = None if self.bias is None else (old.out_features,)
        given = None if bias is None else tuple(bias.shape)
        if weight.shape != (old.out_features, len(columns)) or given != expected:
            raise PlanError(
                f"{self.name} keeps {len(columns)} columns of a hidden size of {old.out_features}, but was given "
                f"a weight of shape {tuple(weight.shape)} and a bias of shape {given}."
            )
        for name in self.inputs if old.in_features else ():
            layer: nn.Linear = self.module.get_submodule(name)
            blocks = torch.arange(0, layer.out_features, old.in_features, device=columns.device)  # several if fused
            self.module.set_submodule(name, keep_rows(layer, (blocks[:, None] + columns).flatten()))
        dtype = old.weight.dtype
        projection = linear(weight.to(dtype).contiguous(), None if bias is None else bias.to(dtype).contiguous())
        self.module.set_submodule(self.output, projection)


class AttentionSublayer(Sublayer):
    """A sublayer whose units are heads."""

    kind = SublayerKind.ATTENTION

    @property
    def inputs(self) -> tuple[str, ...]:
        """Query, key and value projections, and those of positions."""
        return self.layout.inputs_of_heads(self.module)

    @property
    def output(self) -> str:
        """The attention's output projection."""
        return self.layout.heads_out

    def shrink(self, kept: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        """Keep some heads, and make the layer's attention run with them."""
        super().shrink(kept, weight, bias)
        fit_attention(self.module, self.layout, kept.tolist())


class FfnSublayer(Sublayer):
    """A sublayer whose units are neurons."""

    kind = SublayerKind.FFN

    @property
    def inputs(self) -> tuple[str, ...]:
        """The projection into the neurons; with a gate, both are one Linear."""
        return (self.layout.neurons_in,)

    @property
    def output(self) -> str:
        """The projection out of the neurons."""
        return self.layout.neurons_out


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


def attend(
    query: Tensor, key: Tensor, value: Tensor, head_size: int, mask: Tensor | None, scale: float | None = None
) -> Tensor:
    """Return the context vectors of scaled dot-product attention, all heads side by side, (texts, tokens, heads·d_h).

    It is exported as one standard Attention operator.

    Args:
        query: (texts, tokens, heads·d_h); key and value are of the same shape.
        key: what the queries are compared with.
        value: what is averaged.
        head_size: d_h.
        mask: which token may attend to which, boolean, or what is added to the scores; broadcast to
            (texts, heads, tokens, tokens).
        scale: what the products are multiplied with; 1/√d_h unless given.

    """
    query, key, value = (x.view(*x.shape[:-1], -1, head_size).transpose(1, 2) for x in (query, key, value))
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    return attended.transpose(1, 2).flatten(2)


def pair_mask(attention_mask: Tensor) -> Tensor:
    """Return which token may attend to which: (texts, tokens) to boolean (texts, 1, tokens, tokens).

    Written so that it also exports well: one Expand, no data-dependent branch.
    """
    return attention_mask[:, None, None, :].bool().expand(-1, -1, attention_mask.shape[1], -1)
