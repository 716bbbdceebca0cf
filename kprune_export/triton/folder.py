"""The folder that a repository is written to: it appears whole, or stays as it was."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from kprune_export.bundle.layout import WORK
from kprune_export.bundle.workspace import check_output, folder_error, lock_folder
from kprune_export.errors import BundleError
from kprune_export.triton.record import RECORD, RepositoryRecord


def check_folder(output: Path) -> None:
    """Refuse a folder that holds anything but a repository of this program.

    Raises:
        OutputFolderError: it cannot be a folder, or holds something else.

    """
    check_output(output, frozenset((*_models(output), RECORD, WORK)), "a repository of this program")


@contextlib.contextmanager
def write_folder(output: Path) -> Iterator[Path]:
    """Give an empty folder to write a repository into, and put it in place when that is done.

    Triton takes no model out of the hidden folder in which it is written, and the record is written last. Where
    writing fails the folder is as it was, and gone if it was not there.

    Raises:
        OutputFolderError: it cannot be made, holds something else, or another run is writing to it.

    """
    check_folder(output)
    made = next((path for path in reversed((output, *output.parents)) if not path.exists()), None)
    work = output / WORK
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise folder_error(output, error) from error
    lock = lock_folder(output, work)
    try:
        building = work / "repository"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        yield building
        old, new = _models(output), [path.name for path in building.iterdir() if path.name != RECORD]
        for name in (RECORD, *old):
            _remove(output / name)
        for name in (*new, RECORD):
            (building / name).rename(output / name)
    finally:
        lock.release()
        shutil.rmtree(work, ignore_errors=True)
        _remove_empty(output, made)


def _models(output: Path) -> tuple[str, ...]:
    """Return the folders of the repository that is there; none where there is none that can be read."""
    try:
        return RepositoryRecord.read(output).models
    except BundleError:
        return ()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_empty(output: Path, topmost: Path | None) -> None:
    """Remove the folders that this run made, as far as they are empty."""
    for path in (output, *output.parents) if topmost else ():
        with contextlib.suppress(OSError):
            path.rmdir()
        if path == topmost:
            return
