"""Progress of a run: what is printed where there is no terminal, and the time left, worked out by hand."""

import io
import time

import pytest

from kprune_export.cli.console import PrintableConsole
from kprune_export.cli.durations import duration
from kprune_export.cli.progress import ConsoleReporter, TimeLeft, hide_progress


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (900, "15 min"),
        (935, "16 min"),
        (4800, "1 h 20 min"),
    ],
)
def test_durations_by_hand(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_time_left_by_hand() -> None:
    left = TimeLeft({"a": 10.0, "b": 20.0, "c": 5.0})
    assert left.seconds("a", 2.0, 0.25) == (6.0, 31.0)  # 2 s for a quarter, then b and c as expected
    assert left.seconds("a", 2.0, 0.0) == (8.0, 33.0)
    left.finished("a", 20.0)  # twice as long as expected, and so may the others be
    assert left.seconds("b", 0.0, 0.0) == (40.0, 50.0)
    left.finished("b", 4000.0)  # no more than five times is believed
    assert left.seconds("c", 1.0, 0.0) == (24.0, 24.0)
    assert left.in_words("c", 1.0, 0.5) == "about 1 s left"
    assert TimeLeft({}).in_words("x", 3.0, 0.0) == ""
    assert TimeLeft({}).in_words("x", 3.0, 0.25) == "about 9 s left"


def test_without_a_terminal_there_are_lines() -> None:
    text = io.StringIO()
    reporter = ConsoleReporter(PrintableConsole(file=text, soft_wrap=True), every_s=0.05)
    reporter.planned(lambda: {"Pruning": 90.0, "Writing": 0.2})
    with reporter.stage(1, 2, "Pruning") as done:
        done(0.5)
        while "50%" not in text.getvalue():
            time.sleep(0.01)
    reporter.skipped(2, 2, "Writing")
    lines = text.getvalue().splitlines()
    assert lines[:2] == ["About 1 min 30 s on this machine: Pruning 1 min 30 s.", "[1/2] Pruning …"]
    assert lines[2].startswith("[1/2] Pruning: 50%, about 0 s left")
    assert lines[-2].startswith("[1/2] Pruning: done in 0.")
    assert lines[-1] == "[2/2] Writing: up to date"


def test_quiet_prints_nothing_and_measures_nothing() -> None:
    text = io.StringIO()
    reporter = ConsoleReporter(PrintableConsole(file=text), every_s=0.01)
    hide_progress(True)
    try:
        reporter.planned(lambda: pytest.fail("is not asked for"))
        with reporter.stage(1, 1, "Pruning") as done:
            done(0.5)
            time.sleep(0.05)
        reporter.skipped(1, 1, "Pruning")
    finally:
        hide_progress(False)
    assert text.getvalue() == ""
