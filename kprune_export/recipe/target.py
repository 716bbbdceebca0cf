"""Settings of a latency target."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from kprune_export.recipe.settings import Section, Setting, Use, uses

_PRUNING = uses(Use.PRUNING)
_TARGET = uses(Use.PRUNING, Use.MEASUREMENT)
"""A run that prunes nothing checks the target too."""
BUDGET = (
    "flops_reduction",
    "target_speedup",
    "target_latency_ms",
    "latency_table",
    "table_carried",
    "sensitivity",
)
"""What a model is pruned to, and what that is searched with: a sweep gives each of its trials its own."""


class TargetSection(Section):
    """A speedup or a latency in place of a FLOPs reduction."""

    panel: ClassVar[str] = "Latency target, in place of FLOPs"

    target_speedup: Annotated[
        float | None,
        Field(gt=1),
        Setting(
            "In place of a FLOPs reduction: how many times as fast as the dense model, in the same runtime and "
            "precision, on this machine. Needs one runtime and one precision.",
            _TARGET,
        ),
    ] = None
    target_latency_ms: Annotated[
        float | None,
        Field(gt=0),
        Setting("In place of a FLOPs reduction: how long a call may take, at one shape.", _TARGET),
    ] = None
    target_shapes: Annotated[
        tuple[str, ...],
        Setting(
            "The shapes that the target is about, with weights if you like: 1x128=3,8x128.",
            _TARGET,
            shown="defaults to --shapes, equally weighted",
            metavar="SHAPES",
        ),
    ] = ()
    align: Annotated[
        int | None,
        Field(ge=1, le=2**20),
        Setting("FFN widths are multiples of this.", _PRUNING, shown="16, in int8 32"),
    ] = None
    latency_table: Annotated[
        Path | None,
        Setting("A latency table of kprune-export profile-target to use, instead of measuring one.", _PRUNING),
    ] = None
    table_carried: Annotated[
        bool,
        Setting(
            "The table was measured on the deployment machine, and this is another one: nothing is timed or checked "
            "against the target here; validate the bundle there.",
            _PRUNING,
        ),
    ] = False
    sensitivity: Annotated[
        Path | None,
        Setting(
            "The sensitivity.json of an earlier run with the same model and texts to use, instead of measuring it.",
            _PRUNING,
        ),
    ] = None

    @property
    def targeted(self) -> bool:
        """Whether a latency is the budget, and not FLOPs."""
        return self.target_speedup is not None or self.target_latency_ms is not None
