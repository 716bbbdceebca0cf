"""Tasks with one output for each text: classifiers, regressions, rerankers, sentence embedders."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pruning.calibration.examples import Example, flatten_pairs
from pruning.errors import CalibrationError
from pruning.tasks.base import Output, Task, normal_likelihood, softmax_kl, softmax_likelihood


@dataclass(frozen=True)
class SingleLabel(Task):
    """One of several classes: the divergence is the softmax's."""

    name = "single-label classification"

    @property
    def outputs(self) -> tuple[Output, ...]:
        """``logits``, (texts, labels)."""
        return (Output("logits", per_token=False, width=len(self.labels)),)

    def divergence(self, student: Tensor, teacher: Tensor, counted: Tensor, temperature: float = 1.0) -> Tensor:  # noqa: ARG002
        """Return ``γ²·KL(student ‖ teacher)`` of the classes."""
        return softmax_kl(student, teacher, temperature)

    def sampled_likelihood(self, outputs: Tensor, counted: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Draw a class for each text."""
        return softmax_likelihood(outputs, generator).sum()


@dataclass(frozen=True)
class MultiLabel(Task):
    """Labels that are on or off independently: each is a Bernoulli distribution."""

    name = "multi-label classification"

    @property
    def outputs(self) -> tuple[Output, ...]:
        """``logits``, (texts, labels)."""
        return (Output("logits", per_token=False, width=len(self.labels)),)

    def divergence(self, student: Tensor, teacher: Tensor, counted: Tensor, temperature: float = 1.0) -> Tensor:  # noqa: ARG002
        """Return ``γ²·KL(student ‖ teacher)`` of each label's distribution, summed over the labels."""
        log_student, log_teacher = (_log_bernoulli(x / temperature) for x in (student, teacher))
        return temperature**2 * (log_student.exp() * (log_student - log_teacher)).flatten(1).sum(-1)

    def sampled_likelihood(self, outputs: Tensor, counted: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Draw each label on or off."""
        return softmax_likelihood(_log_bernoulli(outputs), generator).sum()


@dataclass(frozen=True)
class Regression(Task):
    """Numbers: the divergence is their squared distance."""

    name = "regression"
    divergence_name = "squared distance from the dense model's outputs"

    @property
    def outputs(self) -> tuple[Output, ...]:
        """``logits``, (texts, outputs)."""
        return (Output("logits", per_token=False, width=len(self.labels)),)

    def divergence(self, student: Tensor, teacher: Tensor, counted: Tensor, temperature: float = 1.0) -> Tensor:  # noqa: ARG002
        """Return the squared distance; the temperature does not matter."""
        return (student - teacher).square().sum(-1)

    def sampled_likelihood(self, outputs: Tensor, counted: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Draw around each output."""
        return normal_likelihood(outputs, generator)


@dataclass(frozen=True)
class Reranking(Regression):
    """One score for a pair of texts: a cross-encoder."""

    name = "reranking (cross-encoder)"
    divergence_name = "squared distance from the dense model's scores"

    def texts(self, examples: Sequence[Example]) -> list[Example]:
        """Return the pairs.

        Raises:
            CalibrationError: some are single texts.

        """
        single = sum(example.pair is None for example in examples)
        if single:
            raise CalibrationError(
                f"The model scores pairs of texts (it has one output, and its config.json does not say that its "
                f"problem_type is regression), but {single} of {len(examples)} examples are single texts: give pairs "
                "with --calibration, and name the second column with --pair-column if it is not found."
            )
        return list(examples)


@dataclass(frozen=True)
class SentenceEmbedding(Task):
    """One vector for each text: the divergence is the squared distance.

    Attributes:
        width: the vector's size.

    """

    name = "sentence embedding"
    divergence_name = "squared distance from the dense model's embeddings"
    recovery_rate = 5e-4
    width: int = 0

    @property
    def outputs(self) -> tuple[Output, ...]:
        """``sentence_embedding``, (texts, width)."""
        return (Output("sentence_embedding", per_token=False, width=self.width),)

    def divergence(self, student: Tensor, teacher: Tensor, counted: Tensor, temperature: float = 1.0) -> Tensor:  # noqa: ARG002
        """Return the squared distance; the temperature does not matter."""
        return (student - teacher).square().sum(-1)

    def sampled_likelihood(self, outputs: Tensor, counted: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Draw around each output."""
        return normal_likelihood(outputs, generator)

    def texts(self, examples: Sequence[Example]) -> list[Example]:
        """Return every text of every pair by itself, as an embedder reads them."""
        return flatten_pairs(examples)


def _log_bernoulli(logits: Tensor) -> Tensor:
    """Log-probabilities of each label being on and off: (texts, labels) to (texts, labels, 2)."""
    return torch.stack((F.logsigmoid(logits), F.logsigmoid(-logits)), dim=-1)
