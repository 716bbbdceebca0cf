"""``kprune-export push``."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kprune_export.cli import options
from kprune_export.cli.printing import print_json

if TYPE_CHECKING:
    from kprune_export.bundle.hub import Changes
    from kprune_export.bundle.push import Upload


def push(
    bundle: Annotated[Path, typer.Argument(help="A bundle of prune-and-build or of prune.", show_default=False)],
    repo_id: Annotated[str, typer.Argument(help="The repository on the hub, as owner/name.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="Refuse to push to a public repository.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Look at the repository, list what would be uploaded, replaced and removed, send nothing."
        ),
    ] = False,
    revision: Annotated[str, typer.Option(help="The branch; made if it is not there.")] = "main",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Also push into a repository that no earlier push made, and overwrite files there that have the same "
            "names; all others stay.",
        ),
    ] = False,
    json_output: options.Json = False,
) -> int:
    """Push a bundle to the Hugging Face hub, in one commit.

    The checkpoint goes to the top of the repository, so that from_pretrained opens it by its id, and its model card is
    the repository's page; all else lies there as in the bundle. The bundle is verified first, and what arrived is
    compared with its manifest. Files of a bundle pushed before are replaced or removed; files that anything else put
    there are left alone, and a repository that no push made is refused. Exit code 2 if the bundle has changed, the
    repository is refused, or the hub cannot be reached or refuses; 3, with nothing sent, if a gate failed.

    Example: kprune-export push bundle me/my-classifier-pruned --private --dry-run
    """
    import json

    from kprune_export.bundle.push import Destination, look_before, plan_push, push_bundle
    from kprune_export.cli.console import hub_bars
    from kprune_export.errors import ExitCode

    manifest, uploads = plan_push(bundle, repo_id)
    destination = Destination(repo_id, private=private, revision=revision, overwrite=overwrite)
    with hub_bars():
        pushed = None if dry_run else push_bundle(bundle, destination, uploads)
        changes = pushed.changes if pushed else look_before(destination, uploads)
    if json_output:
        total = sum(upload.size_bytes for upload in uploads)
        files = [{"path": x.path, "target": x.target, "size_bytes": x.size_bytes} for x in uploads]
        answer = {"repo_id": repo_id, "revision": revision, "dry_run": dry_run, "verdict": manifest.verdict_in_words}
        done = {"commit": pushed.commit, "url": pushed.url} if pushed else {}
        print_json(json.dumps({**answer, **done, **asdict(changes), "size_bytes": total, "files": files}, indent=2))
    else:
        _show(uploads, changes, f"To {repo_id}, {revision}", manifest.verdict_in_words, pushed.url if pushed else None)
    return ExitCode.OK


def _show(uploads: "Sequence[Upload]", changes: "Changes", title: str, verdict: str | None, url: str | None) -> None:
    from kprune_export.cli.console import output_console
    from kprune_export.cli.results import section_table
    from kprune_export.tables import Section

    console = output_console()
    fates = {**dict.fromkeys(changes.replaced, "replaced"), **dict.fromkeys(changes.overwritten, "overwritten")}
    rows = tuple((x.path, x.target, f"{x.size_bytes:,}", fates.get(x.target, "new")) for x in uploads)
    console.print(section_table(Section(title, ("file", "in the repository", "bytes", "there"), rows), {}))
    if verdict:
        console.print(f"Verdict: {verdict}", markup=False)
    if changes.creates:
        made = "was made" if url else "is not there, or cannot be seen with this token, and would be made"
        console.print(f"The repository {made}.", markup=False)
    for path in changes.removed:
        verb = "Removed" if url else "Would be removed"
        console.print(f"{verb} from the repository, not being of this bundle: {path}", markup=False)
    what = f"{len(uploads)} files, {sum(upload.size_bytes for upload in uploads) / 2**20:.1f} MiB"
    done = f"Pushed {what}: {url}" if url else f"Nothing was sent: without --dry-run this pushes {what}."
    console.print(done, markup=False)
