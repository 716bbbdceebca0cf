"""How a process is started, limited, watched and ended."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from break_in_attempts.checks import Broken, clean, no_crash, nothing_runs, refused
from break_in_attempts.scene import QUICK, Ended, Kind, Scene, each, expect

_PRUNING = (*QUICK[:4], *QUICK[8:])


def _commands(scene: Scene) -> dict[str, tuple[object, ...]]:
    return {
        "--help": ("--help",),
        "prune --help": ("prune", "--help"),
        "--version": ("--version",),
        "inspect": ("inspect", scene.made.bundle),
        "verify": ("verify", scene.made.bundle),
        "diff": ("diff", scene.made.bundle, scene.made.bundle),
        "diff --markdown": ("diff", scene.made.bundle, scene.made.bundle, "--markdown"),
        "prune": ("prune", scene.made.classifier, "-o", scene.out, *scene.texts, *_PRUNING),
        "a bad model": ("inspect", scene.folder / "nothing"),
    }


def streams(scene: Scene, command: str, shell: str) -> None:
    """Standard streams that are closed change no exit code."""
    ended = scene.run(*_commands(scene)[command], real=True, shell=shell)
    wanted = 2 if command == "a bad model" else 0
    expect(ended.code == wanted, f"exit code {ended.code}, where {wanted} is right: {ended.err[-200:]}")
    expect("Traceback" not in ended.err, "a traceback")


def full_output(scene: Scene, command: str) -> None:
    """Output that cannot be written is an error."""
    refused(scene.run(*_commands(scene)[command], real=True, shell=">/dev/full"), "no space")


def gone_reader(scene: Scene, command: str) -> None:
    """A pipe whose reader has gone changes no exit code."""
    read, write = os.pipe()
    os.close(read)
    script = Path(sys.executable).with_name("kprune-export")
    arguments = [str(script), *map(str, _commands(scene)[command])]
    done = subprocess.run(arguments, stdout=write, stderr=subprocess.PIPE, check=False, cwd=scene.folder)
    os.close(write)
    expect(
        done.returncode == 0 and b"Traceback" not in done.stderr, f"{done.returncode}: {done.stderr.decode()[-200:]}"
    )


def encoding(scene: Scene, command: str, name: str) -> None:
    """Output in an encoding that lacks characters."""
    ended = scene.run(
        *_commands(scene)[command], real=True, env={"PYTHONIOENCODING": name, "LC_ALL": "C"}, encoding=name
    )
    clean(ended)


def environment(scene: Scene, variable: str, value: str) -> None:
    """Environment variables that are empty, or hold nonsense: done as ever, or one sentence."""
    ended = scene.run(*_commands(scene)["prune"], real=True, env={variable: value})
    refused(ended, codes=(0, 2))


def working_directory(scene: Scene, what: str, command: str) -> None:
    """A working directory that is gone, or cannot be read."""
    place = scene.folder / "here"
    place.mkdir()

    def prepare() -> None:
        os.chdir(place)
        if what == "gone":
            place.rmdir()

    ended = scene.run(*_commands(scene)[command], real=True, cwd=place, prepare=prepare)
    refused(ended, "working directory")


def limited(scene: Scene, limit: str, value: int) -> None:
    """Limits of open files, of file sizes, of processes and of memory."""

    def prepare() -> None:
        number = getattr(resource, limit)
        resource.setrlimit(number, (value, value))

    ended = scene.run(*_commands(scene)["prune"], real=True, prepare=prepare)
    refused(ended, codes=(0, 2))
    if ended.code:
        expect(not scene.out.exists(), "an output folder was left")


def no_temporary_folder(scene: Scene, what: str) -> None:
    """No folder for temporary files, and no home that can be written to."""
    variables = {"TMPDIR": {"TMPDIR": "/nowhere"}, "HOME": {"HOME": "/nowhere", "XDG_STATE_HOME": "/dev/null/x"}}[what]
    refused(scene.run(*_commands(scene)["prune"], real=True, env=variables), codes=(0, 2))


def _temporary(scene: Scene) -> Path:
    place = scene.folder / "tmp"
    place.mkdir()
    return place


def _after_work_began(scene: Scene, act: Callable[[int], None], delay: float) -> Callable[[int], None]:
    def watch(pid: int) -> None:
        end = time.monotonic() + 90
        while not (scene.out / ".kprune-export" / "work.json").exists() and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(delay)
        act(pid)

    return watch


def signalled(scene: Scene, name: str, delay: float, command: str) -> None:
    """A signal in mid-run: the right exit code, no process and no temporary file left, and a rerun completes it."""
    temporary = _temporary(scene)
    number = getattr(signal, name)
    arguments = (
        (command.split()[0], scene.made.classifier, "-o", scene.out, *scene.texts, *QUICK, *command.split()[1:])
        if command != "validate"
        else ("validate", scene.made.bundle, "--shapes", "1x4", "--timing-seconds", 3, "--threads", 1, "-o", scene.out)
    )
    sent = []

    def send(pid: int) -> None:
        if psutil.pid_exists(pid):
            os.kill(pid, number)
            sent.append(pid)

    during = _after_work_began(scene, send, delay)
    ended = scene.run(*arguments, real=True, env={"TMPDIR": str(temporary)}, during=during)
    right = {"SIGINT": (130,), "SIGTERM": (143,), "SIGHUP": (143,), "SIGKILL": (-9,), "SIGQUIT": (-3,)}[name]
    expect(ended.code in (0, *right), f"exit code {ended.code}, where one of {right} is right: {ended.err[-200:]}")
    expect("Traceback" not in ended.err, f"a traceback: {ended.err[-200:]}")
    nothing_runs()
    if name in ("SIGINT", "SIGTERM", "SIGHUP"):
        left = [path.name for path in temporary.iterdir()]
        expect(not left, f"left in the temporary folder: {left[:3]}")
    clean(scene.run(*arguments))


def two_at_once(scene: Scene, first: str, second: str) -> None:
    """Two runs into the same folder at once: one is done, the other says why it is not."""
    other: list[Ended] = []

    def start(_pid: int) -> None:
        other.append(scene.run(second, scene.made.classifier, "-o", scene.out, *scene.texts, *_options(second)))

    one = scene.run(first, scene.made.classifier, "-o", scene.out, *scene.texts, *_options(first), during=start)
    for ended in (one, *other):
        refused(ended, codes=(0, 2))
    if one.code and other[0].code:
        raise Broken("neither of them was done")
    clean(scene.run("verify", scene.out))


def _options(command: str) -> tuple[object, ...]:
    return {"prune": _PRUNING, "prune-and-build": QUICK, "export": ("--threads", 1)}[command]


def small_disk(scene: Scene, kib: int) -> None:
    """A disk that is full: one sentence, and the old bundle as it was."""
    disk = scene.folder / "disk"
    disk.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk))
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return  # no right to mount here: the tests of the product do it where there is
    try:
        free = os.statvfs(disk)
        (disk / "filler").write_bytes(b"x" * (free.f_bavail * free.f_frsize - kib * 1024))
        command = ("prune-and-build", scene.made.classifier, "-o", disk / "out", *scene.texts, *QUICK)
        ended = scene.run(*command)
        no_crash(ended)
        expect(ended.code in (0, 2), f"exit code {ended.code}")
        expect(ended.code == 0 or not (disk / "out" / "manifest.json").exists(), "a bundle that is not whole")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


_SHELLS = (">&-", "2>&-", "<&- >&- 2>&-", "</dev/null", "2>/dev/full")
KINDS = (
    Kind(
        "streams that are closed",
        "the same exit code",
        each(
            streams,
            {
                f"{command} {shell}": (command, shell)
                for command in ("--help", "inspect", "prune", "a bad model")
                for shell in _SHELLS
            },
        ),
    ),
    Kind(
        "output on a full disk",
        "one sentence",
        each(full_output, ("--help", "--version", "inspect", "diff --markdown")),
    ),
    Kind("a reader that has gone", "the same exit code", each(gone_reader, ("--help", "inspect", "diff", "verify"))),
    Kind(
        "an encoding that lacks characters",
        "written out",
        each(
            encoding,
            {
                f"{command} in {name}": (command, name)
                for command in ("--help", "prune --help", "diff", "inspect")
                for name in ("ascii", "latin-1", "utf-16")
            },
        ),
    ),
    Kind(
        "environment variables",
        "done, or one sentence",
        each(
            environment,
            {
                f"{variable}={value}": (variable, value)
                for variable, value in (
                    ("WORLD_SIZE", ""),
                    ("WORLD_SIZE", "abc"),
                    ("WORLD_SIZE", "-1"),
                    ("WORLD_SIZE", "2"),
                    ("RANK", "7"),
                    ("OMP_NUM_THREADS", "abc"),
                    ("OMP_NUM_THREADS", "0"),
                    ("COLUMNS", "1"),
                    ("COLUMNS", "abc"),
                    ("TERM", "nothing"),
                    ("GITHUB_STEP_SUMMARY", "/nowhere/x"),
                    ("GITHUB_STEP_SUMMARY", ""),
                    ("PYTHONHASHSEED", "7"),
                    ("LANG", "nothing"),
                    ("PYTHONWARNINGS", "error"),
                    ("CUDA_VISIBLE_DEVICES", "abc"),
                    ("HF_HOME", "/dev/null"),
                    ("XDG_STATE_HOME", "relative"),
                )
            },
        ),
    ),
    Kind(
        "a working directory that is gone",
        "one sentence",
        each(working_directory, {command: ("gone", command) for command in ("inspect", "prune", "verify")}),
    ),
    Kind(
        "limits of the process",
        "done, or one sentence and no output",
        each(
            limited,
            {
                f"{limit[7:]} {value}": (limit, value)
                for limit, value in (
                    ("RLIMIT_NOFILE", 20),
                    ("RLIMIT_NOFILE", 64),
                    ("RLIMIT_NOFILE", 300),
                    ("RLIMIT_FSIZE", 4096),  # standard error is a file too
                    ("RLIMIT_FSIZE", 1024),
                    ("RLIMIT_FSIZE", 60 * 1024),
                    ("RLIMIT_CORE", 0),
                    ("RLIMIT_STACK", 2**20),
                )
            },
        ),
    ),
    Kind("nowhere to write to", "done, or one sentence", each(no_temporary_folder, ("TMPDIR", "HOME"))),
    Kind(
        "signals in mid-run",
        "the right exit code, nothing left, a rerun completes it",
        each(
            signalled,
            {
                f"{name} to {command} after {delay} s": (name, delay, command)
                for name, delay, command in (
                    ("SIGINT", 0.5, "prune-and-build"),
                    ("SIGTERM", 0.5, "prune-and-build"),
                    ("SIGHUP", 0.5, "prune-and-build"),
                    ("SIGKILL", 0.5, "prune-and-build"),
                    ("SIGQUIT", 0.5, "prune-and-build"),
                    ("SIGTERM", 4, "prune-and-build"),
                    ("SIGHUP", 6, "prune-and-build --isolate"),
                    ("SIGKILL", 8, "prune-and-build --isolate"),
                    ("SIGTERM", 1, "validate"),
                    ("SIGHUP", 3, "validate"),
                )
            },
        ),
    ),
    Kind(
        "two runs at once",
        "one is done, the other says why not",
        each(
            two_at_once,
            {
                f"{first} and {second}": (first, second)
                for first, second in (
                    ("prune", "prune"),
                    ("prune-and-build", "prune"),
                    ("export", "prune"),
                    ("prune", "prune-and-build"),
                )
            },
        ),
    ),
    Kind(
        "a disk that is full",
        "one sentence, no half bundle",
        each(small_disk, {f"{kib} KiB": (kib,) for kib in (0, 20, 100, 300, 600)}),
    ),
)
