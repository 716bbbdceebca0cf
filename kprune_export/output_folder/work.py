"""The hidden folder of a run's unfinished work: whose it is, who may use it, and what an earlier run left in it.

It holds a lock, a record of what is being written, and a folder of the run's own under a random name. The next run
takes that folder over by renaming it, so that two runs never write to the same paths, even where the lock was removed
while the first was running: the first then finds its folder gone.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import filelock

from exporters.documents import Document
from kprune_export.errors import OutputFolderError
from kprune_export.output_folder.publication import PUBLICATION

WORK = ".kprune-export"
"""The folder, inside the output folder, that holds a run's unfinished work; removed once it is done."""
LOCK = "lock"
"""In the work folder: locked by the run that writes to the output folder."""
RECORD = "work.json"
_PARTIAL = f"{RECORD}.partial"
_RUN = "run-"
_OURS = frozenset((LOCK, RECORD, _PARTIAL))
_ATTEMPTS = 20
"""How often a work folder is made that a run which is just ending removes."""


class WorkRecord(Document):
    """What the work is for: the kind of output folder, as messages name it."""

    noun, error = "record of unfinished work", OutputFolderError
    format: Literal["kprune-work"] = "kprune-work"
    version: Literal[1] = 1
    kind: str


def check_work(output: Path, kind: str) -> None:
    """Refuse a work folder that no run made, or a run for another kind of output.

    Raises:
        OutputFolderError: it holds something else, or is for something else, or holds a symbolic link.

    """
    work = output / WORK
    refuse_links((work,))
    if not work.is_dir():
        if work.exists():
            raise OutputFolderError(f"{work} is a file, where a run keeps its unfinished work: remove it.")
        return
    refuse_links(sorted(work.iterdir()))
    record = _read(work)
    others = sorted(path.name for path in work.iterdir() if path.name not in _OURS)
    if record is None and (others or (work / RECORD).exists()):
        raise OutputFolderError(
            f"{work} holds {(others or [RECORD])[0]!r}, but no {RECORD} of this program says what for: remove that "
            "folder if it is not needed, or choose an empty or a new folder."
        )
    foreign = [name for name in others if not _is_run(work / name)]
    if foreign:
        raise OutputFolderError(
            f"{work} holds {foreign[0]!r}, which no run of this program made, and which would be removed with the "
            "unfinished work: move it away."
        )
    if record is not None and record.kind != kind:
        raise OutputFolderError(
            f"{output} holds an unfinished run that writes {record.kind}, and not {kind}: run its command again to "
            "complete it, or choose another folder."
        )


def refuse_links(places: Iterable[Path]) -> None:
    """Refuse places that lead elsewhere.

    Raises:
        OutputFolderError: one is a symbolic link.

    """
    for place in places:
        if place.is_symlink():
            raise OutputFolderError(f"{place} is a symbolic link, through which nothing is written: remove it.")


def is_locked(output: Path) -> bool:
    """Whether a run is writing to an output folder now."""
    try:
        lock = os.open(output / WORK / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except (OSError, ValueError):  # there is none
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def busy_error(output: Path) -> OutputFolderError:
    """Return the error for an output folder that another run is writing to."""
    return OutputFolderError(f"Another run is writing to {output}: wait for it, or choose another folder.")


def run_folders(output: Path) -> tuple[Path, ...]:
    """Return the folders of the runs that wrote to an output folder and did not finish; usually one or none.

    One that was publishing comes first.
    """
    found = sorted(path for path in (output / WORK).glob(f"{_RUN}*") if _is_run(path))
    return tuple(sorted(found, key=lambda path: not (path / PUBLICATION).exists()))


def _is_run(path: Path) -> bool:
    return path.name.startswith(_RUN) and path.is_dir() and not path.is_symlink()


class Work:
    """The locked work folder of one run. Make it with `Work.enter`.

    Attributes:
        own: the run's own folder, with what an earlier run left.

    """

    def __init__(self, path: Path, lock: filelock.BaseFileLock, own: Path) -> None:
        self.own = own
        self._path = path
        self._lock = lock
        self._inode = _inode(path / LOCK)

    @classmethod
    def enter(cls, output: Path, kind: str) -> "Work":
        """Make and lock the work folder of an output folder, and take over what an earlier run left.

        Raises:
            OutputFolderError: another run has locked it.
            OSError: it cannot be written.

        """
        work = output / WORK
        lock = _locked(output, work)
        try:
            if _read(work) is None:
                WorkRecord(kind=kind).write(work / RECORD)
            own = work / f"{_RUN}{secrets.token_hex(8)}"
            earlier = run_folders(output)
            if earlier:
                earlier[0].rename(own)
                _remove_links(own)
            else:
                own.mkdir()
            for other in earlier[1:]:
                shutil.rmtree(other, ignore_errors=True)
        except BaseException:
            lock.release()
            raise
        return cls(work, lock, own)

    @property
    def lost(self) -> bool:
        """Whether the work folder was removed, or taken over by another run, while this one was running."""
        return not self.own.is_dir()

    def clear(self) -> None:
        """Remove the work folder with the folders of runs in it; a file that somebody else has put there stays.

        What another run has in it, which can be only where the lock was removed, stays too.
        """
        shutil.rmtree(self.own, ignore_errors=True)
        if _inode(self._path / LOCK) not in (self._inode, None):
            return
        with contextlib.suppress(FileNotFoundError):
            for entry in self._path.iterdir():
                if _is_run(entry):
                    remove_tree(entry)
            for name in (_PARTIAL, RECORD, LOCK):  # the record before the lock: the next run writes its own
                (self._path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._path.rmdir()

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


def _locked(output: Path, work: Path) -> filelock.BaseFileLock:
    for _ in range(_ATTEMPTS):
        try:
            work.mkdir(parents=True, exist_ok=True)
        except FileExistsError:  # it was there, and was removed before mkdir found that it is a folder
            if not output.is_dir():
                raise
        lock = filelock.FileLock(work / LOCK, timeout=0)
        try:
            lock.acquire()
        except FileNotFoundError:  # a run that has just ended removed the folder
            continue
        except filelock.Timeout:
            break
        return lock
    raise busy_error(output)


def _read(work: Path) -> WorkRecord | None:
    try:
        return WorkRecord.read(work / RECORD)
    except OutputFolderError:
        return None


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _remove_links(folder: Path) -> None:
    """Remove the links in a run's folder, so that nothing is written through one; what they lead to stays."""
    for path in tuple(path for path in folder.rglob("*") if path.is_symlink()):
        path.unlink()


def remove_tree(path: Path) -> None:
    """Remove a file, a link or a folder, as far as it is there and can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
