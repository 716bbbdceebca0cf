"""Interface between the algorithms and encoder architectures.

An encoder is embeddings, then sublayers from the bottom to the top (attention, FFN, attention, …),
then an output head. Every sublayer computes ``finish(X + projection(features(X)))``: the features are
the concatenated heads' context vectors or the FFN's activations, the projection is linear, and
``finish`` is the norm of a post-norm encoder or the identity of a pre-norm one. Units (heads, neurons)
are equal groups of adjacent feature columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
import transformers
from torch import Tensor, nn

from pruning.errors import PlanError, UnsupportedModelError
from pruning.families.modeling_kprune import LAYOUTS, cut
from pruning.families.sublayer import (
    AttentionSublayer,
    Context,
    FfnSublayer,
    Sublayer,
    SublayerKind,
    pair_mask,
)
from pruning.plan import EncoderShape, PruningPlan
from pruning.tasks import Task

__all__ = ["Context", "EncoderAdapter", "Family", "Sublayer", "SublayerKind"]


class EncoderAdapter(ABC):
    """A model of one family, opened up into embeddings, sublayers and output head.

    Args:
        family: the model's family.
        model: a model that the family's `check_config` accepts.
        task: what it is for.
        head: turns the top's hidden states and an attention mask into the task's outputs.

    """

    attention: ClassVar[type[AttentionSublayer]]
    ffn: ClassVar[type[FfnSublayer]]

    def __init__(self, family: "Family", model: Any, task: Task, head: nn.Module) -> None:
        self.family = family
        self.model = model
        self.encoder: Any = model.base_model
        self.task = task
        self.head = head
        self.shape = family.encoder_shape(model.config)
        self.sublayers = tuple(self._open_sublayers())
        """From the bottom to the top."""

    def _open_sublayers(self) -> Iterator[Sublayer]:
        layout = LAYOUTS[self.family.name]
        layers: Any = self.encoder.get_submodule(layout.layers)
        for number, layer in enumerate(layers):
            yield self.attention(number, layer, layout, self.shape.head_size)
            yield self.ffn(number, layer, layout, 1)

    @abstractmethod
    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the hidden states below the first sublayer, (texts, tokens, d)."""

    def context(self, attention_mask: Tensor, counted: Tensor | None = None, padded: bool | None = None) -> Context:
        """Return what the sublayers and the task read beside the hidden states.

        Args:
            attention_mask: (texts, tokens).
            counted: (texts, tokens), where outputs count; all tokens that are not padding unless given.
            padded: whether there may be padding; None to look, which an exported graph must not do.

        """
        counted = attention_mask if counted is None else counted
        if padded is None:
            padded = not bool(attention_mask.all())
        return Context(attention_mask, counted, pair_mask(attention_mask) if padded else None)

    def finish(self, hidden: Tensor) -> Tensor:
        """Turn the hidden states above the last sublayer into the encoder's output; a pre-norm one has a norm there."""
        return hidden

    def output(self, hidden: Tensor, context: Context) -> Tensor:
        """Return what `divergence` compares, for the hidden states above the last sublayer (texts, tokens, d).

        It is small enough to be kept for all texts; its shape depends on the task.
        """
        return self.task.representation(self.head, self.finish(hidden), context.attention_mask, context.counted)

    def divergence(self, student: Tensor, teacher: Tensor, context: Context, temperature: float) -> Tensor:
        """Return how far the student's output is from the teacher's, text by text: (texts,).

        Args:
            student: what `output` returned for the student.
            teacher: what it returned for the teacher.
            context: the texts' context.
            temperature: γ, above 0.

        """
        return self.task.representation_divergence(self.head, student, teacher, context.counted, temperature)

    def sampled_likelihood(self, teacher: Tensor, context: Context, generator: torch.Generator) -> Tensor:
        """Draw outputs from the dense model's own prediction and return their log-likelihood, summed over the texts.

        The covariance of its gradient is the curvature of the divergence where student and teacher agree.

        Args:
            teacher: what `output` returned for the dense model.
            context: the texts' context.
            generator: decides the draw; on the CPU.

        """
        return self.task.representation_likelihood(self.head, teacher, context.counted, generator)

    def encode(self, inputs: Mapping[str, Tensor], padded: bool | None = None) -> Tensor:
        """Return the encoder's output, (texts, tokens, d), which the head reads.

        Args:
            inputs: the model's inputs, each (texts, tokens), int64.
            padded: as in `context`.

        """
        context = self.context(inputs["attention_mask"], padded=padded)
        hidden = self.embed(inputs)
        for sublayer in self.sublayers:
            hidden = sublayer.forward(hidden, context)
        return self.finish(hidden)

    def apply_widths(self, plan: PruningPlan) -> None:
        """Cut every sublayer of a dense model to the plan's widths; the weights left in place are arbitrary.

        For a model whose weights are loaded afterwards.

        Raises:
            PlanError: the plan was made for an encoder of other dimensions.

        """
        if plan.shape != self.shape:
            raise PlanError(f"The plan is for an encoder of {plan.shape!r}, but the model is {self.shape!r}.")
        cut(self.encoder, plan.model_dump())

    def keep_first(self, widths: Sequence[tuple[int, int]]) -> None:
        """Cut every layer of a dense model to its first heads and neurons, with the weights that they have.

        For a model that is to be timed: it is as fast as any of these widths, and its output is of no use.

        Args:
            widths: how many heads and neurons each layer keeps.

        """
        layers = [{"heads": list(range(heads)), "neurons": list(range(neurons))} for heads, neurons in widths]
        cut(self.encoder, {"layers": layers, "shape": self.shape.model_dump()})
        self.model.requires_grad_(False)


