"""The folder that a comparison writes: its cells as they are finished, and the results when all are."""

from pathlib import Path
from typing import ClassVar

from kprune_export.compare.request import CellRequest
from kprune_export.compare.results import Cell
from kprune_export.results_folder import ResultsFolder

RESULTS, TABLE, PICTURE, CELLS = "compare.json", "compare.md", "compare.svg", "cells"


class ComparisonFolder(ResultsFolder):
    """The locked output folder of one comparison."""

    kind: ClassVar[str] = "a comparison"
    results: ClassVar[tuple[str, ...]] = (RESULTS, TABLE, PICTURE)
    parts: ClassVar[tuple[str, ...]] = (CELLS,)
    work: ClassVar[str] = ".kprune-compare"

    def journal(self, request: CellRequest) -> Path:
        """Return where a method keeps finished steps; its runs at other rates share the folder."""
        return self.output / self.work / f"{request.method}-{request.seed}"

    def finished(self, request: CellRequest, key: str) -> Cell | None:
        """Return the cell of an earlier run, if it was decided by the same."""
        try:
            cell = Cell.model_validate_json(self._path(request).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none yet, or of another version: it is run again
            return None
        return cell if cell.key == key else None

    def keep(self, request: CellRequest, cell: Cell) -> None:
        """Write a finished cell, whole or not at all."""
        self.write(self._path(request), cell.model_dump_json(indent=2) + "\n")

    def _path(self, request: CellRequest) -> Path:
        return self.output / CELLS / f"{request.name}.json"
