"""The interface of tasks: what a model is for. Nothing else in the package asks which task a model has."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.calibration.examples import Example


@dataclass(frozen=True)
class Output:
    """One output of a served model.

    Attributes:
        name: its name in exported graphs.
        per_token: whether it has an axis for the tokens after that for the texts.
        width: the size of its last axis, None where there is no further axis.

    """

    name: str
    per_token: bool
    width: int | None


@dataclass(frozen=True)
class Task(ABC):
    """What a model is for, and how far a pruned model's output is from the dense model's.

    The divergence is what pruning keeps small. It is measured for each text by itself, so that sums over
    texts do not depend on how texts are batched. It compares single tensors: a task with several outputs
    stacks them on a last axis.

    Attributes:
        labels: the names of a classifier's or a regression's outputs, in order; else empty.

    """

    labels: tuple[str, ...] = ()

    name: ClassVar[str]
    """Its name in plain words, unique among all tasks: what files record, and messages and reports show."""
    divergence_name: ClassVar[str] = "KL(pruned ‖ dense), nats a text"
    """What `divergence` measures, as the label of a plot's axis."""
    masks_tokens: ClassVar[bool] = False
    """Whether the model reads texts with some of their tokens masked."""
    recovery_rate: ClassVar[float] = 2e-4
    """The learning rate of a recovery, at its highest."""
    counts_special_tokens: ClassVar[bool] = True
    """Whether outputs at [CLS], [SEP] and their like are outputs that somebody reads."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[Output, ...]:
        """The served model's outputs, in order."""

    @abstractmethod
    def divergence(self, student: Tensor, teacher: Tensor, counted: Tensor, temperature: float = 1.0) -> Tensor:
        """Return how far the student's outputs are from the teacher's, text by text.

        Args:
            student: outputs of shape (texts, outputs), or (texts, tokens, outputs).
            teacher: outputs of the same shape.
            counted: (texts, tokens), true or 1 where a token's output counts; the attention mask, or less.
                Tasks with one output a text do not read it.
            temperature: γ, above 0.

        Returns:
            A tensor of shape (texts,), in nats for classifiers, in squared output units otherwise.

        """

    def texts(self, examples: Sequence[Example]) -> list[Example]:
        """Return examples in the form that the model reads them in.

        Raises:
            CalibrationError: the task cannot use them.

        """
        return list(examples)

    def representation(
        self,
        head: nn.Module,
        hidden: Tensor,
        attention_mask: Tensor,
        counted: Tensor,  # noqa: ARG002 - tasks may read it
    ) -> Tensor:
        """Return what `representation_divergence` compares: small enough to be kept for all texts.

        Args:
            head: maps hidden states (texts, tokens, d) and attention mask to the outputs.
            hidden: the top's hidden states.
            attention_mask: (texts, tokens).
            counted: (texts, tokens), where outputs count.

        Returns:
            The outputs as one tensor, unless the task says otherwise.

        """
        outputs = head(hidden, attention_mask)
        if isinstance(outputs, Tensor):
            return outputs
        return torch.stack(outputs, dim=-1)

    def representation_divergence(
        self,
        head: nn.Module,  # noqa: ARG002 - tasks may read it
        student: Tensor,
        teacher: Tensor,
        counted: Tensor,
        temperature: float,
    ) -> Tensor:
        """Return the divergence, (texts,), between the representations of student and teacher."""
        return self.divergence(student, teacher, counted, temperature)

    @abstractmethod
    def sampled_likelihood(self, outputs: Tensor, counted: Tensor, generator: torch.Generator) -> Tensor:
        """Draw what the outputs predict and return the log-likelihood of what was drawn, a scalar.

        Summed over texts and tokens. Its gradient's covariance is the Hessian of the divergence (at
        temperature 1) where student and teacher agree: for a squared distance, that of a normal
        distribution of variance ½.

        Args:
            outputs: (texts, outputs) or (texts, tokens, outputs).
            counted: (texts, tokens), true or 1 where a token's output counts.
            generator: decides the draw; on the CPU.

        """

    def representation_likelihood(
        self,
        head: nn.Module,  # noqa: ARG002 - tasks may read it
        representation: Tensor,
        counted: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Return `sampled_likelihood` for a representation."""
        return self.sampled_likelihood(representation, counted, generator)


def softmax_likelihood(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a class for each row from the softmax and return its log-likelihood: (…, classes) to (…)."""
    log_probability = F.log_softmax(logits, dim=-1)
    flat = log_probability.detach().flatten(0, -2).float().cpu()
    drawn = torch.multinomial(flat.exp(), 1, generator=generator).to(logits.device)
    return log_probability.flatten(0, -2).gather(1, drawn).view(logits.shape[:-1])


def normal_likelihood(values: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from a normal distribution of variance ½ around each value and return the log-likelihood, a scalar.

    Constants are left out; what remains is linear in the values: its gradient is √2 times the standard
    normal draw.
    """
    draw = torch.randn(values.shape, generator=generator).to(values)
    return 2**0.5 * (values * draw).sum()


def softmax_kl(student: Tensor, teacher: Tensor, temperature: float, dim: int = -1) -> Tensor:
    """Return ``γ²·KL(student ‖ teacher)`` of the softmax at temperature γ (K-prune, equation 3).

    Args:
        student: logits.
        teacher: logits of the same shape.
        temperature: γ.
        dim: the axis that the classes are on; it is summed over.

    """
    log_student = F.log_softmax(student / temperature, dim=dim)
    log_teacher = F.log_softmax(teacher / temperature, dim=dim)
    return temperature**2 * (log_student.exp() * (log_student - log_teacher)).sum(dim)


def sum_counted(by_token: Tensor, counted: Tensor) -> Tensor:
    """Sum values of shape (texts, tokens) over the tokens that count: (texts,)."""
    return by_token.masked_fill(~counted.bool(), 0.0).sum(1)
