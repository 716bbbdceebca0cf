"""Work that is killed at a given change of the file system."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHANGES = {
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
}
"""Events of https://docs.python.org/3/library/audit_events.html; each is raised before the change is made."""


def killed_before(number: int, work: Callable[[], object], after: str = "") -> bool:
    """Do work in a child process that kills itself before its change of a number, counted from 1; whether it did.

    The signal is SIGKILL: nothing of the child runs after it.

    Args:
        number: of the change, where those that a file is opened to be written with count too.
        work: what to do.
        after: changes are counted once a file of this name has been put in place by a renaming; else all are.

    """
    pid = os.fork()
    if pid == 0:
        _be_killed(number, work, after)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _be_killed(number: int, work: Callable[[], object], after: str) -> None:
    seen, counts = 0, not after

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen, counts
        written = event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if not counts:
            counts = event == "os.rename" and Path(os.fsdecode(arguments[1])).name == after
        elif event in _CHANGES or written:
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        sys.addaudithook(watch)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
