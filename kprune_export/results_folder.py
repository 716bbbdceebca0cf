"""The output folder of a command with many parts: each is kept as it is finished, the results when all are."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Self

from kprune_export.bundle.workspace import check_output, folder_error, lock_folder, refuse_links


class ResultsFolder:
    """The locked output folder of one run. Open it with `open`.

    Attributes:
        kind: what such a folder is called in messages.
        results: the files that it holds when all is done.
        parts: the folders of finished parts.
        work: the folder with the lock and unfinished work; gone once all is done.

    """

    kind: ClassVar[str]
    results: ClassVar[tuple[str, ...]]
    parts: ClassVar[tuple[str, ...]]
    work: ClassVar[str]

    def __init__(self, output: Path) -> None:
        self.output = output

    @classmethod
    def check(cls, output: Path) -> None:
        """Refuse a folder that holds anything else or leads elsewhere, before anything is written to it.

        Raises:
            OutputFolderError: it cannot be a folder, holds something else, or a symbolic link.

        """
        folders = (*cls.parts, cls.work)
        check_output(output, frozenset((*cls.results, *folders)), cls.kind)
        for folder in folders:
            refuse_links((output / folder, *(output / folder).glob("*")))

    @classmethod
    @contextlib.contextmanager
    def open(cls, output: Path) -> Iterator[Self]:
        """Make and lock the folder; what is finished stays in it whatever happens.

        Raises:
            OutputFolderError: it cannot be made, holds something else, or another run is writing to it.

        """
        cls.check(output)
        try:
            for folder in (cls.work, *cls.parts):
                (output / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise folder_error(output, error) from error
        lock = lock_folder(output, output / cls.work)
        try:
            yield cls(output)
        finally:
            lock.release()

    def write(self, path: Path, text: str) -> None:
        """Write a file of the folder, whole or not at all."""
        partial = self.output / self.work / f"{path.name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)

    def publish(self, texts: Mapping[str, str]) -> None:
        """Write the results in this order, and remove what served to make them."""
        for name, text in texts.items():
            self.write(self.output / name, text)
        shutil.rmtree(self.output / self.work)
