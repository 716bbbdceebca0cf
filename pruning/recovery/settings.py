"""Settings and record of a recovery."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LEAST_TEXTS = 2_000
"""From so many different texts on a recovery is worth its time: with fewer, K-prune's own solve has used them well."""


class RecoverySettings(BaseModel):
    """How a pruned model is trained to give the dense model's outputs.

    Attributes:
        tokens: the budget: how many tokens, without padding, are trained on. The texts are read again where they hold
            fewer, but no more than ``epochs`` times.
        epochs: how often each text is read at most.
        learning_rate: at the beginning, after a short warm-up; it falls to 0. None for the task's own.
        hidden_weight: what the hidden states' relative squared distance weighs beside the task's divergence.
        batch_size: texts in a step.
        validation_texts: texts that are not trained on, by which weights are chosen; at most a tenth.
        evaluations: how often these are measured.
        seed: decides which they are, and the order of the others.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: Annotated[int, Field(ge=1)] = 300_000
    epochs: Annotated[int, Field(ge=1)] = 4
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    hidden_weight: Annotated[float, Field(ge=0)] = 20.0
    batch_size: Annotated[int, Field(ge=1)] = 32
    validation_texts: Annotated[int, Field(ge=1)] = 256
    evaluations: Annotated[int, Field(ge=1)] = 12
    seed: int = 0


class CurvePoint(BaseModel):
    """Divergence on the validation texts after some tokens.

    Attributes:
        tokens: trained on so far, without padding.
        divergence: the task's, mean over the validation texts.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int
    divergence: float


class RecoveryRecord(BaseModel):
    """What a recovery did.

    Attributes:
        reason: why the pruned weights were kept; empty where better ones were found.
        texts: how many texts were trained on.
        texts_sha256: their hash, with the validation texts'.
        validation_texts: how many decided which weights are kept.
        tokens: trained on, without padding, all passes together.
        steps: of the optimizer.
        learning_rate: at its highest.
        hidden_weight: what the hidden states' difference weighed.
        curve: the divergence on the validation texts: first of the pruned model, then as training went on.
        best: the index in the curve of the weights that were kept.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str = ""
    texts: int = 0
    texts_sha256: str = ""
    validation_texts: int = 0
    tokens: int = 0
    steps: int = 0
    learning_rate: float = 0.0
    hidden_weight: float = 0.0
    curve: tuple[CurvePoint, ...] = ()
    best: int = 0

    @property
    def before(self) -> float | None:
        """The pruned model's divergence on the validation texts; None where it was not measured."""
        return self.curve[0].divergence if self.curve else None

    @property
    def after(self) -> float | None:
        """The divergence of the weights that were kept."""
        return self.curve[self.best].divergence if self.curve else None
