"""``kprune-export verify``."""

from pathlib import Path
from typing import Annotated

import typer

from kprune_export.cli import options


def verify(
    bundle: Annotated[
        Path, typer.Argument(help="A bundle, or any folder that this program wrote.", show_default=False)
    ],
    json_output: options.Json = False,
) -> int:
    """Compare a bundle's files with its manifest: missing, extra and changed files are listed.

    Exit code 0 if nothing differs, 2 if anything does.
    """
    import json

    from kprune_export.bundle.verify import verify_bundle
    from kprune_export.cli.console import output_console
    from kprune_export.errors import ExitCode

    manifest, difference = verify_bundle(bundle)
    if json_output:
        fields = {"missing": difference.missing, "extra": difference.extra, "changed": difference.changed}
        verdict = {"verdict": manifest.verdict, "verdict_in_words": manifest.verdict_in_words}
        answer = {"bundle": str(bundle), "intact": not difference, **verdict, **fields}
        print(json.dumps(answer, indent=2))
    else:
        console = output_console()
        for line in difference.lines():
            console.print(line, markup=False)
        files = len(manifest.files)
        word = "differs from its manifest" if difference else f"is intact: {files} files are as the manifest lists them"
        console.print(f"{bundle} {word}", markup=False)
        if manifest.verdict_in_words:
            console.print(f"Verdict when it was made: {manifest.verdict_in_words}", markup=False)
    return ExitCode.BAD_INPUT if difference else ExitCode.OK
