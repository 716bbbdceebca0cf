"""Refusing files of a checkpoint that lie elsewhere.

What a checkpoint's files hold is copied into the pruned one, and may be published with it. A symbolic link among them
could bring in any file that its user can read.
"""

from collections.abc import Iterable
from pathlib import Path

from pruning.errors import CheckpointError


def refuse_links_outside(folder: Path, files: Iterable[Path]) -> None:
    """Check that files of a checkpoint lie in its folder, links followed; those that are not there count as inside.

    In the cache of the Hugging Face hub a checkpoint is a folder of links into the folder ``blobs`` beside it.

    Args:
        folder: the checkpoint.
        files: paths in it.

    Raises:
        CheckpointError: one of them is a link, or lies behind one, that leads elsewhere.

    """
    root = folder.resolve()
    roots = (root, root.parents[1] / "blobs") if root.parent.name == "snapshots" else (root,)
    for file in files:
        try:
            place = file.resolve()
        except (OSError, RuntimeError) as error:  # a loop of links
            raise CheckpointError(f"{file} cannot be read: it is a symbolic link that leads nowhere.") from error
        if not any(place.is_relative_to(allowed) for allowed in roots):
            raise CheckpointError(
                f"{file} is a symbolic link to {place}, outside the checkpoint, and would be copied from there: put "
                "the file itself in its place if it belongs to the checkpoint, else remove the link."
            )
