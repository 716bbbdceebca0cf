"""``kprune-export validate``."""

from pathlib import Path
from typing import Annotated

import typer

from kprune_export.cli import options
from kprune_export.cli.running import run_recipe
from kprune_export.cli.setting_options import Settings, with_settings
from kprune_export.recipe.export import ExportSection
from kprune_export.recipe.gates import GatesSection
from kprune_export.recipe.measurement import MeasurementSection
from kprune_export.recipe.model import ModelSection
from kprune_export.recipe.texts import TextsSection


@with_settings(
    ModelSection,
    TextsSection,
    ExportSection,
    MeasurementSection,
    GatesSection,
    without=("model", "pooling", "samples"),
    helps={
        "output": "A folder to write the new reports to; else they are only shown.",
        "runtime": "The runtimes to validate, of those in the bundle; may be repeated or comma-separated.",
        "precision": "The precisions to validate, of those in the bundle; may be repeated or comma-separated.",
    },
    shown="as the bundle was made",
)
def validate(
    bundle: Annotated[Path, typer.Argument(help="A bundle made by prune-and-build.", show_default=False)],
    settings: Settings,
    dense: Annotated[
        str | None,
        typer.Option(
            help="The dense checkpoint that it was made from.",
            show_default="where it was when this machine made the bundle",
            rich_help_panel=ModelSection.panel,
        ),
    ] = None,
    json_output: options.Json = False,
    gates: options.GatesFile = None,
    junit: options.Junit = None,
) -> int:
    """Validate a bundle on this machine: parity, fidelity, latency and gates.

    Settings that are not given are those that the bundle was made with, the held-out texts included. On a machine that
    did not make it, name the dense checkpoint and the texts.

    Example, on the machine that will serve it: kprune-export validate bundle --min-speedup 1.5
    """
    from functools import partial

    from exporters.processes.scratch import scratch_folder
    from kprune_export.bundle.inputs import repeatable_settings

    defaults = repeatable_settings(bundle)
    from kprune_export.pipeline import run as pipeline

    given = {**settings, **({"model": dense} if dense else {})}
    with scratch_folder() as temporary:
        given.setdefault("output", temporary / "validation")
        return run_recipe(
            partial(pipeline.validate, bundle),
            None,
            given,
            defaults=defaults,
            as_json=json_output,
            keeps_output="output" in settings,
            gates=gates,
            junit=junit,
            reads=[("bundle", bundle)],
        )
