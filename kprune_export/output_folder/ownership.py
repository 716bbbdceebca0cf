"""Ownership of files in an output folder: this program's are those that a valid record lists, and nothing else."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kprune_export.errors import BundleError, OutputFolderError
from kprune_export.output_folder.publication import Publication
from kprune_export.output_folder.work import WORK, busy_error, check_work, is_locked, refuse_links, run_folders

_COMPILED = "__pycache__"
_ATTEMPTS = 2
"""How often a folder is looked at, where another run may have put its files in place meanwhile."""
_NAMED = 3
"""How many files a message names."""


@dataclass(frozen=True)
class FolderKind:
    """A kind of output folder.

    Attributes:
        name: what it is called in messages, with its article.
        record: the file that lists the others; it is written last.
        listed: reads the record of a folder and returns the files that it lists, as relative paths with forward
            slashes; raises BundleError where it is not valid.
        parts: folders in it whose folders are output folders of another kind, each with a record of its own.

    """

    name: str
    record: str
    listed: Callable[[Path], frozenset[str]]
    parts: Mapping[str, "FolderKind"] = field(default_factory=dict)


def check_output(kind: FolderKind, output: Path) -> None:
    """Refuse an output folder that holds anything that this program did not write, before anything is written to it.

    Args:
        kind: what is to be written.
        output: the folder; it need not exist.

    Raises:
        OutputFolderError: it is a file, is inside a file, has no usable name, holds a file that no valid record lists,
            or a symbolic link; or another run is writing to it.

    """
    for attempt in range(_ATTEMPTS):
        try:
            check_locked(kind, output)
        except OutputFolderError:
            if is_locked(output):  # what is there is on its way
                raise busy_error(output) from None
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def check_locked(kind: FolderKind, output: Path) -> None:
    """Check an output folder that no other run can be writing to; arguments and errors as `check_output`."""
    try:
        if output.is_symlink() and not output.exists():
            raise OutputFolderError(f"{output} is a symbolic link that leads nowhere.")
        above = next(path for path in (output, *output.parents) if path.exists())
        if not above.is_dir():
            where = "is a file" if above == output else f"cannot be made: {above} is a file"
            raise OutputFolderError(f"{output} {where}, but the output must be a folder.")
        if output.is_dir():
            _refuse(kind, output, tuple(_foreign(kind, output)))
    except (OSError, ValueError) as error:  # a name that the system does not take
        raise folder_error(output, error) from error


def owned_files(kind: FolderKind, output: Path) -> frozenset[str]:
    """Return the files of an output folder that may be replaced or removed: its record, and those that it lists.

    What Python compiles of a listed file, as a server does that imports it, belongs to them. Empty where there is no
    valid record.
    """
    if not _is_file(output / kind.record):
        return frozenset()
    try:
        listed = kind.listed(output)
    except BundleError:  # of something else, of another version, or damaged: its files are not known
        return frozenset()
    return frozenset((kind.record, *listed, *_compiled(output, listed)))


def folder_error(output: Path, error: OSError | ValueError) -> OutputFolderError:
    """Return the error for an output folder that the system does not make."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return OutputFolderError(f"The output folder {output} cannot be made: {reason}.")


def _refuse(kind: FolderKind, output: Path, foreign: tuple[str, ...]) -> None:
    refuse_links(output / name for name in foreign)
    if not foreign:
        return
    names = [repr(name) for name in foreign[:_NAMED]]
    more = len(foreign) - len(names)
    if more:
        names.append(f"{more} more")
    several = len(foreign) > 1
    shown = f"{', '.join(names[:-1])} and {names[-1]}" if several else names[0]
    raise OutputFolderError(
        f"{output} holds {shown}, which {'are' if several else 'is'} not part of {kind.name} (no valid {kind.record} "
        f"lists {'them' if several else 'it'}): choose an empty or a new folder."
    )


def _foreign(kind: FolderKind, output: Path) -> Iterator[str]:
    """Yield what an output folder holds that this program did not write."""
    check_work(output, kind.name)
    ours = set(owned_files(kind, output))
    coming: set[str] = set()
    for own in run_folders(output):
        if publication := Publication.read(own):
            ours |= publication.expected(own)
            coming.update(publication.files)  # the folder of one may have been made before it was moved there
    parents = {str(parent) for name in ours | coming for parent in PurePosixPath(name).parents}
    for entry in _scan(output):
        if entry.name == WORK:
            continue
        if entry.name in kind.parts and entry.is_dir(follow_symlinks=False):
            yield from _foreign_in_part(kind.parts[entry.name], output / entry.name)
        else:
            yield from _not_among(entry, entry.name, ours, parents)


def _foreign_in_part(kind: FolderKind, folder: Path) -> Iterator[str]:
    for entry in _scan(folder):
        name = f"{folder.name}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from (f"{name}/{inner}" for inner in _foreign(kind, folder / entry.name))
        else:
            yield name


def _not_among(entry: "os.DirEntry[str]", name: str, ours: set[str], parents: set[str]) -> Iterator[str]:
    """Yield an entry, or those in it, that are not among some files; empty folders count at the top alone."""
    if not entry.is_dir(follow_symlinks=False):
        if name not in ours or not entry.is_file(follow_symlinks=False):
            yield name
        return
    inner = _scan(Path(entry.path))
    if name in parents or (not inner and "/" in name):
        for below in inner:
            yield from _not_among(below, f"{name}/{below.name}", ours, parents)
    else:
        yield name


def _scan(folder: Path) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _compiled(output: Path, listed: Iterable[str]) -> Iterator[str]:
    for name in listed:
        path = PurePosixPath(name)
        folder = output / path.parent / _COMPILED
        if path.suffix != ".py" or not folder.is_dir() or folder.is_symlink():
            continue
        pattern = re.compile(re.escape(path.stem) + r"\.[\w.-]+\.pyc(\.\d+)?")
        found = (entry.name for entry in _scan(folder) if entry.is_file(follow_symlinks=False))
        yield from (str(path.parent / _COMPILED / entry) for entry in found if pattern.fullmatch(entry))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
