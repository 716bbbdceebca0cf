"""The output folder of a command with many parts: each is kept as it is finished, the results appear together."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from exporters.documents import first_problem
from kprune_export.bundle.manifest import FileRecord, record_files
from kprune_export.errors import BundleError
from kprune_export.output_folder.ownership import FolderKind, check_output
from kprune_export.output_folder.transaction import OutputFolder

_RESULTS = "results"
RecordT = TypeVar("RecordT", bound=BaseModel)


class _Listing(BaseModel):
    """What every record of results has: its format, and the files that were written with it."""

    model_config = ConfigDict(frozen=True)

    format: str
    files: tuple[FileRecord, ...] = ()


def results_kind(name: str, record: str, format_: str, parts: Mapping[str, FolderKind] | None = None) -> FolderKind:
    """Return the kind of a folder whose record lists the files that were written with it.

    Args:
        name: what such a folder is called in messages, with its article.
        record: the record's file.
        format_: what the record's ``format`` says.
        parts: folders in it whose folders are output folders of another kind.

    """

    def listed(output: Path) -> frozenset[str]:
        path = output / record
        try:
            found = _Listing.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise BundleError(f"{path} is not the record of {name}: {first_problem(error)}.") from error
        if found.format != format_:
            raise BundleError(f"{path} is not the record of {name}: its format is {found.format!r}.")
        return frozenset(file.path for file in found.files)

    return FolderKind(name, record, listed, parts or {})


class ResultsFolder:
    """The locked output folder of one run. Open it with `open`.

    Attributes:
        kind: what it holds.
        output: the folder.

    """

    kind: ClassVar[FolderKind]

    def __init__(self, folder: OutputFolder) -> None:
        self.output = folder.output
        self.folder = folder

    @classmethod
    def check(cls, output: Path) -> None:
        """Refuse a folder that holds anything else or leads elsewhere, before anything is written to it.

        Raises:
            OutputFolderError: it cannot be a folder, holds something else, or a symbolic link.

        """
        check_output(cls.kind, output)

    @classmethod
    @contextlib.contextmanager
    def open(cls, output: Path) -> Iterator[Self]:
        """Make and lock the folder; what is finished stays in it whatever happens.

        Raises:
            OutputFolderError: it cannot be made, holds something else, or another run is writing to it.

        """
        with OutputFolder.open(cls.kind, output) as folder:
            yield cls(folder)

    def publish(self, texts: Mapping[str, str], record: RecordT) -> RecordT:
        """Put the results and finished parts in place, remove what served to make them, and return the full record.

        Finished parts of earlier runs, which the record before lists, stay and are listed again.

        Args:
            texts: the results, by their names.
            record: the record, whose field ``files`` is set to what lies beside it.

        """
        results = self.folder.empty_subfolder(_RESULTS)
        for name, text in texts.items():
            (results / name).write_text(text, encoding="utf-8")
        moves = [(results / name, name) for name in texts]
        files = record_files(results, texts, reproducible=False)
        for part in self.finished_parts():
            moves += [(path, f"{part.name}/{path.name}") for path in sorted(part.iterdir())]
            files += record_files(self.folder.own, [f"{part.name}/{path.name}" for path in part.iterdir()], False)
        new = {file.path for file in files}
        kept = self.folder.owned() - {self.kind.record, *new}
        files += record_files(self.output, sorted(path for path in kept if (self.output / path).is_file()), False)
        listed = tuple(sorted(files, key=lambda file: file.path))
        full = record.model_copy(update={"files": listed})
        self.folder.publish(full.model_dump_json(indent=2) + "\n", {file.path for file in listed}, moves, kept)
        return full

    def finished_parts(self) -> tuple[Path, ...]:
        """Return the folders, in the run's own, whose files are published with the results."""
        return ()
