"""Options that several commands share and that are no settings of a recipe."""

from pathlib import Path
from typing import Annotated

import typer

from kprune_export.recipe.gates import GatesSection
from kprune_export.recipe.model import ModelSection

RecipeFile = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        help="A YAML file with any of these settings, written with _ for -. Flags override it.",
        rich_help_panel=ModelSection.panel,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object on standard output, for machines.",
        rich_help_panel=ModelSection.panel,
    ),
]
GatesFile = Annotated[
    Path | None,
    typer.Option(
        "--gates",
        help="A YAML file with any of these gates, written with _ for -. It overrides a recipe, and flags override it.",
        rich_help_panel=GatesSection.panel,
    ),
]
Junit = Annotated[
    Path | None,
    typer.Option(
        "--junit", help="Write gates and parity as JUnit XML to this file.", rich_help_panel=GatesSection.panel
    ),
]
