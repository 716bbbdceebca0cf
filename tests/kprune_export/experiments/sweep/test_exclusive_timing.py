"""The timing lock of a sweep, held by real processes."""

import subprocess
import sys
import time
from pathlib import Path

from kprune_export.experiments.sweep.exclusive_timing import TimingLock

_RUN = """
import sys, time
from pathlib import Path
from kprune_export.experiments.sweep.exclusive_timing import TimingLock
with TimingLock.join(Path(sys.argv[1])) as turns:
    for stage in range(6):
        alone = stage % 3 == int(sys.argv[2]) % 3
        with turns.stage(alone):
            begin = time.monotonic()
            time.sleep(0.05)
            print(int(alone), begin, time.monotonic(), flush=True)
"""


def test_nothing_runs_beside_what_is_alone_and_the_rest_runs_side_by_side(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _RUN, str(tmp_path / "turns")]
    runs = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(3)]
    spans = []
    for number, run in enumerate(runs):
        out, _ = run.communicate(timeout=60)
        assert run.returncode == 0
        lines = [line.split() for line in out.splitlines()]
        assert len(lines) == 6
        spans += [(number, alone == "1", float(begin), float(end)) for alone, begin, end in lines]
    for number, alone, begin, end in spans:
        beside = [x for x in spans if x[0] != number and x[2] < end and begin < x[3]]
        assert not alone or not beside


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    hold = "from kprune_export.experiments.sweep.exclusive_timing import TimingLock\nimport sys, time\n"
    hold += "from pathlib import Path\n"
    hold += "with TimingLock.join(Path(sys.argv[1])) as t, t.stage(True): print('alone', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "alone\n"
    process.kill()
    process.communicate()
    start = time.monotonic()
    with TimingLock.join(tmp_path) as turns, turns.stage(exclusive=True):
        assert time.monotonic() - start < 10


def test_a_process_that_waits_can_be_terminated(tmp_path: Path) -> None:
    wait = "from kprune_export.experiments.sweep.exclusive_timing import TimingLock\nimport signal, sys\n"
    wait += "from pathlib import Path\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
    wait += "print('waits', flush=True)\nwith TimingLock.join(Path(sys.argv[1])): pass"
    with TimingLock.join(tmp_path) as lock, lock.stage(exclusive=True):
        process = subprocess.Popen([sys.executable, "-c", wait, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.terminate()
        assert process.wait(30) in (7, -15)
        process.stdout.close()
