"""Stage contract: declared inputs and outputs, a key that decides the outputs, and the work itself."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from exporters.parts import FinishedParts
from kprune_export.bundle.layout import Files
from kprune_export.pipeline.estimates import Pace
from kprune_export.pipeline.job import Job

ShareDone = Callable[[float], None]


def part_of(progress: ShareDone, number: int, total: int) -> ShareDone:
    """Return a progress callback for one of several equal parts, counted from 0."""
    return lambda share: progress((number + share) / total)


@dataclass(frozen=True)
class StageContext:
    """What a stage works with.

    Attributes:
        files: returns where an output that the stage declares in `Stage.reads` is.
        folder: an empty folder for the outputs, under their paths in the bundle.
        scratch: a folder that survives a kill, for work that can be resumed.
        parts: the stage's finished parts, which survive a kill.
        progress: called with the share of the stage that is done.

    """

    files: Files
    folder: Path
    scratch: Path
    parts: FinishedParts
    progress: ShareDone


class Stage(ABC):
    """One step of a run. Stages are functions of their key: equal keys give equal outputs."""

    name: ClassVar[str]
    title: ClassVar[str]
    """What it does, for the progress display."""
    outputs: tuple[str, ...]
    """The files and folders it writes, as paths in the bundle."""
    reads: tuple[str, ...] = ()
    """The outputs of earlier stages that it may read, as far as the run has them; reading another one raises."""
    reproducible: ClassVar[bool] = True
    """Whether equal keys give equal bytes; measured times do not."""
    transient: ClassVar[bool] = False
    """Whether its outputs serve other stages only and are not part of the bundle."""
    timed: ClassVar[bool] = False
    """Whether it measures times, so that nothing that can wait may run beside it."""

    @abstractmethod
    def settings(self, job: Job) -> dict[str, Any]:
        """Return what decides the outputs, apart from the outputs that the stage reads, as JSON values."""

    def expected_s(self, job: Job, pace: Pace) -> float:  # noqa: ARG002 - most stages take about as long for any model
        """Return how long the stage takes, roughly, in seconds."""
        return 1.0

    @abstractmethod
    def execute(self, job: Job, context: StageContext) -> None:
        """Write the outputs into the context's folder, under their paths in the bundle."""

    def check(self, files: Files) -> None:  # noqa: B027 - most stages have nothing to check
        """Raise if the outputs, which are kept either way, forbid continuing."""

    def key(self, job: Job, read_keys: Mapping[str, str]) -> str:
        """Return the hash of everything that decides the outputs.

        Args:
            job: the run.
            read_keys: for each output that the stage reads, the key of the stage that writes it.

        """
        parts = {
            "stage": self.name,
            "settings": self.settings(job),
            "reads": dict(read_keys),
            "versions": job.versions,
            "threads": job.threads,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
