"""A Triton server that dies while it is checked, and a check that is killed: neither leaves the other waiting."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest


def tritonservers(parent: int) -> Iterator[psutil.Process]:
    """Yield the server and the processes of its Python backend, without the guardian that started it."""
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # one that has just ended
            command = " ".join(process.cmdline())
            if "tritonserver" in command and "guardian.py" not in command:
                yield process


def answering(check: "subprocess.Popen[bytes]") -> psutil.Process:
    """Wait until a check's server is asked something, and return the server."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        running = sorted(tritonservers(check.pid), key=lambda process: process.create_time())
        with contextlib.suppress(psutil.NoSuchProcess):
            if running and len(running[0].net_connections()) >= 4:  # two that listen, and clients
                return running[0]
        time.sleep(0.02)
    raise TimeoutError("no server was asked anything")


def test_a_server_that_dies_fails_its_requests(server: str, classifier_repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kprune_export", "serve-check", str(classifier_repository), "--server", server]
    with (tmp_path / "out").open("w+") as out, (tmp_path / "err").open("w+") as err:
        check = subprocess.Popen([*command, "--requests", "4000", "--json"], stdout=out, stderr=err)
        main = answering(check)
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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGHUP])
def test_a_server_ends_with_a_check_that_is_killed(
    number: signal.Signals, server: str, classifier_repository: Path, tmp_path: Path
) -> None:
    repository = Path(shutil.copytree(classifier_repository, tmp_path / "models"))
    before = sorted(repository.rglob("*"))
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "kprune_export", "serve-check", str(repository), "--server", server]
    check = subprocess.Popen(
        [*command, "--requests", "4000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        preexec_fn=lambda: number == signal.SIGKILL or signal.signal(number, signal.SIG_DFL),
    )  # fmt: skip
    try:
        answering(check)
        processes = psutil.Process(check.pid).children(recursive=True)
    finally:
        check.send_signal(number)
        check.wait(120)
    _, alive = psutil.wait_procs(processes, timeout=120)
    assert [process.cmdline() for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert sorted(repository.rglob("*")) == before
    assert list((tmp_path / "tmp").glob("kprune-*")) == []
