"""``kprune-export diff``."""

from pathlib import Path
from typing import Annotated

import typer

from kprune_export.cli import options
from kprune_export.cli.printing import print_json, print_text
from kprune_export.errors import RecipeError

_COLOURS = {"better": "green", "worse": "red"}


def diff(
    before: Annotated[
        Path, typer.Argument(help="A bundle, or any folder that this program wrote.", show_default=False)
    ],
    after: Annotated[Path, typer.Argument(help="The one to compare it with.", show_default=False)],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")] = False,
    json_output: options.Json = False,
) -> int:
    """Show what changed between two bundles.

    The verdict and the gates, the plan, the figures of each variant, and the inputs, settings and versions that
    differ. A speedup counts as changed only where the 95 % intervals of the two do not overlap. Bundles of other
    models or tasks are compared as far as they can be, with a note. Exit code 0 whatever changed.

    Example: kprune-export diff released candidate --markdown > comment.md
    """
    from kprune_export.cli.early_checks import check_bundles

    if markdown and json_output:
        raise RecipeError("--markdown and --json exclude each other: choose one.")
    check_bundles(before, after)
    from kprune_export.cli.console import output_console
    from kprune_export.cli.results import section_table
    from kprune_export.diff.compute import diff_bundles
    from kprune_export.diff.sections import markdown as as_markdown
    from kprune_export.diff.sections import sections
    from kprune_export.errors import ExitCode

    found = diff_bundles(before, after)
    if json_output:
        print_json(found.model_dump_json(indent=2))
        return ExitCode.OK
    if markdown:
        print_text(as_markdown(found).rstrip("\n"))
        return ExitCode.OK
    console = output_console()
    console.print(f"{found.before} → {found.after}", markup=False)
    for note in found.notes:
        console.print(f"Note: {note}", markup=False)
    for warning in found.warnings:
        console.print(f"Warning: {warning}", markup=False)
    for section in sections(found):
        console.print(section_table(section, _COLOURS))
    return ExitCode.OK
