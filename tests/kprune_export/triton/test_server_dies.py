"""A Triton server that dies while it is checked: the check ends, and says which requests failed."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil


def tritonservers(parent: int) -> Iterator[psutil.Process]:
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # one that has just ended
            if "tritonserver" in " ".join(process.cmdline()):
                yield process


def test_a_server_that_dies_fails_its_requests(server: str, classifier_repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kprune_export", "serve-check", str(classifier_repository), "--server", server]
    with (tmp_path / "out").open("w+") as out, (tmp_path / "err").open("w+") as err:
        check = subprocess.Popen([*command, "--requests", "4000", "--json"], stdout=out, stderr=err)
        answering = time.monotonic() + 120
        while not (running := list(tritonservers(check.pid))) and time.monotonic() < answering:
            time.sleep(0.05)
        main = min(running, key=lambda process: process.create_time())
        while len(main.net_connections()) < 4 and time.monotonic() < answering:  # two that listen, and clients
            time.sleep(0.02)
        for process in (main, *main.children(recursive=True)):
            process.send_signal(signal.SIGKILL)
        assert check.wait(120) == 4
        out.seek(0)
        err.seek(0)
        report, said = json.loads(out.read()), err.read()
    failed = [row for row in report["rows"] if row["failures"]]
    assert failed
    assert all("the request failed: " in row["failures"][-1] for row in failed)
    assert sum(row["requests"] for row in report["rows"]) == 4 * 4000  # none is left out of the count
    assert "Traceback" not in said
    assert not main.is_running() or main.status() == psutil.STATUS_ZOMBIE
