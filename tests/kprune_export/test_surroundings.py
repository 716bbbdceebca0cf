"""How a command is started: closed streams, pipes nobody reads, encodings, directories that are gone, limits."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kprune_export.errors import ExitCode, SurroundingsError, exit_code_of, message_of
from kprune_export.pipeline import Outcome
from kprune_export.sharing import launched_processes

Cli = Callable[..., int]
QUIET = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}


def run(arguments: Sequence[object], shell: str = "", **settings: Any) -> "subprocess.CompletedProcess[bytes]":
    """Run the command line as a process of its own, with redirections in the shell's syntax."""
    command = [sys.executable, "-m", "kprune_export", *map(str, arguments)]
    environment = {**os.environ, **QUIET, **settings.pop("env", {})}
    return subprocess.run(
        ["sh", "-c", f'"$@" {shell}', "sh", *command],
        capture_output=True, check=False, timeout=300, env=environment, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("shell", [">&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_change_no_exit_code(shell: str, built: Outcome) -> None:
    ended = run(("verify", built.output), shell)
    assert ended.returncode == 0
    assert b"Traceback" not in ended.stderr


def test_a_file_does_not_get_what_is_printed(built: Outcome, tmp_path: Path) -> None:
    """A descriptor that is closed is the first that is opened."""
    junit = tmp_path / "junit.xml"
    code = "import os, sys; from kprune_export.cli.streams import prepare_streams; prepare_streams(); "
    code += f"file = open({str(junit)!r}, 'w'); os.write(1, b'noise'); sys.exit(file.fileno() < 3)"
    assert subprocess.run(["sh", "-c", '"$@" <&- >&-', "sh", sys.executable, "-c", code], check=False).returncode == 0
    assert junit.read_text() == ""


@pytest.mark.parametrize("command", [("verify",), ("verify", "--json")])
def test_a_reader_that_has_gone_changes_no_exit_code(command: tuple[str, ...], built: Outcome, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(built.output, tmp_path / "bundle"))
    (bundle / "extra").write_text("")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        ended = subprocess.run(
            [sys.executable, "-m", "kprune_export", command[0], str(bundle), *command[1:]],
            stdout=pipe, stderr=subprocess.PIPE, check=False, env={**os.environ, **QUIET},
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (2, b"")


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("verify", "{}", "--json")])
def test_output_that_cannot_be_written_is_an_error(arguments: tuple[str, ...], built: Outcome) -> None:
    ended = run([x.format(built.output) for x in arguments], ">/dev/full")
    assert ended.returncode == 2
    assert ended.stderr == b"Error: No space is left on the disk: free some and run the same command again.\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_in_any_encoding(encoding: str, built: Outcome, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(built.output, tmp_path / "bündel ‖ 🙂"))
    env = {"PYTHONIOENCODING": encoding}
    for arguments in (
        ("--help",),
        ("diff", bundle, bundle),
        ("diff", bundle, bundle, "--markdown"),
        ("inspect", bundle),
    ):
        ended = run(arguments, env=env)
        assert (ended.returncode, ended.stderr) == (0, b"")
        ended.stdout.decode(encoding)
    ended = run(("verify", bundle, "--json"), env=env)
    assert json.loads(ended.stdout.decode(encoding))["bundle"] == str(bundle)


def test_a_working_directory_that_is_gone(built: Outcome, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    ended = run(("verify", built.output), "; code=$?; exit $code", cwd=gone)
    assert ended.returncode == 0
    command = [sys.executable, "-m", "kprune_export", "verify", str(built.output)]
    ended = subprocess.run(
        ["sh", "-c", 'rmdir "$1" && shift && exec "$@"', "sh", str(gone), *command],
        cwd=gone, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[1:])},
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr == b"Error: The working directory has been removed: change to another one.\n"


def test_few_open_files_are_refused_and_a_low_soft_limit_is_raised(built: Outcome) -> None:
    def low(hard: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 32), hard))

    ended = run(("verify", built.output), preexec_fn=low(64))
    assert ended.returncode == 2
    assert b"may open 64 files at once, and 256 are needed: raise the limit (ulimit -n" in ended.stderr
    assert run(("verify", built.output), preexec_fn=low(1024)).returncode == 0


@pytest.mark.parametrize("kib", [1, 60])
def test_a_limit_of_file_sizes(kib: int, classifier: Path, texts_file: Path, tmp_path: Path) -> None:
    arguments = ("prune-and-build", classifier, "-o", tmp_path / "out", "--calibration", texts_file, "--samples", 60)
    ended = run(
        (*arguments, "--threads", 2, "--shapes", "1x8", "--timing-seconds", 0.1),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, kib * 1024)),
    )
    assert ended.returncode == 2
    assert b"is larger than this process may write: raise the limit (ulimit -f" in ended.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE is 'abc', which is no count"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0', which is no count"),
        ({"WORLD_SIZE": "²"}, "which is no count"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "torchrun's LOCAL_RANK, MASTER_ADDR, MASTER_PORT are not set"),
    ],
)
def test_what_torchrun_would_have_set(said: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert launched_processes() == 1
    monkeypatch.setenv("WORLD_SIZE", "")
    assert launched_processes() == 1
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SurroundingsError, match=problem):
        launched_processes()


def test_names_that_are_not_utf_8(
    classifier: Path, texts_file: Path, tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(b"t\xff")
    texts, model = tmp_path / f"{odd}.txt", tmp_path / odd / "model"
    shutil.copyfile(texts_file, texts)
    shutil.copytree(classifier, model)
    for arguments in (
        ("prune", classifier, "-o", tmp_path / "out", "--calibration", texts),
        ("prune", model, "-o", tmp_path / "out", "--calibration", texts_file),
        ("prune", classifier, "-o", tmp_path / odd / "out", "--calibration", texts_file),
        ("verify", tmp_path / odd),
    ):
        assert cli(*arguments) == 2
        assert r"\udcff" in (err := capsys.readouterr().err)
        assert "is not UTF-8: rename it." in err
    assert not (tmp_path / "out").exists()
    (tmp_path / "link").symlink_to(model)
    assert cli("prune", tmp_path / "link", "-o", tmp_path / "out", "--calibration", texts_file) == 2
    assert "is not UTF-8: rename it." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_memory_that_is_not_there_is_no_internal_error() -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    for error in (caught.value, MemoryError()):
        assert exit_code_of(error) is ExitCode.BAD_INPUT
        assert message_of(error).startswith("There is not enough memory (")
    assert exit_code_of(RuntimeError("a bug")) is None
