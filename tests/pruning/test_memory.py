"""Large blocks leave no holes in the heap, in a process of its own: the setting cannot be taken back."""

import subprocess
import sys

import pytest
from project_root import ROOT

PROGRAM = """
import sys
import numpy as np
import psutil
from pruning.memory import keep_large_blocks_apart

if sys.argv[1] == "apart":
    keep_large_blocks_apart()
held = lambda: psutil.Process().memory_info().rss
np.ones(3 << 20)  # 24 MiB: freed, it tells the C library to take such blocks from its heap
large, small = [], []
for _ in range(8):
    large.append(np.ones(2 << 20))
    small.append(np.ones(1 << 13))
before = held()
del large
print((before - held()) >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc's malloc, which Linux has")
def test_large_blocks_are_given_back_when_they_are_freed() -> None:
    def freed(how: str) -> int:
        command = [sys.executable, "-c", PROGRAM, how]
        return int(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)

    assert freed("as ever") < 100
    assert freed("apart") >= 120  # of 128 MiB
