"""The lock by which the trials of a sweep on one machine time exclusively, while they may prune side by side."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self


class TimingLock:
    """One trial's hold of the lock: shared while it works, exclusive while it times. Open it with `join`.

    Two locks of the system (https://man7.org/linux/man-pages/man2/flock.2.html), which go when a process does: the
    room, shared by trials that work and held exclusively by the one that times, and the door, held while one waits for
    the room, so that none enters before one that waits to time. filelock's ReadWriteLock is not used: it waits inside
    SQLite, where a signal that ends the process is not handled until the lock is free.
    """

    def __init__(self, door: int, room: int) -> None:
        self._door, self._room = door, room

    @classmethod
    @contextlib.contextmanager
    def join(cls, folder: Path) -> Iterator[Self]:
        """Wait until no trial times, and hold the lock, shared, until the context ends.

        Args:
            folder: the same for all trials, on a disk of this machine.

        """
        folder.mkdir(exist_ok=True)
        files = [os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("door", "room")]
        try:
            lock = cls(*files)
            lock._enter(exclusive=False)
            yield lock
        finally:
            for file in files:
                os.close(file)

    @contextlib.contextmanager
    def stage(self, exclusive: bool) -> Iterator[None]:
        """Let trials pass that wait to time, then work; or wait for the others, and time exclusively.

        Args:
            exclusive: whether to hold the lock exclusively while the context lasts.

        """
        self._enter(exclusive)
        try:
            yield
        finally:
            if exclusive:
                self._enter(exclusive=False)

    def _enter(self, exclusive: bool) -> None:
        fcntl.flock(self._room, fcntl.LOCK_UN)  # first, or two that wait for each other would wait for ever
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)
