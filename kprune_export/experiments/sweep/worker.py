"""The process that makes one trial: an order on standard input, events on standard output.

    python -m kprune_export.experiments.sweep.worker

It ends when its standard input does, so that it does not outlive the sweep, however that ends.
"""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, TextIO

from kprune_export.errors import ExitCode, Termination, exit_code_of, message_of
from kprune_export.experiments.sweep.exclusive_timing import TimingLock
from kprune_export.experiments.sweep.messages import Event, Order, TrialEnd
from kprune_export.waiting import choose_waiting


class _Events(logging.Handler):
    """Writes events; receives warnings as a logging handler, and stages as a pipeline's reporter."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.WARNING)
        self._stream = stream

    def send(self, event: Event) -> None:
        """Write one event."""
        self._stream.write(event.model_dump_json() + "\n")
        self._stream.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a warning."""
        self.send(Event(warning=record.getMessage()))

    @contextlib.contextmanager
    def stage(self, number: int, total: int, _title: str) -> Iterator[Callable[[float], None]]:
        """Send the trial's progress when a stage ends."""
        yield lambda _: None
        self.send(Event(share=number / total))

    def skipped(self, number: int, total: int, _title: str) -> None:
        """Send the trial's progress."""
        self.send(Event(share=number / total))

    def planned(self, _expected: object) -> None:
        """Do nothing."""


def make(order: Order, events: _Events) -> TrialEnd:
    """Make a trial's bundle; whatever goes wrong is returned."""
    try:
        with TimingLock.join(Path(order.turns)) as turns:  # before anything heavy: importing disturbs who times, too
            from exporters.runners.onnxruntime_runner import share_thread_pool
            from kprune_export.pipeline.job import thread_count
            from kprune_export.pipeline.run import prune_and_build, validate_dense
            from kprune_export.recipe.recipe import Recipe

            recipe = Recipe.build(None, order.recipe)
            share_thread_pool(thread_count(recipe))
            (validate_dense if order.dense else prune_and_build)(recipe, events, turns.stage)
    except (Exception, KeyboardInterrupt) as error:
        code = exit_code_of(error)
        text = message_of(error) if code is not None else f"internal error, {type(error).__name__}: {error}"
        return TrialEnd(error=text, exit_code=ExitCode.INTERNAL if code is None else code)
    return TrialEnd()


def main() -> None:
    """Read an order, and carry it out."""
    choose_waiting()
    signal.signal(signal.SIGTERM, _terminate)
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no event
    with open(0, encoding="utf-8", closefd=False) as orders:
        order = Order.model_validate_json(orders.readline())
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    events = _Events(stream)
    for name in ("pruning", "exporters", "kprune_export"):
        logger = logging.getLogger(name)
        logger.addHandler(events)
        logger.propagate = False
    end = make(order, events)
    events.send(Event(end=end))


def _end_with_the_sweep() -> None:
    os.read(0, 1)  # raw: a buffered read would hold a lock that Python wants when it ends
    os.kill(os.getpid(), signal.SIGTERM)


def _terminate(_signal: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Termination


if __name__ == "__main__":
    main()
