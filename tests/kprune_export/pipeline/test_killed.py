"""Commands that are killed: what they leave in the folder for temporary files."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kprune_export.pipeline.run import Outcome


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGHUP, 143)])
def test_validate_leaves_no_copies(number: signal.Signals, code: int, built: Outcome, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kprune_export", "validate", str(built.output), "--timing-seconds", "600"]
    running = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "2"},
        preexec_fn=lambda: number == signal.SIGKILL or signal.signal(number, signal.SIG_DFL),
    )  # fmt: skip
    end = time.monotonic() + 300
    while not list(tmp_path.rglob("*.onnx")) and time.monotonic() < end:
        assert running.poll() is None
        time.sleep(0.05)
    assert list(tmp_path.rglob("*.onnx"))
    running.send_signal(number)
    assert running.wait(60) == code
    while list(tmp_path.glob("kprune-*")) and time.monotonic() < end:
        time.sleep(0.05)
    assert list(tmp_path.glob("kprune-*")) == []  # libraries keep caches of their own beside
