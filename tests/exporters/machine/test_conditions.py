"""What the kernel says of processors, with files as it writes them, and on this machine."""

import os
from pathlib import Path

from exporters.machine.cpu import affinity, processor_list, read_cpu

CPUINFO = """processor\t: 0
model name\t: A Processor
cpu MHz\t\t: 2599.998

processor\t: 1
model name\t: A Processor
cpu MHz\t\t: 800.000

processor\t: 2
cpu MHz\t\t: 3600.125
"""


def test_clocks_by_hand(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO)
    found = read_cpu([0, 2], tmp_path / "cpu", cpuinfo)
    assert (found.slowest_mhz, found.fastest_mhz) == (2600.0, 3600.1)  # processor 1 is not ours
    for number, kilohertz in ((0, 2100000), (2, 3900000)):
        folder = tmp_path / f"cpu/cpu{number}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{kilohertz}\n")
    found = read_cpu([0, 2], tmp_path / "cpu", cpuinfo)
    assert (found.slowest_mhz, found.fastest_mhz) == (2100.0, 3900.0)  # cpufreq's, where there is one
    found = read_cpu([0, 1, 2], tmp_path / "cpu", cpuinfo)
    assert (found.slowest_mhz, found.fastest_mhz) == (800.0, 3600.1)  # of all or of none
    found = read_cpu([0], tmp_path / "none", tmp_path / "none")
    assert (found.slowest_mhz, found.fastest_mhz) == (None, None)


def test_lists_by_hand() -> None:
    assert processor_list([0, 1, 2, 3, 8]) == "0-3,8"
    assert processor_list([5, 3, 7]) == "3,5,7"
    assert processor_list([]) == ""


def test_this_machine() -> None:
    assert set(affinity()) == os.sched_getaffinity(0)
    assert read_cpu().load_1min >= 0
