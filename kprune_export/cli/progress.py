"""Progress of a run on standard error: a bar on a terminal, and lines elsewhere."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from kprune_export.cli.console import error_console
from kprune_export.cli.durations import duration

if TYPE_CHECKING:
    from kprune_export.pipeline.estimates import Expected

ShareDone = Callable[[float], None]
EVERY_S = 30.0
"""Where there is no terminal, a stage that runs for longer prints how far it is."""
_WORTH_NAMING = 0.05
"""Stages that take a smaller share of the run are not named in the estimate."""
_MOST_OFF = 5.0
"""So many times longer or shorter than expected a run may be taken to be, by the stages that are done."""
_hidden = False


def hide_progress(hidden: bool) -> None:
    """Choose whether the reporters of this process print nothing."""
    global _hidden
    _hidden = hidden


class ConsoleReporter:
    """Shows each stage, and the time that it and the run will still take.

    A terminal gets a bar, redrawn in place. Elsewhere, as in CI, there is a line when a stage starts, every
    `EVERY_S` seconds, and when it ends.
    """

    def __init__(self, console: Console | None = None, every_s: float = EVERY_S) -> None:
        self._console = console or error_console()
        self._every_s = every_s
        self._left = TimeLeft({})

    def planned(self, expected: "Expected") -> None:
        """Print how long the run will take, and which stages most of it."""
        if _hidden:
            return
        found = expected()
        self._left = TimeLeft(found)
        whole = sum(found.values())
        parts = [f"{title} {duration(s)}" for title, s in found.items() if s >= max(_WORTH_NAMING * whole, 1.0)]
        if parts:
            self._say(f"About {duration(whole)} on this machine: {', '.join(parts)}.")

    @contextlib.contextmanager
    def stage(self, number: int, total: int, title: str) -> Iterator[ShareDone]:
        """Show a stage while it runs and how long it took."""
        label = f"[{number}/{total}] {title}"
        start = time.monotonic()
        with (
            self._bar(label, title) if self._console.is_terminal and not _hidden else self._lines(label, title) as done
        ):
            yield done
        seconds = time.monotonic() - start
        self._left.finished(title, seconds)
        self._say(f"{label}: done in {seconds:.1f} s")

    def skipped(self, number: int, total: int, title: str) -> None:
        """Say that the outputs of an earlier run are valid."""
        self._say(f"[{number}/{total}] {title}: up to date")

    @contextlib.contextmanager
    def _bar(self, label: str, title: str) -> Iterator[ShareDone]:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
        )
        start = time.monotonic()
        with Bars(*columns, console=self._console, transient=True) as bars:
            task = bars.add_task(label, total=1.0, left="")

            def done(share: float) -> None:
                left = self._left.in_words(title, time.monotonic() - start, share)
                bars.update(task, completed=share, left=left)

            yield done

    @contextlib.contextmanager
    def _lines(self, label: str, title: str) -> Iterator[ShareDone]:
        self._say(f"{label} …")
        start, reached, ended = time.monotonic(), 0.0, threading.Event()

        def done(share: float) -> None:
            nonlocal reached
            reached = share

        def repeat() -> None:
            while not ended.wait(self._every_s):
                left = self._left.in_words(title, time.monotonic() - start, reached)
                self._say(f"{label}: {reached:.0%}{f', {left}' if left else ''}")

        thread = threading.Thread(target=repeat, daemon=True)
        if not _hidden:
            thread.start()
        try:
            yield done
        finally:
            ended.set()
            if thread.is_alive():
                thread.join()

    def _say(self, line: str) -> None:
        if not _hidden:
            self._console.print(line, markup=False)


class TimeLeft:
    """The time that a run will still take, by what was expected of its stages and how long those that are done took.

    Args:
        expected: seconds for each stage that runs, by title; those that are not named count nothing.

    """

    def __init__(self, expected: Mapping[str, float]) -> None:
        self._open = dict(expected)
        self._expected_s = self._took_s = 0.0

    def finished(self, title: str, seconds: float) -> None:
        """Note how long a stage took."""
        self._expected_s += self._open.pop(title, 0.0)
        self._took_s += seconds

    def seconds(self, title: str, elapsed_s: float, share: float) -> tuple[float, float] | None:
        """Return the seconds left of a stage that runs, and of the whole run; None where nothing is known of them.

        Args:
            title: the stage.
            elapsed_s: how long it has run.
            share: the share of it that is done.

        """
        slower = self._took_s / self._expected_s if self._expected_s else 1.0
        slower = min(max(slower, 1 / _MOST_OFF), _MOST_OFF)
        if share > 0:
            stage = elapsed_s / share * (1 - share)
        elif title in self._open:
            stage = max(0.0, slower * self._open[title] - elapsed_s)
        else:
            return None
        return stage, stage + slower * sum(s for name, s in self._open.items() if name != title)

    def in_words(self, title: str, elapsed_s: float, share: float) -> str:
        """Return the time left in words: ``about 40 s left, 2 min of the run``."""
        found = self.seconds(title, elapsed_s, share)
        if found is None:
            return ""
        stage, run = found
        more = f", {duration(run)} of the run" if len(self._open) > (title in self._open) else ""
        return f"about {duration(stage)} left{more}"
