"""Making trials on this machine, each in a process of its own."""

import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import ValidationError

from exporters.processes.import_path import python_command, python_environment
from kprune_export.errors import ExitCode
from kprune_export.experiments.sweep.messages import Event, Order, TrialEnd

ShareDone = Callable[[float], None]
Warn = Callable[[str], None]


class LocalTrials:
    """Makes trials side by side.

    Args:
        parallel: how many at a time.
        folder: the trials' working directory; this process's unless given.

    """

    def __init__(self, parallel: int, folder: Path | None = None) -> None:
        self._parallel, self._folder = parallel, folder
        self._running: set[subprocess.Popen[str]] = set()
        self._guard, self._stopped = threading.Lock(), False

    def run(self, orders: Sequence[Order], progress: ShareDone, warn: Warn) -> list[TrialEnd]:
        """Carry out orders, and return how each ended, in their order.

        An interruption ends the processes and is raised again.

        Args:
            orders: what to make.
            progress: called with the share of all that is done.
            warn: called with the trials' warnings.

        """
        shares = [0.0] * len(orders)

        def one(number: int) -> TrialEnd:
            def hear(event: Event) -> None:
                if event.warning is not None:
                    warn(event.warning)
                if event.share is not None:
                    shares[number] = event.share
                    progress(sum(shares) / len(shares))

            return self._make(orders[number], hear)

        with ThreadPoolExecutor(self._parallel) as pool:
            futures = [pool.submit(one, number) for number in range(len(orders))]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._stop()
                raise

    def _make(self, order: Order, hear: Callable[[Event], None]) -> TrialEnd:
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            with self._guard:
                if self._stopped:
                    return TrialEnd(error="not begun", exit_code=ExitCode.INTERRUPTED)
                process = subprocess.Popen(
                    python_command("kprune_export.experiments.sweep.worker"),
                    cwd=self._folder,
                    env=python_environment(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    encoding="utf-8",
                    start_new_session=True,  # Ctrl-C is for the sweep, which ends them
                )
                self._running.add(process)
            try:
                end = _converse(process, order, hear)
            finally:
                process.kill()
                process.wait()
                self._running.discard(process)
            if end is None:
                said.seek(0)
                last = (said.read().strip().splitlines() or ["it said nothing"])[-1]
                end = TrialEnd(
                    error=f"its process ended with status {process.returncode}: {last}", exit_code=ExitCode.INTERNAL
                )
            return end

    def _stop(self) -> None:
        with self._guard:
            self._stopped = True
            for process in tuple(self._running):
                process.terminate()


def _converse(process: "subprocess.Popen[str]", order: Order, hear: Callable[[Event], None]) -> TrialEnd | None:
    """Send a process its order and yield its messages; None where it ends without saying how."""
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
    with process.stdin, process.stdout:
        try:
            process.stdin.write(order.model_dump_json() + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            return None
        for line in process.stdout:
            try:
                event = Event.model_validate_json(line)
            except ValidationError:  # cut off: the process was killed
                break
            if event.end is not None:
                process.stdout.read()  # it is finished once it has closed this
                return event.end
            hear(event)
    process.wait()
    return None
