"""The lock by which the trials of a sweep on one machine time exclusively, while they may prune side by side."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from filelock import ReadWriteLock

_LOCK = "timing.db"


class TimingLock:
    """One trial's hold of the lock: shared while it works, exclusive while it times. Open it with `join`.

    The lock goes when its process ends, however it ends, and one that waits for exclusive use keeps others from
    entering (https://py-filelock.readthedocs.io/en/latest/api.html, ReadWriteLock).
    """

    def __init__(self, lock: ReadWriteLock) -> None:
        self._lock = lock

    @classmethod
    @contextlib.contextmanager
    def join(cls, folder: Path) -> Iterator[Self]:
        """Wait until no trial times, and hold the lock, shared, until the context ends.

        Args:
            folder: the same for all trials, on a disk of this machine.

        """
        folder.mkdir(exist_ok=True)
        lock = ReadWriteLock(folder / _LOCK, is_singleton=False)
        try:
            lock.acquire_read()
            yield cls(lock)
        finally:
            lock.close()

    @contextlib.contextmanager
    def stage(self, exclusive: bool) -> Iterator[None]:
        """Let trials pass that wait to time, then work; or wait for the others, and time exclusively.

        Args:
            exclusive: whether to hold the lock exclusively while the context lasts.

        """
        self._lock.release()
        if not exclusive:
            self._lock.acquire_read()
            yield
            return
        self._lock.acquire_write()
        try:
            yield
        finally:
            self._lock.release()
            self._lock.acquire_read()
