"""Tasks with an output for each token: labels, features, the ends of an answer, masked words."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pruning.calibration.examples import Example, flatten_pairs
from pruning.errors import CalibrationError
from pruning.tasks.base import (
    Output,
    Task,
    normal_likelihood,
    softmax_kl,
    softmax_likelihood,
    sum_counted,
)

CHUNK_VALUES = 2**22
"""How many logits of a vocabulary are in memory at once, for student and teacher each: 16 MiB of float32."""


@dataclass(frozen=True)
class TokenLabels(Task):
    """One of several classes for each token, as in named-entity recognition.

    Special tokens are not counted: their outputs are neither trained nor used.
    """

    name = "token classification"
    counts_special_tokens = False

    @property
    def outputs(self) -> tuple[Output, ...]:
        """``logits``, (texts, tokens, labels)."""
        return (Output("logits", per_token=True, width=len(self.labels)),)

    def divergence(self, student: Tensor, teacher: Tensor, counted: Tensor, temperature: float = 1.0) -> Tensor:
        """Return ``γ²·KL(student ‖ teacher)`` of the classes, summed over the tokens that count."""
        return sum_counted(softmax_kl(student, teacher, temperature), counted)

    def sampled_likelihood(self, outputs: Tensor, counted: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a class for each token that counts."""
        return softmax_likelihood(outputs[counted.bool()], generator).sum()


@dataclass(frozen=True)
class TokenFeatures(Task):
    """A vector for each token: the divergence is the squared distance, summed over the tokens that count.

    Attributes:
        width: the vectors' size.

    """

    name = "token features"
    divergence_name = "squared distance from the dense model's vectors, summed over a text"
    recovery_rate = 5e-4
    width: int = 0

    @property
    def outputs(self) -> tuple[Output, ...]:
        """``last_hidden_state``, (texts, tokens, width)."""
        return (Output("last_hidden_state", per_token=True, width=self.width),)

    def divergence(self, student: Tensor, teacher: Tensor, counted: Tensor, temperature: float = 1.0) -> Tensor:  # noqa: ARG002
        """Return the squared distance; the temperature does not matter."""
        return sum_counted((student - teacher).square().sum(-1), counted)

    def sampled_likelihood(self, outputs: Tensor, counted: Tensor, generator: torch.Generator) -> Tensor:
        """Draw around each value of the tokens that count."""
        return normal_likelihood(outputs[counted.bool()], generator)


@dataclass(frozen=True)
class AnswerSpan(Task):
    """Where in a text the answer to a question begins and ends: two distributions over the tokens."""

    name = "extractive question answering"

    @property
    def outputs(self) -> tuple[Output, ...]:
        """``start_logits`` and ``end_logits``, (texts, tokens) each."""
        return tuple(Output(name, per_token=True, width=None) for name in ("start_logits", "end_logits"))

    def divergence(self, student: Tensor, teacher: Tensor, counted: Tensor, temperature: float = 1.0) -> Tensor:
        """Return ``γ²·KL(student ‖ teacher)`` of both distributions over the tokens that count, summed.

        Outputs are (texts, tokens, 2): start and end.
        """
        ignored = ~counted.bool().unsqueeze(-1)
        lowest = torch.finfo(student.dtype).min / 2  # as good as −∞, but a difference of two of them is 0
        student, teacher = (x.masked_fill(ignored, lowest * min(1.0, temperature)) for x in (student, teacher))
        return softmax_kl(student, teacher, temperature, dim=1).sum(-1)

    def sampled_likelihood(self, outputs: Tensor, counted: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a start and an end for each text."""
        lowest = torch.finfo(outputs.dtype).min / 2
        logits = outputs.masked_fill(~counted.bool().unsqueeze(-1), lowest).transpose(1, 2)
        return softmax_likelihood(logits, generator).sum()

    def texts(self, examples: Sequence[Example]) -> list[Example]:
        """Return the questions, each with its context.

        Raises:
            CalibrationError: some are single texts.

        """
        single = sum(example.pair is None for example in examples)
        if single:
            raise CalibrationError(
                f"The model finds answers to questions in contexts, but {single} of {len(examples)} examples are "
                "single texts: give a file with the columns question and context with --calibration, or name "
                "others with --text-column and --pair-column."
            )
        return list(examples)


@dataclass(frozen=True)
class MaskedLanguageModelling(Task):
    """The words behind masks: a distribution over the vocabulary for each masked token.

    Logits are as wide as the vocabulary, so they are never kept: student and teacher are kept as the
    hidden states at the masked tokens, and the head is applied when they are compared, a few tokens at a
    time; the backward pass computes these logits once more.

    Attributes:
        width: the vocabulary's size.

    """

    name = "masked language modelling"
    masks_tokens = True
    width: int = 0

    @property
    def outputs(self) -> tuple[Output, ...]:
        """``logits``, (texts, tokens, width)."""
        return (Output("logits", per_token=True, width=self.width),)

    def divergence(self, student: Tensor, teacher: Tensor, counted: Tensor, temperature: float = 1.0) -> Tensor:
        """Return ``γ²·KL(student ‖ teacher)`` of the words, summed over the tokens that count."""
        return sum_counted(softmax_kl(student, teacher, temperature), counted)

    def sampled_likelihood(self, outputs: Tensor, counted: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a word for each token that counts."""
        return softmax_likelihood(outputs[counted.bool()], generator).sum()

    def texts(self, examples: Sequence[Example]) -> list[Example]:
        """Return every text of every pair by itself."""
        return flatten_pairs(examples)

    def representation(
        self,
        head: nn.Module,  # noqa: ARG002 - applied when representations are compared
        hidden: Tensor,
        attention_mask: Tensor,  # noqa: ARG002 - as declared
        counted: Tensor,
    ) -> Tensor:
        """Return the hidden states at the tokens that count: (tokens, d), text after text."""
        return hidden[counted.bool()]

    def representation_divergence(
        self, head: nn.Module, student: Tensor, teacher: Tensor, counted: Tensor, temperature: float
    ) -> Tensor:
        """Apply the head to both, a few tokens at a time, and sum the divergence text by text: (texts,)."""

        def of_tokens(student: Tensor, teacher: Tensor) -> Tensor:
            with torch.no_grad():
                target = head(teacher[None], None)
            return softmax_kl(head(student[None], None), target, temperature)[0]

        size = max(1, CHUNK_VALUES // self.width)
        chunks = zip(torch.split(student, size), torch.split(teacher, size), strict=True)
        by_token = [checkpoint(of_tokens, a, b, use_reentrant=False) for a, b in chunks]
        text = counted.bool().nonzero()[:, 0]
        return student.new_zeros(len(counted)).index_add(0, text, torch.cat(by_token))

    def representation_likelihood(
        self,
        head: nn.Module,
        representation: Tensor,
        counted: Tensor,  # noqa: ARG002 - only tokens that count are represented
        generator: torch.Generator,
    ) -> Tensor:
        """Apply the head a few tokens at a time, and draw a word for each."""

        def of_tokens(states: Tensor, seed: int) -> Tensor:  # seeded: the backward pass must draw the same words
            return softmax_likelihood(head(states[None], None), torch.Generator().manual_seed(seed)).sum()

        total = representation.new_zeros(())
        for states in torch.split(representation, max(1, CHUNK_VALUES // self.width)):
            seed = int(torch.randint(2**31, (), generator=generator))
            total = total + checkpoint(of_tokens, states, seed, use_reentrant=False)
        return total
