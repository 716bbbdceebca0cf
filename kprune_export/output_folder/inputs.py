"""Outputs must be apart from inputs: nothing that a command reads may lie where it writes."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from kprune_export.errors import OutputFolderError

Place = tuple[str, Path | str | None]
"""What a file or folder is called in messages, and where it is; None where there is none."""
OUTPUT = "output folder"
_LINK_DEPTH = 2
"""How deep links are looked for in a folder that is read: a checkpoint's files, and those of its modules."""


def check_apart(outputs: Iterable[Place], inputs: Iterable[Place]) -> None:
    """Refuse an output that is, contains or lies in an input or another output; symbolic links are resolved.

    Args:
        outputs: the files and folders to be written; they need not exist.
        inputs: what is read. What is not on this disk, such as an id on the Hugging Face hub, is ignored.

    Raises:
        OutputFolderError: two places overlap.

    """
    written = [(name, Path(path)) for name, path in outputs if path is not None]
    for name, path in ((name, path) for name, given in inputs for path in _local(given)):
        for output_name, output in written:
            for target in _reached(path):
                if relation := _relation(output, target):
                    shown = path if target == path else f"{path} (by a link to {target})"
                    raise OutputFolderError(
                        f"The {output_name} {output} {relation} the {name} {shown}, which this command reads: "
                        "choose another place to write to."
                    )
    for number, (name, path) in enumerate(written):
        for other_name, other in written[:number]:
            if relation := _relation(path, other):
                raise OutputFolderError(
                    f"The {name} {path} {relation} the {other_name} {other}, which is written too: choose another "
                    "place for one of them."
                )


def _local(path: Path | str | None) -> list[Path]:
    """Return what an input may be on this disk: as it is written, and with its home folder filled in."""
    if path is None:
        return []
    candidates = dict.fromkeys((Path(path), Path(os.path.expanduser(path))))  # noqa: PTH111 - which raises nothing
    return [candidate for candidate in candidates if os.path.exists(candidate)]  # noqa: PTH110 - as above


def _reached(path: Path) -> Iterator[Path]:
    """Yield an input, and what the links in it lead to."""
    yield path
    yield from _link_targets(path, _LINK_DEPTH) if path.is_dir() else ()


def _link_targets(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # who reads it will say so
        return
    for entry in entries:
        if entry.is_symlink():
            yield Path(entry.path).resolve()
        elif depth > 1 and entry.is_dir():
            yield from _link_targets(Path(entry.path), depth - 1)


def _relation(output: Path, other: Path) -> str | None:
    """Return how an output overlaps with another place, in words; None if it does not."""
    output, other = _resolved(output), _resolved(other)
    if _same(output, other):
        return "is"
    if any(_same(parent, other) for parent in output.parents):
        return "lies in"
    if any(_same(parent, output) for parent in other.parents):
        return "contains"
    return None


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _same(one: Path, other: Path) -> bool:
    """Whether two resolved paths name the same file: also by a hard link, a bind mount or a name in another case."""
    if one == other:
        return True
    try:
        return one.samefile(other)
    except OSError:  # one of them does not exist
        return False
