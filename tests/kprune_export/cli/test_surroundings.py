"""How a command is started: closed streams, pipes nobody reads, encodings, directories that are gone, limits."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kprune_export.errors import ExitCode, SurroundingsError, exit_code_of, message_of
from kprune_export.pipeline.distributed import launched_processes, process_group
from kprune_export.pipeline.run import Outcome

Cli = Callable[..., int]
QUIET = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
PROBE = """
import json
from kprune_export.cli import app

def probe():
    print("dense ‖ pruned → 🙂")
    print(json.dumps({"name": "ü ‖ 🙂"}, ensure_ascii=False))
    return 3

def quiet():
    return 0

for command in (probe, quiet):
    app.app.command(command.__name__)(app._guarded(command))
app.main()
"""
"""The command line with two quick commands more: `probe` prints and ends with 3, as a failed gate does."""


def run(command: str, shell: str = "", **settings: Any) -> "subprocess.CompletedProcess[bytes]":
    """Run a command of the probe as a process of its own, with redirections in the shell's syntax."""
    environment = {**os.environ, **QUIET, **settings.pop("env", {})}
    return subprocess.run(
        ["sh", "-c", f'"$@" {shell}', "sh", sys.executable, "-c", PROBE, command],
        capture_output=True, check=False, timeout=300, env=environment, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("shell", ["", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_change_no_exit_code(shell: str) -> None:
    ended = run("probe", shell)
    assert (ended.returncode, ended.stderr) == (3, b"")


def test_a_file_does_not_get_what_is_printed(tmp_path: Path) -> None:
    """A descriptor that is closed is the first that is opened."""
    junit = tmp_path / "junit.xml"
    code = "import os, sys; from kprune_export.cli.streams import prepare_streams; prepare_streams(); "
    code += f"file = open({str(junit)!r}, 'w'); os.write(1, b'noise'); sys.exit(file.fileno() < 3)"
    assert subprocess.run(["sh", "-c", '"$@" <&- >&-', "sh", sys.executable, "-c", code], check=False).returncode == 0
    assert junit.read_text() == ""


@pytest.mark.parametrize(("command", "code"), [("probe", 3), ("--help", 0)])
def test_a_reader_that_has_gone_changes_no_exit_code(command: str, code: int) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        ended = subprocess.run(
            [sys.executable, "-c", PROBE, command], stdout=pipe, stderr=subprocess.PIPE, check=False
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (code, b"")


@pytest.mark.parametrize("command", ["--help", "--version", "probe"])
def test_output_that_cannot_be_written_is_an_error(command: str) -> None:
    ended = run(command, ">/dev/full")
    assert ended.returncode == 2
    assert ended.stderr == b"Error: No space is left on the disk: free some and run the same command again.\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16", "utf-8"])
def test_output_in_any_encoding(encoding: str) -> None:
    ended = run("probe", env={"PYTHONIOENCODING": encoding})
    assert (ended.returncode, ended.stderr) == (3, b"")
    text, answer = ended.stdout.decode(encoding).splitlines()
    assert json.loads(answer) == {"name": "ü ‖ 🙂"}
    assert text == ("dense ‖ pruned → 🙂" if "utf" in encoding else r"dense \u2016 pruned \u2192 \ud83d\ude42")
    ended = run("--help", env={"PYTHONIOENCODING": encoding})
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_tables_in_ascii(built: Outcome, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(built.output, tmp_path / "bündel ‖ 🙂"))
    command = [sys.executable, "-m", "kprune_export", "diff", str(bundle), str(bundle)]
    environment = {**os.environ, **QUIET, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(command, capture_output=True, check=False, timeout=300, env=environment)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert rb"b\u00fcndel \u2016 \ud83d\ude42" in ended.stdout


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    ended = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", sys.executable, "-c", PROBE, "probe"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr == b"Error: The working directory has been removed: change to another one.\n"


def test_few_open_files_are_refused_and_a_low_soft_limit_is_raised() -> None:
    def low(hard: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 32), hard))

    ended = run("quiet", preexec_fn=low(64))
    assert ended.returncode == 2
    assert b"may open 64 files at once, and 256 are needed: raise the limit (ulimit -n" in ended.stderr
    assert run("quiet", preexec_fn=low(1024)).returncode == 0


@pytest.mark.parametrize("kib", [1, 60])
def test_a_limit_of_file_sizes(kib: int, classifier: Path, texts_file: Path, tmp_path: Path) -> None:
    arguments = ("prune", classifier, "-o", tmp_path / "out", "--calibration", texts_file, "--samples", 60)
    ended = subprocess.run(
        [sys.executable, "-m", "kprune_export", *map(str, arguments), "--threads", "2"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, kib * 1024)),
        capture_output=True, check=False, env={**os.environ, **QUIET},
    )  # fmt: skip
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
    with pytest.raises(SurroundingsError, match=problem), process_group():
        pass


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


def test_links_that_lead_to_themselves_are_no_internal_error(
    cli: Cli, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(classifier, tmp_path / "model"))
    (model / "config.json").unlink()
    (model / "config.json").symlink_to("config.json")
    assert cli("prune", model, "-o", tmp_path / "out") == 2
    assert str(model / "config.json") in capsys.readouterr().err
    error = RuntimeError(f"Symlink loop from '{model / 'config.json'}'")
    assert exit_code_of(error) is ExitCode.BAD_INPUT
    assert message_of(error) == f"'{model / 'config.json'}' leads to itself by symbolic links: name a file or a folder."


def test_no_place_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(FileNotFoundError) as caught:
        tempfile.mkdtemp()
    assert exit_code_of(caught.value) is ExitCode.BAD_INPUT
    assert message_of(caught.value).endswith("set TMPDIR to one that can.")
    assert exit_code_of(FileNotFoundError(2, "No such file or directory", "x")) is None
