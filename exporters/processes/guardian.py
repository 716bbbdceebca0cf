"""A process that cleans up after the one that started it, however that ends: by itself, or killed.

`start_guardian` runs this file as a script, isolated, so that it is there in milliseconds and imports nothing else:

    python -I guardian.py [--remove FOLDER]... [--compiled FOLDER]... [-- PROGRAM ARGUMENT...]

Its standard input is a pipe whose other end only its starter has. Once that is closed it ends the program and all that
this has started, and removes the folders. Where the program ends first, it ends with the program's exit code.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

GRACE_S = 20.0
"""How long the program may take to end before it is killed."""
NOT_STARTED = 127
"""The exit code where the program cannot be started, as a shell has it."""
_COMPILED = "__pycache__"


def start_guardian(
    program: Sequence[str] = (),
    *,
    remove: Sequence[Path] = (),
    compiled: Sequence[Path] = (),
    log: IO[bytes] | int = subprocess.DEVNULL,
    cwd: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a guardian; closing its standard input has it clean up and end, as the end of this process does.

    Args:
        program: what it runs, if anything; its process group is the guardian's.
        remove: folders that it removes at last.
        compiled: folders from which it removes what Python has compiled meanwhile, as Triton's Python backend does.
        log: where the program's output goes.
        cwd: the working directory of both.

    """
    command = [sys.executable, "-I", __file__]
    for flag, folders in (("--remove", remove), ("--compiled", compiled)):
        command += [text for folder in folders for text in (flag, str(folder.absolute()))]
    return subprocess.Popen(
        [*command, "--", *program], stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=cwd, start_new_session=True
    )


def end_guardian(guardian: "subprocess.Popen[bytes]") -> None:
    """Have a guardian clean up, wait until it has, and end what is left of its process group."""
    if guardian.stdin is not None:
        guardian.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        guardian.wait(2 * GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(guardian.pid, signal.SIGKILL)
    guardian.wait()


class _Guardian:
    """The process itself."""

    def __init__(self, program: Sequence[str], remove: Sequence[Path], compiled: Sequence[Path]) -> None:
        self._remove, self._folders = remove, compiled
        self._compiled = self._find_compiled()
        self._starter_is_gone = threading.Event()
        self._program: subprocess.Popen[bytes] | None = None
        if program:
            self._program = subprocess.Popen(program, stdin=subprocess.DEVNULL)

    def watch(self) -> int:
        """Wait for the end of the starter or of the program, clean up, and return the exit code."""
        if self._program is None:
            _wait_for_end_of_starter()
            self._clean()
            return 0
        threading.Thread(target=self._end_with_starter, args=(self._program,), daemon=True).start()
        code = self._program.wait()
        self._clean()
        if self._starter_is_gone.is_set():
            os.killpg(os.getpgrp(), signal.SIGKILL)  # what the program has started, and this process with it
        return code if code >= 0 else 128 - code

    def _end_with_starter(self, program: "subprocess.Popen[bytes]") -> None:
        _wait_for_end_of_starter()
        self._starter_is_gone.set()
        program.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(GRACE_S)
        program.kill()

    def _clean(self) -> None:
        for folder in (*self._remove, *(self._find_compiled() - self._compiled)):
            shutil.rmtree(folder, ignore_errors=True)

    def _find_compiled(self) -> set[Path]:
        return {path for folder in self._folders for path in folder.rglob(_COMPILED)}


def _wait_for_end_of_starter() -> None:
    while os.read(0, 1):
        pass


def main() -> int:
    """Run as a script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--remove", type=Path, action="append", default=[])
    parser.add_argument("--compiled", type=Path, action="append", default=[])
    parser.add_argument("program", nargs="*")
    options = parser.parse_args()
    try:
        guardian = _Guardian(options.program, options.remove, options.compiled)
    except OSError as error:
        print(f"{options.program[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return NOT_STARTED
    return guardian.watch()


if __name__ == "__main__":
    sys.exit(main())
