"""Folders and programs that do not outlive the process that made them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from exporters.processes.guardian import NOT_STARTED, end_guardian, start_guardian
from exporters.processes.scratch import scratch_folder

HOLDER = """
import sys, time
from pathlib import Path
from exporters.processes.scratch import scratch_folder
with scratch_folder() as first, scratch_folder() as second:
    for folder in (first, second):
        (folder / "model.onnx").write_bytes(b"x" * 1000)
    print("ready", flush=True)
    sys.stdin.read()
print("left", flush=True)
sys.stdin.read()
"""
SLEEPER = "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); print('up', flush=True); time.sleep(600)"


def until_gone(path: Path, seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    return not path.exists()


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_folders_do_not_outlive_a_process_that_is_killed(number: signal.Signals, temporary: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(temporary)},
        preexec_fn=lambda: number == signal.SIGKILL or signal.signal(number, signal.SIG_DFL),
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    (root,) = temporary.iterdir()
    assert len(list(root.rglob("model.onnx"))) == 2
    holder.send_signal(number)
    holder.wait(60)
    assert until_gone(root)
    holder.communicate()


def test_folders_go_with_their_context_and_with_a_process_that_ends(temporary: Path) -> None:
    code = HOLDER.replace("    sys.stdin.read()\nprint", "    pass\nprint")
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip
    assert holder.stdout is not None
    assert [holder.stdout.readline() for _ in range(2)] == [b"ready\n", b"left\n"]
    (root,) = temporary.iterdir()
    assert list(root.iterdir()) == []
    holder.communicate()
    assert holder.returncode == 0
    assert list(temporary.iterdir()) == []


def test_a_folder_is_empty_and_ones_own() -> None:
    with scratch_folder() as one, scratch_folder() as other:
        assert one != other
        assert one.stat().st_mode & 0o077 == 0
        assert list(one.iterdir()) == []
    assert not one.exists()


def test_a_program_and_what_it_started_end_with_the_starter(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from exporters.processes.guardian import start_guardian
log = open({str(tmp_path / "log")!r}, "wb")
print(start_guardian([sys.executable, "-c", {SLEEPER!r}], log=log).pid, flush=True)
sys.stdin.read()
"""
    starter = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert starter.stdout is not None
    guardian = psutil.Process(int(starter.stdout.readline()))
    end = time.monotonic() + 60
    while len(running := guardian.children(recursive=True)) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert len(running) == 2
    starter.kill()
    starter.communicate()
    _, alive = psutil.wait_procs([guardian, *running], timeout=60)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_a_programs_exit_code_and_what_python_compiled(tmp_path: Path) -> None:
    (tmp_path / "before" / "__pycache__").mkdir(parents=True)
    code = f"import sys; from pathlib import Path; Path({str(tmp_path / 'a' / '__pycache__')!r}).mkdir(parents=True); "
    guardian = start_guardian([sys.executable, "-c", code + "sys.exit(7)"], compiled=[tmp_path])
    assert guardian.wait(60) == 7
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "a",
        "before",
        "before/__pycache__",
    ]
    end_guardian(guardian)


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("neither a script nor a program")
    program.chmod(0o755)
    with (tmp_path / "log").open("w+b") as log:
        guardian = start_guardian([str(program)], log=log)
        assert guardian.wait(60) == NOT_STARTED
        log.seek(0)
        assert log.read().decode() == f"{program} cannot be started: Exec format error\n"
    end_guardian(guardian)
