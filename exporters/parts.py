"""Finished parts of long work, kept on disk, so that a run that is killed does again only what it had not finished."""

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from exporters.hashing import file_sha256
from exporters.runners.base import Array

PartT = TypeVar("PartT", bound=BaseModel)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class _Kept(BaseModel):
    """What is written of a part: all that decided it, its value, and the hashes of its files by their paths."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    value: Any = None
    files: dict[str, str] = {}


class FinishedParts:
    """A folder with the finished parts of one piece of work, by their names.

    A part is made once: where an earlier run of the same work has finished it, it is read instead. Parts of work that
    something else decided, and parts that are damaged, are made again. A part appears whole or not at all.

    Names are of letters, digits, dots, dashes and underscores.

    Args:
        folder: where they are kept, made if need be; None to keep nothing.
        fingerprint: identifies all that decides the work: inputs, settings, versions.

    """

    def __init__(self, folder: Path | None = None, fingerprint: str = "") -> None:
        self._folder, self._fingerprint = folder, fingerprint
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def within(self, name: str) -> "FinishedParts":
        """Return the parts that a part is made of."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"a part cannot be called {name!r}")
        return FinishedParts(self._folder and self._folder / f"{name}.parts", self._fingerprint)

    def has(self, name: str) -> bool:
        """Whether a part is finished."""
        return self._read(name) is not None

    def once(self, name: str, kind: type[PartT], make: Callable[[], PartT]) -> PartT:
        """Return a part that is a record: the finished one, or one that is made now; its numbers are kept exactly.

        Args:
            name: the part's.
            kind: the record's class.
            make: makes it.

        Raises:
            OSError: it cannot be written.

        """
        found = self._value(name, kind)
        if found is None:
            found = make()
            self._write(name, found)
        return found

    def arrays_once(self, name: str, make: Callable[[], Mapping[str, Array]]) -> Mapping[str, Array]:
        """Return a part that is arrays by their names: the finished ones, or such as are made now.

        Args:
            name: the part's.
            make: makes them.

        Raises:
            OSError: they cannot be written.

        """
        if self._folder is None:
            return make()
        file = f"{name}.npz"
        if not self.has(name):
            self._forget(name)
            np.savez(self._folder / file, allow_pickle=False, **make())
            self._write(name, files=[file])
        with np.load(self._folder / file, allow_pickle=False) as arrays:
            return dict(arrays)

    def files_once(self, name: str, kind: type[PartT], write: Callable[[Path], PartT], target: Path) -> PartT:
        """Put a part that is files into a folder: the finished ones, or such as are made now.

        Args:
            name: the part's.
            kind: the class of the record that goes with them.
            write: writes the files into an empty folder, and returns the record.
            target: the folder that they are put into, under the names that they were written with.

        Returns:
            The record.

        Raises:
            OSError: they cannot be written.

        """
        if self._folder is None:
            return write(target)
        folder = self._folder / f"{name}.files"
        record = self._value(name, kind)
        if record is None:
            self._forget(name)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            record = write(folder)
            self._write(name, record, [f"{folder.name}/{file.name}" for file in folder.iterdir()])
        for file in folder.iterdir():
            link_or_copy(file, target / file.name)
        return record

    def _value(self, name: str, kind: type[PartT]) -> PartT | None:
        kept = self._read(name)
        if kept is None:
            return None
        try:
            return kind.model_validate(kept.value)
        except ValidationError:  # of another version
            return None

    def _read(self, name: str) -> _Kept | None:
        path = self._record(name)
        if self._folder is None or path is None or not path.is_file():
            return None
        try:
            kept = _Kept.model_validate_json(path.read_bytes())
        except ValidationError:  # as above
            return None
        whole = all(_is(self._folder / file, sha256) for file, sha256 in kept.files.items())
        return kept if whole and kept.fingerprint == self._fingerprint else None

    def _write(self, name: str, value: BaseModel | None = None, files: Sequence[str] = ()) -> None:
        path = self._record(name)
        if self._folder is None or path is None:
            return
        kept = _Kept(
            fingerprint=self._fingerprint,
            value=None if value is None else value.model_dump(mode="json"),
            files={file: file_sha256(self._folder / file) for file in files},
        )
        partial = path.with_suffix(".partial")
        partial.write_text(kept.model_dump_json(), encoding="utf-8")
        partial.replace(path)

    def _forget(self, name: str) -> None:
        path = self._record(name)
        if path is not None:
            path.unlink(missing_ok=True)

    def _record(self, name: str) -> Path | None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"a part cannot be called {name!r}")
        return None if self._folder is None else self._folder / f"{name}.json"


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Put a file into another place: as a second name for it, or, where the disks differ, as a copy."""
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256
