"""The folder that a comparison writes: its cells as they are finished, and the results when all are."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from kprune_export.bundle.workspace import check_output, folder_error, lock_folder
from kprune_export.compare.request import CellRequest
from kprune_export.compare.results import Cell

RESULTS, TABLE, PICTURE, CELLS = "compare.json", "compare.md", "compare.svg", "cells"
WORK = ".kprune-compare"
"""The folder for unfinished work; gone once a comparison is done."""
_ENTRIES = frozenset((RESULTS, TABLE, PICTURE, CELLS, WORK))


def check_folder(output: Path) -> None:
    """Refuse an output folder that holds anything but a comparison, before anything is written to it.

    Raises:
        OutputFolderError: it cannot be a folder, or holds something else.

    """
    check_output(output, _ENTRIES, "a comparison")


class ComparisonFolder:
    """The locked output folder of one comparison. Open it with `ComparisonFolder.open`."""

    def __init__(self, output: Path) -> None:
        self.output = output

    @classmethod
    @contextlib.contextmanager
    def open(cls, output: Path) -> Iterator[Self]:
        """Make and lock the folder; finished cells stay in it whatever happens, unfinished work until it is done.

        Raises:
            OutputFolderError: it cannot be made, holds something else, or another run is writing to it.

        """
        check_folder(output)
        try:
            for folder in (WORK, CELLS):
                (output / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise folder_error(output, error) from error
        lock = lock_folder(output, output / WORK)
        try:
            yield cls(output)
        finally:
            lock.release()

    def journal(self, request: CellRequest) -> Path:
        """Return where a method keeps finished steps; its runs at other rates share the folder."""
        return self.output / WORK / f"{request.method}-{request.seed}"

    def finished(self, request: CellRequest, key: str) -> Cell | None:
        """Return the cell of an earlier run, if it was decided by the same."""
        try:
            cell = Cell.model_validate_json(self._path(request).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none yet, or of another version: it is run again
            return None
        return cell if cell.key == key else None

    def keep(self, request: CellRequest, cell: Cell) -> None:
        """Write a finished cell, whole or not at all."""
        self._write(self._path(request), cell.model_dump_json(indent=2) + "\n")

    def publish(self, results: str, table: str, picture: str) -> None:
        """Write the results, and remove what served to make them."""
        for name, text in ((PICTURE, picture), (TABLE, table), (RESULTS, results)):
            self._write(self.output / name, text)
        shutil.rmtree(self.output / WORK)

    def _path(self, request: CellRequest) -> Path:
        return self.output / CELLS / f"{request.name}.json"

    def _write(self, path: Path, text: str) -> None:
        partial = self.output / WORK / f"{path.name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
