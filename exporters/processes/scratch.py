"""Temporary folders that do not outlive the process, not even where it is killed."""

import atexit
import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from exporters.processes.guardian import end_guardian, start_guardian


@dataclass(frozen=True)
class _Root:
    """The folder that holds a process's temporary folders, and what removes it."""

    process: int
    folder: Path
    guardian: "subprocess.Popen[bytes]"

    def remove(self) -> None:
        """Remove it, in the process that made it."""
        if os.getpid() == self.process:
            end_guardian(self.guardian)


_guard = threading.Lock()
_roots: dict[int, _Root] = {}
"""By process, as a fork has its own."""


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make an empty folder that is removed when the context ends, or the process does, whichever comes first.

    Raises:
        OSError: there is no place for temporary files.

    """
    with tempfile.TemporaryDirectory(dir=_root()) as name:
        yield Path(name)


def _root() -> Path:
    with _guard:
        process = os.getpid()
        root = _roots.get(process)
        if root is None or not root.folder.is_dir():
            folder = Path(tempfile.mkdtemp(prefix="kprune-export-"))
            root = _roots[process] = _Root(process, folder, start_guardian(remove=[folder]))
            atexit.register(root.remove)
        return root.folder
