"""What a stage is: declared inputs and outputs, a key that decides them, and the work itself."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from exporters.parts import FinishedParts
from kprune_export.bundle.layout import Files
from kprune_export.pipeline.job import Job

ShareDone = Callable[[float], None]


def part_of(progress: ShareDone, number: int, total: int) -> ShareDone:
    """Return a callback for one of several equal parts of what a callback is told of, counted from 0."""
    return lambda share: progress((number + share) / total)


@dataclass(frozen=True)
class Desk:
    """Where a stage works.

    Attributes:
        files: where the outputs of earlier stages are.
        folder: an empty folder for the outputs, under their paths in the bundle.
        scratch: a folder that survives a kill, for work that can be gone on with.
        parts: the stage's finished parts, which survive a kill.
        progress: to be told the share of the stage that is done.

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
    needs: tuple[str, ...] = ()
    """The names of the stages whose outputs it reads, those of them that are part of the run."""
    reproducible: ClassVar[bool] = True
    """Whether equal keys give equal bytes; measured times do not."""
    transient: ClassVar[bool] = False
    """Whether its outputs serve other stages only and are not part of the bundle."""
    timed: ClassVar[bool] = False
    """Whether it measures times, so that nothing that can wait may run beside it."""

    @abstractmethod
    def settings(self, job: Job) -> dict[str, Any]:
        """Return what decides the outputs beside the outputs of the stages it needs, as JSON values."""

    @abstractmethod
    def execute(self, job: Job, desk: Desk) -> None:
        """Write the outputs into the desk's folder, under their paths in the bundle."""

    def check(self, files: Files) -> None:  # noqa: B027 - most stages have nothing to check
        """Raise if the outputs, which are kept either way, forbid going on."""

    def key(self, job: Job, needed_keys: dict[str, str]) -> str:
        """Return the hash of everything that decides the outputs."""
        parts = {
            "stage": self.name,
            "settings": self.settings(job),
            "needs": {name: needed_keys[name] for name in self.needs if name in needed_keys},
            "versions": job.versions,
            "threads": job.threads,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
