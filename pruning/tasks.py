"""What a model is for, and how far a pruned model's output has moved from the dense model's.

The divergence is what pruning keeps small. It is measured for each text by itself, so that sums over
texts do not depend on how texts are batched.
"""

from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor


class TaskKind(StrEnum):
    """The kinds of output that pruning can preserve."""

    SINGLE_LABEL = "single-label classification"
    MULTI_LABEL = "multi-label classification"
    REGRESSION = "regression"
    EMBEDDING = "sentence embedding"


@dataclass(frozen=True)
class Task:
    """A model's task: its kind and, for a classifier or a regression, its output names in order."""

    kind: TaskKind
    labels: tuple[str, ...] = ()

    @property
    def output_name(self) -> str:
        """The name that the task's output carries in exported graphs."""
        return "sentence_embedding" if self.kind is TaskKind.EMBEDDING else "logits"


def divergence(kind: TaskKind, student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return how far the student's outputs are from the teacher's, text by text.

    * Single-label: ``γ²·KL(student ‖ teacher)`` of the softmax at temperature γ (K-prune, equation 3).
    * Multi-label: the same for each label's Bernoulli distribution, summed over the labels.
    * Regression and embeddings: the squared distance; the temperature does not matter.

    Args:
        kind: the task.
        student: outputs of shape (texts, outputs).
        teacher: outputs of the same shape.
        temperature: γ, above 0.

    Returns:
        A tensor of shape (texts,), in nats for classifiers, in squared output units otherwise.

    """
    if kind is TaskKind.SINGLE_LABEL:
        log_student = F.log_softmax(student / temperature, dim=-1)
        log_teacher = F.log_softmax(teacher / temperature, dim=-1)
    elif kind is TaskKind.MULTI_LABEL:
        log_student = _log_bernoulli(student / temperature)
        log_teacher = _log_bernoulli(teacher / temperature)
    else:
        return (student - teacher).square().sum(-1)
    kl = (log_student.exp() * (log_student - log_teacher)).flatten(1).sum(-1)
    return temperature**2 * kl


def _log_bernoulli(logits: Tensor) -> Tensor:
    """Log-probabilities of each label being on and off: (texts, labels) to (texts, labels, 2)."""
    return torch.stack((F.logsigmoid(logits), F.logsigmoid(-logits)), dim=-1)
