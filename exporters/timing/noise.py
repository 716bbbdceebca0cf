"""Reliability of timings: by a model timed against itself, and by what kept threads from the processors."""

import contextlib
import operator
import os
from collections.abc import Iterable
from functools import reduce
from math import inf
from pathlib import Path

from pydantic import BaseModel, ConfigDict, computed_field

from exporters.machine.cpu_quota import throttling, usable_cpus

BUSY_SHARE = 0.05
"""Times count as disturbed where threads waited for a processor for more than this share of the time that they could
have run; on a machine that does nothing else it is below one hundredth."""
NOISE_MARGIN = 0.01
"""How far from one a model may be from itself beyond the interval: less is no difference to anyone."""
WIDEST = 1.1
"""How many times too large or too small a quiet machine's ratios may be, by the ends of the interval."""
_LARGEST_SHARE = 0.99
_PROC = Path("/proc")


class NoiseCheck(BaseModel):
    """The dense model timed against itself, opened twice, as the pruned one is timed against it.

    Whatever ratio this gives beside one is the machine's doing.
    """

    model_config = ConfigDict(frozen=True)

    ratio: float
    low: float
    high: float
    """The ends of the 95 % bootstrap interval."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def quiet(self) -> bool:
        """Whether one lies in the interval, give or take `NOISE_MARGIN`, and the interval is not wide."""
        return self.low - NOISE_MARGIN <= 1 <= self.high + NOISE_MARGIN and self.factor <= WIDEST

    @property
    def factor(self) -> float:
        """How many times too large or too small a ratio may be, at least 1."""
        return max(self.high, 1 / self.low if self.low > 0 else inf, 1.0)

    @property
    def in_words(self) -> str | None:
        """What is wrong; None where nothing is."""
        if self.quiet:
            return None
        return f"a model is {self.ratio:.2f} times as fast as itself ({self.low:.2f} to {self.high:.2f})"


class Disturbance(BaseModel):
    """What the kernel counted while something was timed, for all threads of the processes that it was timed in.

    Attributes:
        ran_s: how long they ran, in seconds of a processor's time; None where the kernel does not report it.
        waited_s: how long they could have run and waited for a processor; None likewise.
        expected_waiting: the share of waiting that follows from timing more threads than there are processors.
        throttled_periods: the periods in which a CPU quota stopped them; None where there is no quota.
        throttled_s: for how long, summed over processors; None likewise.

    """

    model_config = ConfigDict(frozen=True)

    ran_s: float | None
    waited_s: float | None
    expected_waiting: float = 0.0
    throttled_periods: int | None = None
    throttled_s: float | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def quiet(self) -> bool:
        """Whether times can be trusted, as far as this shows."""
        return self.unexpected_waiting <= BUSY_SHARE and not self.throttled_periods

    @property
    def waiting_share(self) -> float:
        """The share of the time, in which threads could have run, that they waited; 0 where it is not known."""
        both = (self.ran_s or 0.0) + (self.waited_s or 0.0)
        return (self.waited_s or 0.0) / both if both else 0.0

    @property
    def unexpected_waiting(self) -> float:
        """The share of waiting that others are the cause of."""
        return max(0.0, self.waiting_share - self.expected_waiting)

    @property
    def factor(self) -> float:
        """How many times too long times may be, at least 1."""
        return 1 / (1 - min(self.unexpected_waiting, _LARGEST_SHARE))

    @property
    def in_words(self) -> str | None:
        """What disturbed the times; None where nothing did."""
        if self.quiet:
            return None
        reasons = []
        if self.unexpected_waiting > BUSY_SHARE:
            reasons.append(f"the timed threads waited for a processor {self.waiting_share:.0%} of the time")
        if self.throttled_periods:
            times = f"{self.throttled_periods} time{'' if self.throttled_periods == 1 else 's'}"
            reasons.append(f"the CPU quota stopped them {times}, for {self.throttled_s or 0.0:.1f} s")
        return " and ".join(reasons)

    def __add__(self, other: "Disturbance") -> "Disturbance":
        """Return what was counted in both."""
        return Disturbance(
            ran_s=_sum(self.ran_s, other.ran_s),
            waited_s=_sum(self.waited_s, other.waited_s),
            expected_waiting=max(self.expected_waiting, other.expected_waiting),
            throttled_periods=_sum(self.throttled_periods, other.throttled_periods),
            throttled_s=_sum(self.throttled_s, other.throttled_s),
        )


def noise_reason(noise: NoiseCheck | None, disturbance: Disturbance | None) -> str | None:
    """Return why times cannot be trusted, in words; None where nothing speaks against them.

    Args:
        noise: the check of the machine, where one was made.
        disturbance: what kept the threads from the processors meanwhile, where that was counted.

    """
    reasons = [x.in_words for x in (noise, disturbance) if x is not None]
    return "; ".join(filter(None, reasons)) or None


def noise_factor(noise: NoiseCheck | None, disturbance: Disturbance | None) -> float:
    """Return how many times too large or too small a ratio may be, at least 1; arguments as those of `noise_reason`."""
    return max((x.factor for x in (noise, disturbance) if x is not None and not x.quiet), default=1.0)


def total(counted: Iterable[Disturbance | None]) -> Disturbance | None:
    """Return what was counted in all of several measurements; None where nothing was."""
    found = [x for x in counted if x is not None]
    return reduce(operator.add, found) if found else None


class Watch:
    """Counts from the moment that it is made.

    Args:
        processes: the numbers of the processes that are timed; this one unless given.
        threads: how many threads what is timed runs with; more than the processors wait for each other.

    """

    def __init__(self, processes: Iterable[int] = (), threads: int = 1) -> None:
        self._processes = frozenset(processes) or {os.getpid()}
        self._expected = max(0.0, 1 - usable_cpus() / threads)
        self._throttled = throttling()
        self._before = _scheduled(self._processes)

    def seen(self) -> Disturbance:
        """Return what was counted so far."""
        after, throttled = _scheduled(self._processes), throttling()
        began = {task: self._before.get(task, (0, 0)) for task in after}
        ran, waited = (sum(after[task][part] - began[task][part] for task in after) / 1e9 for part in (0, 1))
        return Disturbance(
            ran_s=ran if after else None,
            waited_s=waited if after else None,
            expected_waiting=self._expected,
            throttled_periods=throttled.periods - self._throttled.periods if self._throttled and throttled else None,
            throttled_s=throttled.seconds - self._throttled.seconds if self._throttled and throttled else None,
        )


def _scheduled(processes: Iterable[int]) -> dict[tuple[int, str], tuple[int, int]]:
    """Return, by process and thread, the nanoseconds that it ran and that it waited to run.

    https://docs.kernel.org/scheduler/sched-stats.html (/proc/<pid>/schedstat)
    """
    found: dict[tuple[int, str], tuple[int, int]] = {}
    for process in processes:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for task in (_PROC / str(process) / "task").iterdir():
                with contextlib.suppress(OSError, ValueError):  # likewise, or the kernel does not count
                    ran, waited, _ = (task / "schedstat").read_text(encoding="ascii").split()
                    found[process, task.name] = (int(ran), int(waited))
    return found


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
