"""Signals that arrive where Python loses what their handlers raise."""

import os
import signal
import time

import pytest

from kprune_export.cli.signals import termination_as_interruption
from kprune_export.errors import Termination


class Signalled:
    """Sends its process a signal while it is finalised."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)
        sum(range(1000))  # the handler runs here


def wait() -> None:
    for _ in range(500):
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_during_a_finaliser_is_not_lost(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    before = {x: signal.getsignal(x) for x in (signal.SIGTERM, signal.SIGHUP)}
    with pytest.raises(KeyboardInterrupt) as caught, termination_as_interruption():
        one = Signalled(number)
        del one
        wait()
    assert isinstance(caught.value, Termination) == (number != signal.SIGINT)
    assert "Exception ignored" not in capfd.readouterr().err
    assert before == {x: signal.getsignal(x) for x in before}


def test_other_errors_of_finalisers_are_shown_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda lost: seen.append(lost.exc_type))

    class Broken:
        def __del__(self) -> None:
            raise KeyError("x")

    with termination_as_interruption():
        one = Broken()
        del one
    assert seen == [KeyError]
