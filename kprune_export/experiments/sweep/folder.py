"""The folder that a sweep writes: what its trials share, a bundle for each, and the results when all are done."""

from pathlib import Path
from typing import ClassVar

from exporters.variant import Variant
from kprune_export.bundle.folder import BUNDLE
from kprune_export.bundle.layout import LATENCY_TABLE, SENSITIVITY
from kprune_export.experiments.results_folder import ResultsFolder, results_kind
from kprune_export.output_folder.ownership import FolderKind

RECORD, TABLE, PLOT = "sweep.json", "sweep.md", "sweep.svg"
SHARED, TRIALS = "shared", "trials"


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


class SweepFolder(ResultsFolder):
    """The locked output folder of one sweep."""

    kind: ClassVar[FolderKind] = results_kind("a sweep", RECORD, "kprune-sweep", {SHARED: BUNDLE, TRIALS: BUNDLE})

    @property
    def turns(self) -> Path:
        """Where the trials on this machine agree who may run."""
        return self.folder.subfolder("turns")
