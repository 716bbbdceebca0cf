"""A model in a process of its own, under the interface of those in this one."""

import signal
import socket
import subprocess
import tempfile
from multiprocessing.connection import Connection
from typing import Any

from exporters.errors import RunnerError
from exporters.processes.import_path import python_command, python_environment
from exporters.runners.base import Array, Feeds, Runner
from exporters.spec import TensorSpec
from exporters.timing.isolation.messages import Block, Open, Opened, Opener, Prepare, Refused, Request, Rest, Run
from exporters.timing.timers import Calls, HostClock, Timer

PLACE = "each in a process of its own, whose threads sleep while another runs"
"""Where isolated runners run, in words, for the record."""
_GRACE_S = 5.0
"""How long a process may take to end by itself."""


class IsolatedRunner(Runner):
    """A model that is opened, run and timed in a process that does nothing else.

    The process lives until `close`, or as long as this one: it cannot outlive it, even where that is killed.

    Args:
        opener: opens the runner there.
        threads: how many threads that process's pool has.
        timer: how `block` times calls there; by the host's clock unless given.

    Raises:
        RunnerError: the process ended before the model was open.
        ExporterError: what opening the model raises.

    """

    def __init__(self, opener: Opener, threads: int, timer: Timer | None = None) -> None:
        self.name = "a model"
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                python_command("exporters.timing.isolation.worker", str(theirs.fileno())),
                stdin=subprocess.PIPE,  # its end signals that this process has ended
                stdout=self._said,
                stderr=self._said,
                pass_fds=(theirs.fileno(),),
                env=python_environment(),
            )
        self._connection = Connection(ours.detach())
        try:
            opened: Opened = self._ask(Open(opener, timer or HostClock(), threads))
        except BaseException:
            self.close()
            raise
        self.name = opened.name
        self._inputs, self._outputs = opened.inputs, opened.outputs

    @property
    def process_id(self) -> int:
        """The number of the model's process."""
        return self._process.pid

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs that the model takes."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs that it gives."""
        return self._outputs

    def prepare(self, feeds: Feeds) -> None:
        """Send the inputs of all blocks that follow.

        Raises:
            RunnerError: the feeds are not the model's inputs, or its process has ended.

        """
        self.check(feeds)
        self._ask(Prepare(feeds))

    def block(self, calls: int, wake: bool) -> Calls:
        """Time calls, on the clock of the model's process.

        Args:
            calls: how many.
            wake: make one more before them, which is not timed, for threads that were at rest.

        Raises:
            RunnerError: the runtime failed, or the process has ended.

        """
        timed: Calls = self._ask(Block(calls, wake))
        return timed

    def rest(self) -> None:
        """Wait until no thread of the model's process runs.

        Raises:
            MeasurementError: they do not stop.
            RunnerError: the process has ended.

        """
        self._ask(Rest())

    def close(self) -> None:
        """End the process: by itself, or by force where it does not answer."""
        self._connection.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._said.close()

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        outputs: dict[str, Array] = self._ask(Run(feeds))
        return outputs

    def _ask(self, request: Request) -> Any:
        try:
            self._connection.send(request)
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise RunnerError(self._how_it_ended()) from error
        if isinstance(answer, Refused):
            raise answer.error
        return answer

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            return f"The process {self._process.pid} that timed {self.name} no longer answers: run the command again."
        if code < 0:
            how = f"was killed by {_signal_name(-code)}, as systems do where memory is short"
        else:
            how = f"ended with exit code {code}"
        words = self._last_words()
        stated = f" (its last output: {words})" if words else ""
        return f"The process that timed {self.name} {how}{stated}: run the command again, or without isolation."

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"
