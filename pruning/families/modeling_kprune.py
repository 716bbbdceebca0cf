"""Opens a pruned encoder in plain transformers, with ``from_pretrained(folder, trust_remote_code=True)``.

kprune-export leaves this file beside the weights that it has pruned. Each class that it offers is transformers' own
class of that name, with every layer cut to the heads and neurons that config.json names under ``kprune``. It needs
torch and transformers only, and does nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import transformers
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """Where an architecture has its heads and neurons. Names are those of submodules, and relative to a layer.

    Attributes:
        layers: the list of layers, relative to the encoder.
        attention: what runs the heads.
        heads_in: the Linears with rows for each head; a fused one has them several times over.
        heads_out: the Linear with columns for each head.
        neurons_in: the Linear with rows for each neuron; a gated one has them twice.
        neurons_out: the Linear with columns for each neuron.
        positions_in: the Linears that give each head its view of positions, where a configuration has them.

    """

    layers: str
    attention: str
    heads_in: tuple[str, ...]
    heads_out: str
    neurons_in: str
    neurons_out: str
    positions_in: tuple[str, ...] = ()

    def inputs_of_heads(self, layer: nn.Module) -> tuple[str, ...]:
        """Return the names of all Linears with rows for each head that a layer has."""
        names = {name for name, _ in layer.named_modules()}
        return (*self.heads_in, *(name for name in self.positions_in if name in names))


_BERT = Layout(
    layers="encoder.layer",
    attention="attention.self",
    heads_in=("attention.self.query", "attention.self.key", "attention.self.value"),
    heads_out="attention.output.dense",
    neurons_in="intermediate.dense",
    neurons_out="output.dense",
)
LAYOUTS = {
    **dict.fromkeys(("bert", "camembert", "electra", "roberta", "xlm-roberta"), _BERT),
    "deberta-v2": replace(
        _BERT,
        heads_in=("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
        positions_in=("attention.self.pos_query_proj", "attention.self.pos_key_proj"),
    ),
    "distilbert": Layout(
        layers="transformer.layer",
        attention="attention",
        heads_in=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        heads_out="attention.out_lin",
        neurons_in="ffn.lin1",
        neurons_out="ffn.lin2",
    ),
    "modernbert": Layout(
        layers="layers",
        attention="attn",
        heads_in=("attn.Wqkv",),
        heads_out="attn.Wo",
        neurons_in="mlp.Wi",
        neurons_out="mlp.Wo",
    ),
    "mpnet": replace(
        _BERT,
        attention="attention.attn",
        heads_in=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        heads_out="attention.attn.o",
    ),
}
"""By the ``model_type`` in config.json."""


def cut(encoder: Any, plan: dict[str, Any]) -> None:
    """Give every layer of a dense encoder the widths of a plan; the weights are to be loaded afterwards."""
    layout = LAYOUTS[encoder.config.model_type]
    for layer, kept in zip(encoder.get_submodule(layout.layers), plan["layers"], strict=True):
        columns = len(kept["heads"]) * plan["shape"]["head_size"]
        for units, names, output in (
            (columns, layout.inputs_of_heads(layer), layout.heads_out),
            (len(kept["neurons"]), (layout.neurons_in,), layout.neurons_out),
        ):
            projection = layer.get_submodule(output)
            for name in names:
                linear = layer.get_submodule(name)
                _narrow(linear, rows=linear.out_features // projection.in_features * units)
            _narrow(projection, columns=units)
        fit_attention(layer, layout, kept["heads"])


def _narrow(linear: nn.Linear, rows: int | None = None, columns: int | None = None) -> None:
    linear.weight = nn.Parameter(linear.weight.detach()[:rows, :columns].clone())
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias.detach()[:rows].clone())
    linear.out_features, linear.in_features = linear.weight.shape


def fit_attention(layer: nn.Module, layout: Layout, heads: Sequence[int]) -> None:
    """Make a layer's attention run with the heads that its Linears have been cut to: these of those before."""
    attention: Any = layer.get_submodule(layout.attention)
    if not heads:
        inner = layout.heads_out.removeprefix(f"{layout.attention}.")
        layer.set_submodule(layout.attention, NoHeads(attention, inner if inner != layout.heads_out else None))
        return
    for name in ("num_attention_heads", "n_heads"):
        if hasattr(attention, name):
            setattr(attention, name, len(heads))
    if hasattr(attention, "all_head_size"):
        attention.all_head_size = len(heads) * attention.attention_head_size
    if layout is LAYOUTS["mpnet"]:
        if not hasattr(attention, "kept_heads"):
            attention.kept_heads = range(max(heads) + 1)
            attention.register_forward_pre_hook(keep_position_bias)
        attention.kept_heads = [attention.kept_heads[head] for head in heads]


def keep_position_bias(attention: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give an MPNet attention its heads' part of the position bias, which all layers share and the lowest computes."""
    hidden_states, mask, position_bias, *rest = arguments
    return hidden_states, mask, position_bias[:, attention.kept_heads], *rest


class NoHeads(nn.Module):
    """Stands where an attention was that has lost all its heads; its submodules keep their names.

    Args:
        attention: what it replaces.
        output: the name of the output projection, where the attention applies it itself; of that the bias is left.

    """

    def __init__(self, attention: nn.Module, output: str | None) -> None:
        super().__init__()
        for name, child in attention.named_children():
            self.add_module(name, child)
        self.output = output

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        """Return what no heads give, and no attention weights, as a pair like the original's."""
        features = hidden_states[..., :0]
        return (features if self.output is None else self.get_submodule(self.output)(features)), None


def __getattr__(name: str) -> Any:
    """Return transformers' model class of this name, whose models are cut to their plan once they are built."""
    found = getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    dense: Any = found

    def build(model: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        super(globals()[name], model).__init__(config, *args, **kwargs)
        cut(model.base_model, config.kprune)

    globals()[name] = type(name, (dense,), {"__init__": build, "__module__": __name__, "__doc__": dense.__doc__})
    return globals()[name]
