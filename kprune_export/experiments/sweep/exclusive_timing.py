"""Turns among the runs of a sweep on one machine: many may prune side by side, but whoever times is alone."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self


class Turns:
    """One run's part in it. Open it with `Turns.join`.

    Two locks of the system (https://man7.org/linux/man-pages/man2/flock.2.html), which go when a process does: the
    room, shared by those that work and held alone by the one that times, and the door, held while one waits for the
    room, so that nobody enters before someone who waits to be alone.
    """

    def __init__(self, door: int, room: int) -> None:
        self._door, self._room = door, room

    @classmethod
    @contextlib.contextmanager
    def join(cls, folder: Path) -> Iterator[Self]:
        """Wait until nobody is alone, and take part until the context ends.

        Args:
            folder: the same for all that take part, on a disk of this machine.

        """
        folder.mkdir(exist_ok=True)
        files = [os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("door", "room")]
        try:
            turns = cls(*files)
            turns._enter(alone=False)
            yield turns
        finally:
            for file in files:
                os.close(file)

    @contextlib.contextmanager
    def stage(self, alone: bool) -> Iterator[None]:
        """Let those pass that wait to be alone, then work; or wait to be alone, and be it.

        Args:
            alone: whether to be alone while the context lasts.

        """
        self._enter(alone)
        try:
            yield
        finally:
            if alone:
                self._enter(alone=False)

    def _enter(self, alone: bool) -> None:
        fcntl.flock(self._room, fcntl.LOCK_UN)  # first, or two that wait for each other would wait for ever
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)
