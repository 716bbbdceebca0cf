"""GPU compute time as trtexec measures it.

https://docs.nvidia.com/deeplearning/tensorrt/latest/reference/command-line-programs.html

Inputs lie on the device and outputs stay there. One call is always queued behind the one that runs, so that the
GPU does not wait for the host; a call's compute time is what lies between the CUDA events before and after it, its
enqueue time what the host needs to hand it over. Where that is nearly as long as the compute time, the GPU waits
after all, and the events have the waiting between them: `exporters.timing.latency` flags it.
"""

import time
from typing import TYPE_CHECKING

from exporters.errors import MeasurementError
from exporters.machine.gpu import GpuClock, GpuRecord, describe_gpu
from exporters.runners.base import Feeds, Runner
from exporters.timing.timers import Calls

if TYPE_CHECKING:
    import torch

    from exporters.runners.device import DeviceRunner


class DeviceEvents:
    """Times the calls of runners on a GPU by CUDA events."""

    @property
    def description(self) -> str:
        """From where to where a call is timed."""
        return "GPU compute time by CUDA events, without copies, one call queued ahead"

    def prepare(self, runner: Runner, feeds: Feeds) -> None:
        """Copy the inputs to the GPU, where they stay for all calls.

        Raises:
            MeasurementError: the runner does not run on a GPU.

        """
        on_gpu(runner).load(feeds)

    def block(self, runner: Runner, feeds: Feeds, calls: int) -> Calls:  # noqa: ARG002 - loaded by `prepare`
        """Time some calls, behind one that is not timed: it fills the queue."""
        device = on_gpu(runner)
        starts, ends = ([_event() for _ in range(calls)] for _ in range(2))
        enqueue_s = []
        device.enqueue()
        for number in range(calls):
            starts[number].record(device.stream)
            before = time.perf_counter()
            device.enqueue()
            enqueue_s.append(time.perf_counter() - before)
            ends[number].record(device.stream)
            if number:
                ends[number - 1].synchronize()
        device.synchronize()
        seconds = tuple(start.elapsed_time(end) / 1000 for start, end in zip(starts, ends, strict=True))
        return Calls(seconds, tuple(enqueue_s))

    def clock(self) -> GpuClock | None:
        """Read the GPU's clock."""
        return read_clock()

    def gpu(self) -> GpuRecord | None:
        """Describe the current GPU."""
        return describe_gpu()


def _event() -> "torch.cuda.Event":
    import torch

    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def read_clock() -> GpuClock:
    """Read the multiprocessors' clock of the current GPU through NVIDIA's management library."""
    import torch

    if not torch.cuda.is_available():
        return GpuClock(sm_mhz=None, unknown="torch finds no GPU")
    try:
        return GpuClock(sm_mhz=torch.cuda.clock_rate(), unknown=None)
    except Exception as error:  # nvidia-ml-py may not be there, and its errors share no base with torch's
        return GpuClock(sm_mhz=None, unknown=str(error))


def on_gpu(runner: Runner) -> "DeviceRunner":
    """Return a runner as one on a GPU.

    Raises:
        MeasurementError: it is not.

    """
    from exporters.runners.device import DeviceRunner

    if not isinstance(runner, DeviceRunner) or runner.stream is None:
        raise MeasurementError(
            f"{runner.name} does not run on a GPU, so CUDA events cannot time it: time it by the host's clock."
        )
    return runner
