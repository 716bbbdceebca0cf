"""Timers of calls: the host's clock, or another."""

import time
from dataclasses import dataclass
from typing import Protocol

from exporters.machine.gpu import GpuClock, GpuRecord
from exporters.runners.base import Feeds, Runner


@dataclass(frozen=True)
class Calls:
    """Some calls that followed each other.

    Attributes:
        seconds: how long each took.
        enqueue_s: how long the host took to hand each to the device, where that is a time of its own.

    """

    seconds: tuple[float, ...]
    enqueue_s: tuple[float, ...] = ()


class Timer(Protocol):
    """Times calls of one runner; `measure_latency` has two runners take turns."""

    @property
    def description(self) -> str:
        """From where to where a call is timed, in words, for the record."""

    def prepare(self, runner: Runner, feeds: Feeds) -> None:
        """Do what comes before all calls with these inputs."""

    def block(self, runner: Runner, feeds: Feeds, calls: int) -> Calls:
        """Time some calls on the inputs that the runner was prepared with."""

    def clock(self) -> GpuClock | None:
        """Read the GPU's clock; None where no GPU is timed."""

    def gpu(self) -> GpuRecord | None:
        """Describe the GPU; None where none is timed."""


class HostClock:
    """Times whole calls one by one, from inputs in host memory to outputs in host memory, on a monotonic clock."""

    @property
    def description(self) -> str:
        """From where to where a call is timed."""
        return "host memory to host memory"

    def prepare(self, runner: Runner, feeds: Feeds) -> None:
        """Refuse inputs that are not the runner's."""
        runner.check(feeds)

    def block(self, runner: Runner, feeds: Feeds, calls: int) -> Calls:
        """Time some calls."""
        times = []
        for _ in range(calls):
            start = time.perf_counter()
            runner.run(feeds)
            times.append(time.perf_counter() - start)
        return Calls(tuple(times))

    def clock(self) -> GpuClock | None:
        """Return None: the runner may have no GPU."""
        return None

    def gpu(self) -> GpuRecord | None:
        """Return None, likewise."""
        return None
