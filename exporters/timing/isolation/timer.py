"""Timing runners in processes of their own, of which one at a time is awake."""

from exporters.errors import MeasurementError
from exporters.machine.gpu import GpuClock, GpuRecord
from exporters.runners.base import Feeds, Runner
from exporters.timing.isolation.runner import IsolatedRunner
from exporters.timing.timers import Calls, Timer


class IsolatedTimer:
    """Has isolated runners take turns: before one is timed, the threads of the one before it have come to rest.

    Runtimes keep their threads spinning after a call, to be quick at the next: within a turn that is how they are
    deployed, between turns it would take the processors from the other. So nothing of it is switched off; the turn
    only ends when the threads sleep, and begins with a call that wakes them and is not timed.

    Args:
        timer: what times the calls in each process; here it describes them, and the GPU.

    """

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._awake: IsolatedRunner | None = None

    @property
    def description(self) -> str:
        """From where to where a call is timed."""
        return self._timer.description

    def prepare(self, runner: Runner, feeds: Feeds) -> None:
        """Send the inputs to the runner's process, which keeps them.

        Raises:
            MeasurementError: the runner is not in a process of its own.
            RunnerError: they are not the model's inputs, or its process has ended.

        """
        _isolated(runner).prepare(feeds)

    def block(self, runner: Runner, feeds: Feeds, calls: int) -> Calls:  # noqa: ARG002 - sent by `prepare`
        """Time some calls, on the clock of the runner's process.

        Raises:
            MeasurementError: the runner is not in a process of its own, or the one before it does not come to rest.
            RunnerError: the runtime failed, or a process has ended.

        """
        chosen = _isolated(runner)
        changes = chosen is not self._awake
        if changes and self._awake is not None:
            self._awake.rest()
        self._awake = chosen
        return chosen.block(calls, wake=changes)

    def clock(self) -> GpuClock | None:
        """Read the GPU's clock; None where no GPU is timed."""
        return self._timer.clock()

    def gpu(self) -> GpuRecord | None:
        """Describe the GPU; None where none is timed."""
        return self._timer.gpu()


def _isolated(runner: Runner) -> IsolatedRunner:
    if not isinstance(runner, IsolatedRunner):
        raise MeasurementError(f"{runner.name} is not in a process of its own: open it there, or time it in this one.")
    return runner
