"""The folder that a sweep writes: what its trials share, a bundle for each, and the results when all are done."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from exporters.variants import Variant
from kprune_export.bundle.layout import LATENCY_TABLE, SENSITIVITY
from kprune_export.bundle.workspace import check_output, folder_error, lock_folder

RECORD, TABLE, PICTURE = "sweep.json", "sweep.md", "sweep.svg"
SHARED, TRIALS = "shared", "trials"
WORK = ".kprune-sweep"
"""The folder with the lock; gone once a sweep is done."""
_ENTRIES = frozenset((RECORD, TABLE, PICTURE, SHARED, TRIALS, WORK))


def trial_folder(output: Path, name: str) -> Path:
    """Return where a trial's bundle is."""
    return output / TRIALS / name


def table_folder(output: Path, variant: Variant) -> Path:
    """Return the folder that a variant's latency table is measured into."""
    return output / SHARED / str(variant)


def table_file(output: Path, variant: Variant) -> Path:
    """Return a variant's latency table."""
    return table_folder(output, variant) / LATENCY_TABLE


def sensitivity_folder(output: Path) -> Path:
    """Return the folder that the sensitivity curves are measured into."""
    return output / SHARED / "sensitivity"


def sensitivity_file(output: Path) -> Path:
    """Return the sensitivity curves."""
    return sensitivity_folder(output) / SENSITIVITY


def check_folder(output: Path) -> None:
    """Refuse an output folder that holds anything but a sweep, before anything is written to it.

    Raises:
        OutputFolderError: it cannot be a folder, or holds something else.

    """
    check_output(output, _ENTRIES, "a sweep")


class SweepFolder:
    """The locked output folder of one sweep. Open it with `SweepFolder.open`."""

    def __init__(self, output: Path) -> None:
        self.output = output

    @classmethod
    @contextlib.contextmanager
    def open(cls, output: Path) -> Iterator[Self]:
        """Make and lock the folder; what is measured and built stays in it whatever happens.

        Raises:
            OutputFolderError: it cannot be made, holds something else, or another run is writing to it.

        """
        check_folder(output)
        try:
            for folder in (WORK, SHARED, TRIALS):
                (output / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise folder_error(output, error) from error
        lock = lock_folder(output, output / WORK)
        try:
            yield cls(output)
        finally:
            lock.release()

    @property
    def turns(self) -> Path:
        """Where the trials on this machine agree who may run."""
        return self.output / WORK / "turns"

    def publish(self, record: str, table: str, picture: str) -> None:
        """Write the results, the record last, and remove what served to make them."""
        for name, text in ((PICTURE, picture), (TABLE, table), (RECORD, record)):
            partial = self.output / WORK / f"{name}.partial"
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.output / name)
        shutil.rmtree(self.output / WORK)
