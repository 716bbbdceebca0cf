"""Settings of recovery, the label-free training that follows pruning."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kprune_export.recipe.settings import Section, Setting, Use, uses

_PRUNING = uses(Use.PRUNING)


class RecoverySection(Section):
    """Whether and how a pruned model is trained to give the dense model's outputs."""

    panel: ClassVar[str] = "Recovery"

    recover: Annotated[
        Literal["auto", "on", "off"],
        Setting(
            "Whether pruning is followed by training on the dense model's outputs, without labels, which keeps what is "
            "best on texts that it does not see: auto where there are at least 2000 texts.",
            _PRUNING,
        ),
    ] = "auto"
    recover_tokens: Annotated[
        int,
        Field(ge=1),
        Setting(
            "Tokens to train on; of fewer texts each is read up to four times. Time grows with it, as does fidelity.",
            _PRUNING,
        ),
    ] = 300_000
    recover_texts: Annotated[
        str | None,
        Setting(
            "Unlabelled texts to train on, in any form that --calibration takes.",
            _PRUNING,
            shown="all calibration texts that are not held out",
        ),
    ] = None
