"""The process that times one model: ``python -m exporters.timing.isolation.worker FD``, started by `IsolatedRunner`.

It answers one request after another on the socket FD, and ends when that is closed. It exits with its parent,
whatever it is doing: its standard input is a pipe that nobody writes to, and that ends with its other end.
"""

import os
import signal
import sys
import threading
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

from exporters.errors import ExporterError, RunnerError
from exporters.runners.base import Feeds, Runner
from exporters.runners.onnxruntime_runner import share_thread_pool
from exporters.timing.isolation.messages import Block, Open, Opened, Prepare, Refused, Request, Run
from exporters.timing.isolation.rest import wait_for_rest
from exporters.timing.timers import Calls, Timer


class Model:
    """The one model of this process."""

    def __init__(self, asked: Open, opened: ExitStack) -> None:
        # the pool that sessions of one process share, so that both ways of timing run the same threads
        share_thread_pool(asked.threads)
        self._timer: Timer = asked.timer
        self._runner: Runner = opened.enter_context(asked.opener())
        self._feeds: Feeds = {}
        wait_for_rest()

    @property
    def opened(self) -> Opened:
        """What the other side has to know of it."""
        return Opened(self._runner.name, self._runner.inputs, self._runner.outputs)

    def answer(self, request: Request) -> Any:
        """Do what is asked, and return the answer that `exporters.timing.isolation.messages` names.

        Raises:
            ExporterError: it cannot be done.

        """
        match request:
            case Prepare(feeds):
                self._feeds = feeds
                self._timer.prepare(self._runner, feeds)
                wait_for_rest()
                return True
            case Block(calls, wake):
                return self._block(calls, wake)
            case Run(feeds):
                return self._runner.run(feeds)
            case _:
                wait_for_rest()
                return True

    def _block(self, calls: int, wake: bool) -> Calls:
        if wake:
            self._timer.block(self._runner, self._feeds, 1)
        return self._timer.block(self._runner, self._feeds, calls)


def serve(connection: Connection) -> None:
    """Answer requests, the first of which is `Open`, until the other end is closed."""
    with ExitStack() as opened:
        model: Model | None = None
        while True:
            try:
                request: Request = connection.recv()
            except (EOFError, ConnectionResetError):
                return
            answer: Any
            try:
                if isinstance(request, Open):
                    model = Model(request, opened)
                    answer = model.opened
                elif model is None:
                    raise RunnerError("A process was asked to time a model before it was given one.")
                else:
                    answer = model.answer(request)
            except ExporterError as error:
                answer = Refused(error)
            try:
                connection.send(answer)
            except BrokenPipeError:
                return


def _die_with_starter() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)  # the model may be anywhere in a runtime's code, and nothing has to be kept


def main() -> None:
    """Serve the socket whose file descriptor is the only argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process
    threading.Thread(target=_die_with_starter, daemon=True).start()
    with Connection(int(sys.argv[1])) as connection:
        serve(connection)


if __name__ == "__main__":
    main()
