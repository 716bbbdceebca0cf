"""Where attempts take place: a folder for each, copies of a tiny model and its bundle, and the product's commands."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from break_in_attempts.checks import Broken, Ended, absent, refused, snapshot, unchanged

Act = Callable[["Scene"], None]
QUICK = (
    "--samples", "100", "--sequence-length", "16", "--shapes", "1x8", "--timing-seconds", "0.02", "--threads", "1",
)  # fmt: skip
LONGEST_SECONDS = 300
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


@dataclass(frozen=True)
class Attempt:
    """One attempt: what is tried, and the function that tries it, which raises `Broken` where it succeeds."""

    name: str
    act: Act


@dataclass(frozen=True)
class Kind:
    """A kind of attempt.

    Attributes:
        name: of what is tried.
        right: what the product must do.
        attempts: the ways in which it is tried.

    """

    name: str
    right: str
    attempts: tuple[Attempt, ...]


def each(act: Callable[..., None], cases: Mapping[str, tuple[Any, ...]] | tuple[str, ...]) -> tuple[Attempt, ...]:
    """Return an attempt for each case: a name and the function's arguments, or the name as the only one."""
    named = cases if isinstance(cases, Mapping) else {name: (name,) for name in cases}
    return tuple(Attempt(name, _bound(act, arguments)) for name, arguments in named.items())


def _bound(act: Callable[..., None], arguments: tuple[Any, ...]) -> Act:
    return lambda scene: act(scene, *arguments)


@dataclass(frozen=True)
class Materials:
    """What is made once, and copied by the attempts that change it.

    Attributes:
        folder: where all of it is.

    """

    folder: Path

    @property
    def texts(self) -> Path:
        """300 sentences of words that the models know."""
        return self.folder / "texts.txt"

    @property
    def key(self) -> Path:
        """A private key; the public one is beside it, as ``public.pem``."""
        return self.folder / "key.pem"

    def __getattr__(self, name: str) -> Path:
        """Return a folder or a file that was made: classifier, embedder, bundle, repository, exported, swept."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self.folder / name


@dataclass(frozen=True)
class Scene:
    """The folder of an attempt, and what it is tried with."""

    folder: Path
    made: Materials
    base_mib: float

    @property
    def out(self) -> Path:
        """An output folder that is not there yet."""
        return self.folder / "out"

    @property
    def mark(self) -> Path:
        """The file that foreign code would write."""
        return self.folder / "ran"

    @property
    def texts(self) -> tuple[str, str]:
        """The option with the texts."""
        return ("--calibration", str(self.made.texts))

    def copy(self, name: str, to: str = "") -> Path:
        """Return a copy of something that was made."""
        return Path(shutil.copytree(self.made.folder / name, self.folder / (to or name), symlinks=True))

    def edit(self, path: Path, **changes: Any) -> None:
        """Change keys of a JSON file; a value of ... removes the key."""
        values = json.loads(path.read_text(encoding="utf-8")) | changes
        path.write_text(json.dumps({k: v for k, v in values.items() if v is not ...}), encoding="utf-8")

    def run(self, *arguments: object, real: bool = False, **settings: Any) -> Ended:
        """Run a command of the product to its end; the keyword arguments are those of `run_command`."""
        return run_command([*map(str, arguments)], self.folder, real=real, **settings)

    def refuse(self, arguments: tuple[object, ...], *named: str, keeps: tuple[Path, ...] = (), **settings: Any) -> None:
        """Run a command that must be refused: with one sentence, no output, and places unchanged."""
        codes = settings.pop("codes", (2,))
        before, was_there = snapshot(*keeps), self.out.exists()
        ended = self.run(*arguments, **settings)
        refused(ended, *named, codes=codes)
        unchanged(before, *keeps)
        if not was_there:
            absent(self.out)


def run_command(
    arguments: list[str],
    folder: Path,
    *,
    real: bool = False,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    prepare: Callable[[], None] | None = None,
    during: Callable[[int], None] | None = None,
    shell: str = "",
    limit: float = LONGEST_SECONDS,
    encoding: str = "utf-8",
) -> Ended:
    """Run a command of the product to its end.

    Args:
        arguments: those of ``kprune-export``.
        folder: where its output is kept.
        real: whether to start a process; else one is forked that has all imports behind it.
        cwd: its working directory.
        env: environment variables that are added.
        prepare: is called in the child before the command begins.
        during: is called with the process id while the command runs.
        shell: redirections in the shell's syntax, for a process that is started.
        limit: seconds after which it is killed.
        encoding: of what it prints.

    """
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    number = len(list(folder.glob(".stdout*")))
    out, err = folder / f".stdout{number}", folder / f".stderr{number}"
    out.touch()  # before another command is run beside this one
    if real:
        environment = {**os.environ, **(env or {})}
        script = str(Path(sys.executable).with_name("kprune-export"))
        whole = ["sh", "-c", f'exec "$@" {shell}', "sh", script, *arguments] if shell else [script, *arguments]
        with out.open("wb") as stdout, err.open("wb") as stderr:
            pid = subprocess.Popen(
                whole, cwd=cwd or folder, env=environment, preexec_fn=prepare, stdout=stdout, stderr=stderr
            ).pid  # fmt: skip
    else:
        pid = os.fork()
        if pid == 0:
            _be_command(arguments, cwd or folder, env or {}, prepare, (out, err))
    if during:
        during(pid)
    code, cpu, peak = _wait(pid, limit)
    texts = [path.read_text(encoding=encoding, errors="surrogateescape") for path in (out, err)]
    return Ended(code, texts[0], texts[1], cpu, peak)


def _wait(pid: int, limit: float) -> tuple[int | None, float, float]:
    end = time.monotonic() + limit
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.wait4(pid, 0)
            return None, limit, 0.0
        time.sleep(0.005)


def _be_command(
    arguments: list[str],
    cwd: Path,
    env: Mapping[str, str],
    prepare: Callable[[], None] | None,
    streams: tuple[Path, Path],
) -> None:
    """Become the command, as the console script runs it; does not return."""
    code = 1
    try:
        for descriptor, path in zip((1, 2), streams, strict=True):
            opened = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
            os.dup2(opened, descriptor)
            os.close(opened)
        os.chdir(cwd)
        os.environ.update(env)
        if prepare:
            prepare()
        from kprune_export.cli.app import main

        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        sys.argv = ["kprune-export", *arguments]
        main()
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException as error:
        os.write(2, f"Traceback (most recent call last): {type(error).__name__}: {error}\n".encode())
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)


def expect(holds: bool, broken: str) -> None:
    """Check that something is so.

    Raises:
        Broken: it is not; the words say what is.

    """
    if not holds:
        raise Broken(broken)