class Family:
    """One supported architecture: how to recognise, check and open its checkpoints.

    Args:
        name: the ``model_type`` of its configurations.
        adapter: what opens its models.

    """

    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask", "token_type_ids")
    """What its models read of what a tokenizer gives."""
    pretraining_heads: ClassVar[tuple[str, ...]] = ("cls.predictions.", "cls.seq_relationship.")
    """How the names of weights begin that belong to heads of pre-training, which fine-tuned models do not read."""
    attention_implementation: ClassVar[str] = "sdpa"
    """The attention implementation that transformers uses in its models; the adapter may do better."""

    def __init__(self, name: str, adapter: type[EncoderAdapter]) -> None:
        self.name = name
        self.adapter = adapter

    def check_config(self, config: Any) -> None:
        """Refuse a configuration with a feature that pruning would not preserve.

        Raises:
            UnsupportedModelError: the configuration uses such a feature.

        """
        if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
            raise UnsupportedModelError(
                "The checkpoint is a decoder (is_decoder or add_cross_attention is set in its config.json), "
                "but only encoders can be pruned."
            )
        positions = getattr(config, "position_embedding_type", "absolute")
        if positions != "absolute":
            raise UnsupportedModelError(
                f"The checkpoint uses {positions} position embeddings, which transformers 5 would ignore: "
                f"only absolute ones are supported for {self.name}."
            )

    def encoder_shape(self, config: Any) -> EncoderShape:
        """Return the dense encoder's dimensions."""
        return EncoderShape(
            layers=config.num_hidden_layers,
            hidden_size=config.hidden_size,
            heads=config.num_attention_heads,
            head_size=config.hidden_size // config.num_attention_heads,
            neurons=config.intermediate_size,
        )

    def max_positions(self, config: Any) -> int:
        """Return the longest sequence in tokens that a model can read."""
        return int(config.max_position_embeddings)

    def token_types(self, config: Any) -> int:
        """Return how many token types a model distinguishes, at least 1."""
        return max(1, int(getattr(config, "type_vocab_size", 1)))

    def tokens_that_tell(self, config: Any) -> int:  # noqa: ARG002 - families with longer ranges read it
        """Return how long a sequence must be, in tokens, to pass through all that its models do."""
        return 6

    def open(self, model: Any, task: Task, head: nn.Module) -> EncoderAdapter:
        """Return the adapter of a loaded model.

        Raises:
            UnsupportedModelError: the model has not the submodules that the adapter relies on.

        """
        try:
            adapter = self.adapter(self, model, task, head)
            for sublayer in adapter.sublayers:
                for name in (*sublayer.inputs, sublayer.output):
                    sublayer.module.get_submodule(name).weight.shape  # noqa: B018 - raises what is caught below
        except AttributeError as error:
            raise changed_implementation(self.name, str(error)) from error
        return adapter


def changed_implementation(name: str, found: str) -> UnsupportedModelError:
    """Return the error for a model that transformers does not implement as its adapter expects."""
    return UnsupportedModelError(
        f"transformers {transformers.__version__} implements {name} in another way than pruning relies on ({found}): "
        "install the version of transformers that constraints.txt names."
    )
