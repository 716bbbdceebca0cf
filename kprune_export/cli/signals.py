"""Signals that ask a run to end: tidily, and at whatever moment they arrive."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from kprune_export.errors import Termination

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_SOON = 0.02
"""Seconds after which a signal is sent again."""


@contextlib.contextmanager
def termination_as_interruption() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a run as tidily as Ctrl-C does; the same one again ends it at once.

    Schedulers and containers send the first, and a terminal that is closed the second; systemd sends both together.
    One that is ignored, as nohup has it, stays ignored.

    What a signal's handler raises is lost where it arrives in a finaliser (``__del__``) or in a callback of C code:
    Python prints it, and the run would continue. The signal is then sent again.
    https://docs.python.org/3/library/sys.html#sys.unraisablehook
    """

    def terminate(number: int, _frame: object) -> NoReturn:
        for other in watched:
            signal.signal(other, signal.SIG_DFL if other == number else signal.SIG_IGN)
        raise Termination(number)

    def send_again(lost: "UnraisableHookArgs") -> None:
        error = lost.exc_value
        if not isinstance(error, KeyboardInterrupt):
            hook(lost)
            return
        number = error.args[0] if isinstance(error, Termination) else signal.SIGINT
        for other in watched:
            signal.signal(other, terminate)
        again = threading.Timer(_SOON, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    watched = [x for x in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(x) is not signal.SIG_IGN]
    before = {number: signal.signal(number, terminate) for number in watched}
    hook, sys.unraisablehook = sys.unraisablehook, send_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
