"""``kprune-export verify``."""

from pathlib import Path
from typing import Annotated

import typer

from kprune_export.cli import options
from kprune_export.cli.printing import print_json


def verify(
    bundle: Annotated[
        Path, typer.Argument(help="A bundle, or any folder that this program wrote.", show_default=False)
    ],
    public_key: Annotated[
        Path | None, typer.Option(help="Check the signature too, with this elliptic-curve key in PEM.")
    ] = None,
    json_output: options.Json = False,
) -> int:
    """Compare a bundle's files with its manifest: missing, extra and changed files are listed.

    With a public key also its signature: all that differs from what was signed, the manifest included. Needs the
    extra "sign". Exit code 0 if nothing differs, 2 if anything does.
    """
    import json

    from kprune_export.bundle.signature import signature_problem
    from kprune_export.bundle.verify import verify_bundle
    from kprune_export.cli.console import output_console
    from kprune_export.errors import ExitCode

    problem = signature_problem(bundle, public_key) if public_key else None
    manifest, difference = verify_bundle(bundle)
    intact = not difference and problem is None
    if json_output:
        fields = {"missing": difference.missing, "extra": difference.extra, "changed": difference.changed}
        verdict = {"verdict": manifest.verdict, "verdict_in_words": manifest.verdict_in_words}
        answer: dict[str, object] = {"bundle": str(bundle), "intact": intact, **verdict, **fields}
        if public_key:
            answer["signature_problem"] = problem
        print_json(json.dumps(answer, indent=2))
    else:
        console = output_console()
        for line in difference.lines():
            console.print(line, markup=False)
        if public_key:
            console.print(f"The signature does not hold: {problem}" if problem else "The signature holds", markup=False)
        files = len(manifest.files)
        word = "differs from its manifest" if difference else f"is intact: {files} files are as the manifest lists them"
        console.print(f"{bundle} {word}", markup=False)
        if manifest.verdict_in_words:
            console.print(f"Verdict when it was made: {manifest.verdict_in_words}", markup=False)
    return ExitCode.OK if intact else ExitCode.BAD_INPUT
