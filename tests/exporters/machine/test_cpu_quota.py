"""CPU quotas: as the kernel writes them down, in folders laid out by hand, and where it lets us set one, for real."""

import subprocess
import sys
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import pytest

from exporters.machine.cpu_quota import cpu_quota, throttling, usable_cpus
from exporters.machine.description import describe_machine

V1 = Path("/sys/fs/cgroup/cpu")
V2 = Path("/sys/fs/cgroup")


def process_in(folder: Path, cgroup: str, mounts: str) -> Path:
    """Write a process's folder in /proc."""
    process = folder / "proc"
    process.mkdir()
    (process / "cgroup").write_text(cgroup)
    (process / "mountinfo").write_text(mounts)
    return process


def v2_process(tmp_path: Path, group: str = "/a/b", root: str = "/") -> Path:
    mount = tmp_path / "cgroup fs"
    escaped = str(mount).replace(" ", "\\040")
    mounts = f"22 1 0:2 / /tmp rw - tmpfs tmpfs rw\n31 23 0:28 {root} {escaped} rw shared:4 - cgroup2 cgroup2 rw\n"
    return process_in(tmp_path, f"0::{group}\n", mounts)


def write_group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


def test_version_2_by_hand(tmp_path: Path) -> None:
    """The group has 1.5 processors and the one around it has 2: the least counts."""
    process = v2_process(tmp_path)
    assert cpu_quota(process) is None  # no folder there
    write_group(tmp_path / "cgroup fs/a/b", cpu_max="150000 100000\n", cpu_stat="nr_throttled 3\nthrottled_usec 500000")
    (tmp_path / "cgroup fs/a/cpu.max").write_text("200000 100000\n")
    (tmp_path / "cgroup fs/a/cpu.stat").write_text("usage_usec 7\nnr_throttled 1\nthrottled_usec 250000\n")
    assert cpu_quota(process) == 1.5
    found = throttling(process)
    assert found is not None
    assert (found.periods, found.seconds) == (4, 0.75)
    (tmp_path / "cgroup fs/a/b/cpu.max").write_text("max 100000\n")
    assert cpu_quota(process) == 2.0
    (tmp_path / "cgroup fs/a/cpu.max").write_text("max 100000\n")
    assert cpu_quota(process) is None
    assert throttling(process) is None


def test_a_container_sees_its_own_group_at_the_mount(tmp_path: Path) -> None:
    """Where the mount is of the container's group, the process's path lies beneath it, or outside of it."""
    (tmp_path / "inside").mkdir()
    process = v2_process(tmp_path / "inside", "/docker/abc", root="/docker/abc")
    write_group(tmp_path / "inside/cgroup fs", cpu_max="50000 100000\n")
    assert cpu_quota(process) == 0.5
    (tmp_path / "outside").mkdir()
    process = v2_process(tmp_path / "outside", "/../other")
    write_group(tmp_path / "outside/cgroup fs", cpu_max="25000 100000\n")
    assert cpu_quota(process) == 0.25


def test_version_1_by_hand(tmp_path: Path) -> None:
    mount = tmp_path / "cpu,cpuacct"
    mounts = (
        f"40 31 0:37 / {tmp_path}/systemd rw - cgroup cgroup rw,name=systemd\n"
        f"32 31 0:29 / {mount} rw - cgroup cgroup rw,cpu,cpuacct\n"
    )
    process = process_in(tmp_path, "9:name=systemd:/x\n2:cpu,cpuacct:/job\n0::/\n", mounts)
    write_group(mount / "job", cpu_cfs_quota_us="-1\n", cpu_cfs_period_us="100000\n")
    assert cpu_quota(process) is None
    (mount / "job/cpu.cfs_quota_us").write_text("50000\n")
    (mount / "job/cpu.stat").write_text("nr_periods 20\nnr_throttled 12\nthrottled_time 600000000\n")
    assert cpu_quota(process) == 0.5
    found = throttling(process)
    assert found is not None
    assert (found.periods, found.seconds) == (12, 0.6)


def test_threads_are_the_quota_rounded_up_and_no_more_than_the_processors(tmp_path: Path) -> None:
    process = v2_process(tmp_path, "/")
    write_group(tmp_path / "cgroup fs", cpu_max="10000 100000\n")
    assert usable_cpus(process) == 1
    available = describe_machine().cpus
    for processors in (1.0, 1.1, 2.0, 1000.5):
        (tmp_path / "cgroup fs/cpu.max").write_text(f"{round(processors * 100000)} 100000\n")
        assert usable_cpus(process) == min(available, ceil(processors))
    assert usable_cpus(tmp_path / "nowhere") == available


@pytest.fixture
def half_a_processor() -> Iterator[Path]:
    """Make a control group with half a processor, where this process may; the file that processes join it by."""
    version_1 = (V1 / "cpu.cfs_period_us").exists() or (V1 / "cgroup.procs").exists()
    group = (V1 if version_1 else V2) / "kprune-export-test"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"needs the right to make a control group: {error}")
    try:
        try:
            if version_1:
                (group / "cpu.cfs_quota_us").write_text("50000")
            else:
                (group / "cpu.max").write_text("50000 100000")
        except OSError as error:
            pytest.skip(f"needs a CPU controller for its control group: {error}")
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def test_a_real_quota_decides_threads_and_is_recorded(half_a_processor: Path) -> None:
    program = (
        "import os, sys, time\n"
        f"open({str(half_a_processor)!r}, 'w').write(str(os.getpid()))\n"
        "from exporters.machine.cpu_quota import throttling, usable_cpus\n"
        "before = throttling()\n"
        "end = time.process_time() + 0.3\n"
        "while time.process_time() < end: pass\n"
        "after = throttling()\n"
        "from exporters.machine.description import describe_machine\n"
        "from kprune_export.pipeline.job import thread_count\n"
        "from kprune_export.recipe.recipe import Recipe\n"
        "recipe = Recipe(model='m', output='o')\n"
        "print(usable_cpus(), describe_machine().cpu_quota, thread_count(recipe),\n"
        "      thread_count(recipe.model_copy(update={'threads': 3})), after.periods > before.periods,\n"
        "      after.seconds > before.seconds)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.split() == ["1", "0.5", "1", "3", "True", "True"]
