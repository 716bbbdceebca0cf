"""The folder that a repository is written to: it appears whole, or stays as it was."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from kprune_export.bundle.layout import REPOSITORY_RECORD
from kprune_export.output_folder.ownership import FolderKind, check_output
from kprune_export.output_folder.transaction import OutputFolder
from kprune_export.triton.repository_record import RepositoryRecord


def _listed(output: Path) -> frozenset[str]:
    return frozenset(file.path for file in RepositoryRecord.of_repository(output).files)


REPOSITORY = FolderKind("a repository of this program", REPOSITORY_RECORD, _listed)
"""The kind of output folder."""


def check_folder(output: Path) -> None:
    """Refuse a folder that holds anything but a repository of this program.

    Raises:
        OutputFolderError: it cannot be a folder, or holds something else.

    """
    check_output(REPOSITORY, output)


@contextlib.contextmanager
def write_folder(output: Path) -> Iterator[Path]:
    """Give an empty folder to write a repository into, and put it in place when that is done.

    Triton takes no model out of the hidden folder in which it is written, each model's folder appears by one renaming,
    and the record is written last. Where writing fails the folder is as it was, and gone if it was not there; where the
    process is killed, the next run completes what it began.

    Raises:
        OutputFolderError: it cannot be made, holds something else, or another run is writing to it.

    """
    with OutputFolder.open(REPOSITORY, output, resumes=False) as folder:
        building = folder.empty_subfolder("repository")
        yield building
        files = {file.path for file in RepositoryRecord.of_repository(building).files}
        moves = [(path, path.name) for path in sorted(building.iterdir()) if path.name != REPOSITORY_RECORD]
        folder.publish((building / REPOSITORY_RECORD).read_text(encoding="utf-8"), files, moves)
