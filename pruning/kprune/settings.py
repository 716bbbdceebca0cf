"""The hyperparameters of K-prune."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pruning.tasks import TaskKind

DEFAULT_BALANCE = {
    TaskKind.SINGLE_LABEL: 0.005,
    TaskKind.MULTI_LABEL: 0.005,
    TaskKind.REGRESSION: 0.005,
    TaskKind.EMBEDDING: 0.0005,
}
"""λ where none is given; the divergence of embeddings has another unit than that of labels."""


class KPruneSettings(BaseModel):
    """What a K-prune run is asked to do, and how.

    The published values are γ = 2, λ = 2.5e-4 and μ = 64, with gradients averaged over batches and the
    dimensions of BERT-base. Here gradients are taken text by text, which multiplies K_pred by the square
    of a batch's size, so λ and μ are scaled anew; docs/ALGORITHM.md says how these defaults were chosen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flops_reduction: float
    """The share of the encoder's FLOPs to remove, above 0 and below 1."""
    sequence_length: Annotated[int, Field(ge=1)] = 128
    """Tokens in the sequence that FLOPs are counted at."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """γ: the softmax temperature of the divergence from the teacher."""
    balance: Annotated[float, Field(ge=0)] | None = None
    """λ: how much representational knowledge counts beside predictive; None for `DEFAULT_BALANCE`."""
    head_weight: Annotated[float, Field(gt=0)] = 8.0
    """μ: how much a head's knowledge counts beside a neuron's."""
    ridge: Annotated[float, Field(ge=0)] = 1e-4
    """How strongly tuned weights are drawn to the old ones, relative to the features' mean energy."""

    def resolved(self, kind: TaskKind) -> "KPruneSettings":
        """Return the settings with λ filled in for a task."""
        balance = DEFAULT_BALANCE[kind] if self.balance is None else self.balance
        return self.model_copy(update={"balance": balance})
