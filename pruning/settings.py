"""Settings of a pruning run."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

DEFAULT_METHOD = "kprune"
Strength = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
"""A hyperparameter; far above any useful value, the bound keeps squares of it finite."""
StrengthOrNone = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
"""A hyperparameter that can be 0."""
LONGEST_SEQUENCE = 1_000_000
"""Tokens that FLOPs can be counted at: FLOPs grow with the square, and are 64-bit numbers where widths are chosen."""


class PruningSettings(BaseModel):
    """The budget, the method, and its hyperparameters; those left None take the method's defaults.

    A hyperparameter that the method does not have is refused (`pruning.methods.method_for`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flops_reduction: float | None = None
    """The share of the encoder's FLOPs to remove, above 0 and below 1."""
    widths: tuple[tuple[int, int], ...] | None = None
    """How many heads and neurons every layer keeps, in place of a FLOPs reduction."""
    sequence_length: Annotated[int, Field(ge=1, le=LONGEST_SEQUENCE)] = 128
    """Tokens in the sequence that FLOPs are counted at."""
    method: str = DEFAULT_METHOD
    """The method's name, one of `pruning.methods.METHODS`."""
    temperature: Strength | None = None
    """γ: the softmax temperature of the divergence from the teacher."""
    balance: StrengthOrNone | None = None
    """λ: how much representational knowledge counts beside predictive."""
    head_weight: Strength | None = None
    """μ: how much a head's knowledge counts beside a neuron's."""
    ridge: StrengthOrNone | None = None
    """How strongly tuned weights are drawn to the old ones, relative to each feature's energy."""
    seed: int = 0
    """The seed that the texts were drawn with; it also decides which tokens are masked, and what `random` keeps."""

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.flops_reduction is not None and self.widths is not None:
            raise ValueError("give a FLOPs reduction or widths, not both")
        return self

    @property
    def hyperparameters(self) -> dict[str, float]:
        """The hyperparameters that were given a value."""
        return self.model_dump(include=set(HYPERPARAMETERS), exclude_none=True)


HYPERPARAMETERS = ("temperature", "balance", "head_weight", "ridge")
