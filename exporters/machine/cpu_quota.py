"""CPU quotas: how much of the processors' time the kernel lets this process's control group use.

A container started with ``--cpus 0.5`` or with ``limits.cpu`` in Kubernetes may run on every processor, but is stopped
for the rest of each period once it has used its share. More threads than the quota pays for only use it up faster.

https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max, cpu.stat) and
https://docs.kernel.org/scheduler/sched-bwc.html (cpu.cfs_quota_us of version 1). This module imports nothing heavy.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

_SELF = Path("/proc/self")


@dataclass(frozen=True)
class Throttling:
    """How often, and for how long, quotas have stopped this process's control groups since these exist.

    Attributes:
        periods: the periods in which a group was stopped.
        seconds: for how long, summed over the groups' processors.

    """

    periods: int
    seconds: float


@dataclass(frozen=True)
class _Group:
    """The folder of a control group that has a quota, and the processors' time that it allows."""

    folder: Path
    processors: float


def cpu_quota(process: Path = _SELF) -> float | None:
    """Return how many processors' time this process may use; None where no control group limits it.

    The least of the quotas of its group and of the groups around it, as far as they are visible, in version 2 or 1.

    Args:
        process: the process's folder in /proc.

    """
    return min((group.processors for group in _limited_groups(process)), default=None)


def usable_cpus(process: Path = _SELF) -> int:
    """Return how many threads this process can keep busy: the processors of its affinity, or its quota rounded up.

    Args:
        process: the process's folder in /proc, for the quota.

    """
    allowed, quota = len(os.sched_getaffinity(0)), cpu_quota(process)
    return allowed if quota is None else max(1, min(allowed, ceil(quota)))


def throttling(process: Path = _SELF) -> Throttling | None:
    """Return how much the quotas have stopped this process's groups so far; None where there is no quota.

    Args:
        process: the process's folder in /proc.

    """
    counts = [_counted(group.folder / "cpu.stat") for group in _limited_groups(process)]
    if not counts:
        return None
    return Throttling(sum(x.periods for x in counts), sum(x.seconds for x in counts))


def _limited_groups(process: Path) -> Iterator[_Group]:
    for folder in _group_folders(process):
        quota = _quota(folder)
        if quota is not None:
            yield _Group(folder, quota)


def _group_folders(process: Path) -> Iterator[Path]:
    """Yield the folders of the groups that the process is in and that can limit its processors, innermost first."""
    try:
        mounts = (process / "mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        lines = (process / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux, or /proc is hidden
        return
    paths: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))  # version 2 names no controller
    for line in mounts:
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), after.split(" ", 2)
        controller = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
        if controller is None or controller not in paths or (controller and "cpu" not in options.split(",")):
            continue
        root, mount = _unescaped(fields[3]), Path(_unescaped(fields[4]))
        group = Path(paths.pop(controller))  # once, wherever else it is mounted
        seen = group.is_relative_to(root) and ".." not in group.parts  # else the mount is of the process's own group
        folder = mount / group.relative_to(root) if seen else mount
        yield from (x for x in (folder, *folder.parents) if x.is_relative_to(mount) and x.is_dir())


def _unescaped(field: str) -> str:
    """Return a field of mountinfo, in which spaces and the like are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


def _quota(folder: Path) -> float | None:
    both = _read(folder / "cpu.max").split() or [
        *_read(folder / "cpu.cfs_quota_us").split(),
        *_read(folder / "cpu.cfs_period_us").split(),
    ]
    if len(both) != 2 or not all(x.isdigit() for x in both):  # "max", -1, or no such file: the root group has none
        return None
    quota, period = map(int, both)
    return quota / period if quota and period else None


def _counted(path: Path) -> Throttling:
    counts = {name: int(value) for name, _, value in (x.partition(" ") for x in _read(path).splitlines())}
    seconds = counts.get("throttled_usec", 0) / 1e6 + counts.get("throttled_time", 0) / 1e9
    return Throttling(counts.get("nr_throttled", 0), seconds)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
