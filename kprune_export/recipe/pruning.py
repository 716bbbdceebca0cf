"""Settings of the pruning method."""

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import Field

from kprune_export.recipe.settings import Section, Setting, Use, uses
from pruning.settings import DEFAULT_METHOD, LONGEST_SEQUENCE, Strength, StrengthOrNone

_PRUNING = uses(Use.PRUNING)


def _methods() -> Iterable[str]:
    from pruning.methods import METHODS

    return METHODS


class PruningSection(Section):
    """The method, its hyperparameters, and where it runs."""

    panel: ClassVar[str] = "Pruning method"

    flops_reduction: Annotated[
        float,
        Setting("The share of the encoder's FLOPs to remove, above 0 and below 1.", uses(Use.FLOPS_BUDGET)),
    ] = 0.5
    sequence_length: Annotated[
        int,
        Field(ge=1, le=LONGEST_SEQUENCE),
        Setting("Tokens in the sequence that FLOPs are counted at.", _PRUNING),
    ] = 128
    method: Annotated[
        str,
        Setting(
            "How units are chosen: kprune; or, to compare with, kprune-paper, kwon2022, kcm2023, magnitude, random.",
            _PRUNING,
            values=_methods,
        ),
    ] = DEFAULT_METHOD
    temperature: Annotated[
        Strength | None,
        Setting("γ of kprune-paper: the divergence's softmax temperature.", _PRUNING, shown="kprune-paper: 2.0"),
    ] = None
    balance: Annotated[
        StrengthOrNone | None,
        Setting("λ of kprune-paper: the weight of representational knowledge.", _PRUNING, shown="kprune-paper: 0.256"),
    ] = None
    head_weight: Annotated[
        Strength | None,
        Setting("μ of kprune-paper: the weight of heads beside neurons.", _PRUNING, shown="kprune-paper: 64"),
    ] = None
    ridge: Annotated[
        StrengthOrNone | None,
        Setting(
            "How strongly tuned weights are drawn to the old ones, relative to each feature's energy.",
            _PRUNING,
            shown="chosen for each sublayer on texts left out",
        ),
    ] = None
    device: Annotated[
        str,
        Setting(
            "Where pruning runs: cpu, cuda, cuda:N, or auto (a GPU where there is one; its forward passes are bf16).",
            _PRUNING,
            values=lambda: ("auto", "cpu", "cuda"),
        ),
    ] = "auto"
    offload: Annotated[
        bool, Setting("Keep one layer at a time on the GPU, for models that it cannot hold.", _PRUNING)
    ] = False
