"""Task heads: from the last hidden states to a task's outputs, in one way for all families and tasks.

A head is a module of its own: it maps hidden states (texts, tokens, d) and an attention mask
(texts, tokens), or None where nothing is padded, to one tensor or to several.
"""

import copy
from typing import Any

from torch import Tensor, nn

from pruning.errors import UnsupportedModelError


class ModelHead(nn.Module):
    """The head of a transformers ``…For…`` model, run alone.

    The model's own forward pass is run on a shallow copy in which the encoder is replaced by a module that
    hands back the hidden states it is given. So whatever the model does above its encoder is done here, for
    every family, in its own code. The copy shares all modules above the encoder with the model.

    Args:
        model: a transformers model whose encoder is its ``base_model``.
        outputs: the names of its outputs, as its output class has them.

    """

    def __init__(self, model: Any, outputs: tuple[str, ...]) -> None:
        super().__init__()
        head = copy.copy(model)
        head._modules = {**model._modules, model.base_model_prefix: _GivenEncoder(model.base_model)}
        self.model = head
        self.outputs = outputs

    def forward(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor | tuple[Tensor, ...]:
        """Return the named outputs, or the output itself where there is one."""
        found = self.model(inputs_embeds=hidden, attention_mask=attention_mask, return_dict=True)
        values = tuple(found[name] for name in self.outputs)
        return values[0] if len(values) == 1 else values


class _GivenEncoder(nn.Module):
    """Stands where a model's encoder is: its output is the ``inputs_embeds`` that it is given.

    The pooler, where the encoder has one, is applied as the encoder does. Other attributes are the
    encoder's own, for heads that look at its embeddings.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        object.__setattr__(self, "_encoder", encoder)  # not a submodule: the model has it already

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_encoder"], name)

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> Any:
        """Return the hidden states given, and what the pooler makes of them."""
        from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling

        pooler = getattr(self.__dict__["_encoder"], "pooler", None)
        if pooler is None:
            return BaseModelOutput(last_hidden_state=inputs_embeds)
        return BaseModelOutputWithPooling(last_hidden_state=inputs_embeds, pooler_output=pooler(inputs_embeds))


class PoolerHead(nn.Module):
    """The encoder's own pooler: what transformers returns as ``pooler_output``.

    Raises:
        UnsupportedModelError: the encoder has no pooler, or the checkpoint no weights for it.

    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        pooler = getattr(encoder, "pooler", None)
        if pooler is None:
            raise UnsupportedModelError(
                "The checkpoint has no pooler, or no weights for it: choose --pooling mean, cls or none."
            )
        self.pooler = pooler

    def forward(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:  # noqa: ARG002 - it reads one token
        """Return (texts, d)."""
        pooled: Tensor = self.pooler(hidden)
        return pooled


class TokenHead(nn.Module):
    """No head at all: the tokens' own vectors."""

    def forward(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:  # noqa: ARG002 - nothing is mixed
        """Return the hidden states."""
        return hidden
