"""The options of a latency target, as those in `kprune_export.cli.options`."""

from pathlib import Path
from typing import Annotated

import typer

TARGET = "Latency target, in place of FLOPs"

TargetSpeedup = Annotated[
    float | None,
    typer.Option(
        help="In place of a FLOPs reduction: how many times as fast as the dense model, in the same runtime and "
        "precision, on this machine. Needs one runtime and one precision.",
        rich_help_panel=TARGET,
    ),
]
TargetLatencyMs = Annotated[
    float | None,
    typer.Option(help="In place of a FLOPs reduction: how long a call may take, at one shape.", rich_help_panel=TARGET),
]
TargetShapes = Annotated[
    str | None,
    typer.Option(
        help="The shapes that the target is about, with weights if you like: 1x128=3,8x128.",
        show_default="those of --shapes, alike",
        rich_help_panel=TARGET,
    ),
]
Align = Annotated[
    int | None,
    typer.Option(
        help="FFN widths are multiples of this.",
        show_default="16, in int8 32",
        rich_help_panel=TARGET,
    ),
]
LatencyTable = Annotated[
    Path | None,
    typer.Option(
        help="A latency table of kprune-export profile-target, not to measure one anew.", rich_help_panel=TARGET
    ),
]
TableCarried = Annotated[
    bool | None,
    typer.Option(
        "--table-carried",
        help="The table is of the machine that will serve, and this is another: nothing is rehearsed or judged here; "
        "validate the bundle there.",
        rich_help_panel=TARGET,
    ),
]
Sensitivity = Annotated[
    Path | None,
    typer.Option(
        help="The sensitivity.json of an earlier run with the same model and texts, not to measure it anew.",
        rich_help_panel=TARGET,
    ),
]
