"""Processor state before and after a measurement."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_CPUS = Path("/sys/devices/system/cpu")
_CPUINFO = Path("/proc/cpuinfo")


class CpuMoment(BaseModel):
    """The processors at one moment."""

    model_config = ConfigDict(frozen=True)

    load_1min: float
    """The load average of the last minute: how many threads ran or waited to, this process's included."""
    slowest_mhz: float | None
    fastest_mhz: float | None
    """The clocks of the slowest and the fastest processor that the process may use; None where the system does not
    report them. In a virtual machine it is what the host reports."""


def read_cpu(processors: Sequence[int] | None = None, cpus: Path = _CPUS, cpuinfo: Path = _CPUINFO) -> CpuMoment:
    """Read the load and the processors' clocks.

    The clocks are the kernel's cpufreq files, where there are some, and what /proc/cpuinfo says else:
    https://docs.kernel.org/admin-guide/pm/cpufreq.html.

    Args:
        processors: the numbers of the processors; those that the process may use unless given.
        cpus: the kernel's folder of processors.
        cpuinfo: the kernel's list of them.

    """
    chosen = affinity() if processors is None else tuple(processors)
    clocks = _cpufreq_mhz(cpus, chosen) or _cpuinfo_mhz(cpuinfo, chosen)
    return CpuMoment(
        load_1min=round(os.getloadavg()[0], 2),
        slowest_mhz=min(clocks, default=None),
        fastest_mhz=max(clocks, default=None),
    )


def affinity() -> tuple[int, ...]:
    """Return the numbers of the processors that this process may use, and that processes which it starts inherit."""
    return tuple(sorted(os.sched_getaffinity(0)))


def processor_list(numbers: Sequence[int]) -> str:
    """Return processors' numbers as ``taskset --cpu-list`` takes them: 0-3,8."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _cpufreq_mhz(cpus: Path, processors: Sequence[int]) -> list[float]:
    found = []
    for number in processors:
        try:
            kilohertz = (cpus / f"cpu{number}/cpufreq/scaling_cur_freq").read_text(encoding="ascii")
        except OSError:  # there is none, or the driver does not know
            return []
        found.append(round(int(kilohertz) / 1000, 1))
    return found


def _cpuinfo_mhz(cpuinfo: Path, processors: Sequence[int]) -> list[float]:
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return []
    pairs = re.findall(r"^processor\s*:\s*(\d+)$.*?^cpu MHz\s*:\s*([\d.]+)$", text, re.MULTILINE | re.DOTALL)
    clocks = {int(number): float(mhz) for number, mhz in pairs}
    return [round(clocks[number], 1) for number in processors if number in clocks]
