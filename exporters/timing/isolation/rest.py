"""Knowing when a process is at rest: runtimes' threads keep spinning for a while after a call."""

import threading
import time
from pathlib import Path

from exporters.errors import MeasurementError

_TASKS = Path("/proc/self/task")
_LOOK_EVERY_S = 0.001
_LIMIT_S = 10.0


def wait_for_rest(limit_s: float = _LIMIT_S) -> None:
    """Wait until no other thread of this process runs or wants to.

    A spinning thread is in the state R whether or not it has a processor, and S once it sleeps, so that a busy
    machine cannot hide it: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html. ONNX Runtime's threads spin
    for some tens of milliseconds.

    Args:
        limit_s: how many seconds to wait at most.

    Raises:
        MeasurementError: a thread still runs after that.

    """
    end = time.monotonic() + limit_s
    while running := running_threads():
        if time.monotonic() > end:
            raise MeasurementError(
                f"{running} threads of a timed model's process still ran {limit_s:.0f} s after its last call, so it "
                "would disturb the other model: time them in one process, without isolation."
            )
        time.sleep(_LOOK_EVERY_S)


def running_threads() -> int:
    """Return how many threads of this process run or wait for a processor, the calling one left out."""
    own = str(threading.get_native_id())
    return sum(_state(task) == "R" for task in _TASKS.iterdir() if task.name != own)


def _state(task: Path) -> str | None:
    try:
        stat = (task / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
        return None
    return stat.rpartition(")")[2].split()[0]  # the name, in brackets, may hold anything
