"""The folder that a comparison writes: its cells as they are finished, and the results when all are."""

from pathlib import Path
from typing import ClassVar

from kprune_export.experiments.compare.request import CellRequest
from kprune_export.experiments.compare.results import Cell
from kprune_export.experiments.results_folder import ResultsFolder, results_kind
from kprune_export.output_folder.ownership import FolderKind

RESULTS, TABLE, PLOT, CELLS = "compare.json", "compare.md", "compare.svg", "cells"


class ComparisonFolder(ResultsFolder):
    """The locked output folder of one comparison. Finished cells stay in the run's own folder until all are."""

    kind: ClassVar[FolderKind] = results_kind("a comparison", RESULTS, "kprune-comparison")

    def journal(self, request: CellRequest) -> Path:
        """Return where a method keeps finished steps; its runs at other rates share the folder."""
        return self.folder.subfolder("journals", f"{request.method}-{request.seed}")

    def finished(self, request: CellRequest, key: str) -> Cell | None:
        """Return the cell of an earlier run, if it was decided by the same."""
        for root in (self.folder.own, self.output):
            try:
                cell = Cell.model_validate_json((root / CELLS / _name(request)).read_text(encoding="utf-8"))
            except (OSError, ValueError):  # none yet, or of another version: it is run again
                continue
            if cell.key == key:
                return cell
        return None

    def keep(self, request: CellRequest, cell: Cell) -> None:
        """Write a finished cell, whole or not at all."""
        path = self.folder.subfolder(CELLS) / _name(request)
        partial = self.folder.own / f"{path.name}.partial"
        partial.write_text(cell.model_dump_json(indent=2) + "\n", encoding="utf-8")
        partial.replace(path)

    def finished_parts(self) -> tuple[Path, ...]:
        """Return the folder of the cells that this run, or one before that was stopped, has finished."""
        return (self.folder.subfolder(CELLS),)


def _name(request: CellRequest) -> str:
    return f"{request.name}.json"
