"""``kprune-export push``."""

from pathlib import Path
from typing import Annotated

import typer

from kprune_export.cli import options
from kprune_export.cli.printing import print_json


def push(
    bundle: Annotated[Path, typer.Argument(help="A bundle of prune-and-build or of prune.", show_default=False)],
    repo_id: Annotated[str, typer.Argument(help="The repository on the hub, as owner/name.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="Refuse to push to a public repository.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be uploaded, and send nothing.")] = False,
    revision: Annotated[str, typer.Option(help="The branch; made if it is not there.")] = "main",
    json_output: options.Json = False,
) -> int:
    """Push a bundle to the Hugging Face hub, in one commit.

    The checkpoint goes to the top of the repository, so that from_pretrained opens it by its id, and its model card is
    the repository's page; all else lies there as in the bundle. The bundle is verified first, and what arrived is
    compared with it. Exit code 2 if it has changed, or the hub cannot be reached or refuses; 3, with nothing sent, if
    a gate failed.

    Example: kprune-export push bundle me/my-classifier-pruned --private --dry-run
    """
    import json

    from kprune_export.bundle.push import plan_push, push_bundle
    from kprune_export.cli.console import hub_bars, output_console
    from kprune_export.cli.results import section_table
    from kprune_export.errors import ExitCode
    from kprune_export.tables import Section

    manifest, uploads = plan_push(bundle, repo_id)
    with hub_bars():
        pushed = None if dry_run else push_bundle(bundle, repo_id, uploads, private=private, revision=revision)
    total = sum(upload.size_bytes for upload in uploads)
    if json_output:
        files = [{"path": x.path, "target": x.target, "size_bytes": x.size_bytes} for x in uploads]
        answer = {"repo_id": repo_id, "revision": revision, "dry_run": dry_run, "verdict": manifest.verdict_in_words}
        done = {"commit": pushed.commit, "url": pushed.url, "removed": pushed.removed} if pushed else {}
        print_json(json.dumps({**answer, **done, "size_bytes": total, "files": files}, indent=2))
        return ExitCode.OK
    console = output_console()
    rows = tuple((x.path, x.target, f"{x.size_bytes:,}") for x in uploads)
    console.print(section_table(Section(f"To {repo_id}, {revision}", ("file", "in the repository", "bytes"), rows), {}))
    if manifest.verdict_in_words:
        console.print(f"Verdict: {manifest.verdict_in_words}", markup=False)
    what = f"{len(uploads)} files, {total / 2**20:.1f} MiB"
    if pushed is None:
        console.print(f"Nothing was sent: without --dry-run this pushes {what}.", markup=False)
        return ExitCode.OK
    for path in pushed.removed:
        console.print(f"Removed from the repository, not being of this bundle: {path}", markup=False)
    console.print(f"Pushed {what}: {pushed.url}", markup=False)
    return ExitCode.OK
