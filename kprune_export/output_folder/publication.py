"""Putting finished files in place so that a process can be killed at any moment: what is to be done is written first.

A publication is a small file in the run's own folder. Once it is there, the next run in the output folder completes
it: every step can be done again.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from kprune_export.errors import OutputFolderError

PUBLICATION = "publication.json"
RECORD_SOURCE = "record"
"""Where the new record waits, in the run's own folder, until all that it lists is in place."""


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or path.startswith("/") or "\0" in path or "/".join(parts) != path:
        raise ValueError(f"{path!r} is not the name of a file inside the folder")
    return path


InnerPath = Annotated[str, AfterValidator(_inside)]
"""A relative path with forward slashes that leads nowhere else."""


class Move(BaseModel):
    """A file or folder in the run's own folder, and its place in the output folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: InnerPath
    target: InnerPath


class Publication(BaseModel):
    """What is to be done to an output folder.

    Attributes:
        record: the file that lists the others; it is removed first and written last.
        moves: what is to be put in place.
        removed: the files of the old content that are replaced or go.
        files: all files of the new content, the record excepted.
        cleared: whether the old files have been removed.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    record: InnerPath
    moves: tuple[Move, ...]
    removed: tuple[InnerPath, ...]
    files: tuple[InnerPath, ...]
    cleared: bool = False

    @classmethod
    def read(cls, own: Path) -> Self | None:
        """Read the publication that a run was carrying out; None where there is none.

        Raises:
            OutputFolderError: it is damaged.

        """
        path = own / PUBLICATION
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise OutputFolderError(
                f"{path} does not say how to complete the run that was writing to this folder: choose another output "
                "folder."
            ) from error

    def write(self, own: Path) -> None:
        """Write it into a run's own folder, whole or not at all."""
        partial = own / f"{PUBLICATION}.partial"
        partial.write_text(self.model_dump_json(), encoding="utf-8")
        partial.replace(own / PUBLICATION)

    def expected(self, own: Path) -> frozenset[str]:
        """Return the files that this publication, at whatever moment it was stopped, leaves in the output folder."""
        there = {path for path in self.files if not (own / self._source(path)).exists()}
        if not (own / RECORD_SOURCE).exists():
            there.add(self.record)
        return frozenset(there if self.cleared else there | {self.record, *self.removed})

    def complete(self, own: Path, output: Path) -> None:
        """Carry it out, from wherever it was stopped.

        Args:
            own: the folder of the run that began it.
            output: the output folder.

        """
        rest = self
        if not rest.cleared:
            remove_file(output / rest.record)
            remove_files(output, rest.removed)
            rest = rest.model_copy(update={"cleared": True})
            rest.write(own)
        for move in rest.moves:
            _place(own / move.source, output / move.target)
        with contextlib.suppress(FileNotFoundError):  # it is there already
            (own / RECORD_SOURCE).replace(output / rest.record)
        (own / PUBLICATION).unlink()

    def _source(self, path: str) -> str:
        """Return where a file comes from; an impossible name where it stays in place."""
        for move in self.moves:
            if path == move.target or path.startswith(f"{move.target}/"):
                return move.source + path.removeprefix(move.target)
        return PUBLICATION + "/none"


def remove_files(folder: Path, names: Iterable[str]) -> None:
    """Remove files of a folder, and the folders in it that become empty."""
    parents: set[PurePosixPath] = set()
    for name in names:
        remove_file(folder / name)
        parents.update(PurePosixPath(name).parents)
    for parent in sorted(parents - {PurePosixPath(".")}, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):  # something is left in it, or it is gone
            (folder / parent).rmdir()


def remove_file(path: Path) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()


def _place(source: Path, target: Path) -> None:
    """Move a file or folder to its place; a folder whole where nothing is there, else entry by entry."""
    if not source.exists():  # moved before
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        source.replace(target)
    elif not target.exists():
        source.rename(target)
    else:
        for entry in sorted(source.iterdir()):
            _place(entry, target / entry.name)
        source.rmdir()
