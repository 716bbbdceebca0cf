"""Output folders as a user meets them: where they cannot be, and what is said of them later."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kprune_export.bundle.layout import MANIFEST, WORK
from kprune_export.pipeline.run import Outcome

Cli = Callable[..., int]


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ("afile", "afile is a file, but the output must be a folder"),
        ("afile/x", "afile/x cannot be made: "),
        ("afile/x/y", "afile is a file, but the output must be a folder"),
        ("/proc/foo/x", "/proc/foo/x cannot be made: No such file or directory"),
        ("x" * 300, "cannot be made: File name too long"),
        ("dangling/x", "dangling/x cannot be made: "),
    ],
)
def test_an_output_folder_that_cannot_be(
    output: str,
    problem: str,
    cli: Cli,
    classifier: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("afile").write_text("mine")
    Path("dangling").symlink_to("nowhere")
    assert cli("export", classifier, "-o", output, "--threads", 2) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert problem in err
    assert output in err
    assert err.startswith("Error: ")
    assert len(err.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["afile", "dangling"]
    assert Path("afile").read_text() == "mine"


@pytest.mark.parametrize("command", ["inspect", "verify", "validate"])
def test_an_unfinished_run_is_called_one(
    command: str, cli: Cli, built: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path(shutil.copytree(built.output, tmp_path / "out"))
    (output / MANIFEST).unlink()
    (output / WORK / "stages").mkdir(parents=True)
    assert cli(command, output) == 2
    err = capsys.readouterr().err
    assert f"{output} holds an unfinished run: " in err
    assert "run the same command again" in err


@pytest.mark.parametrize("size", [5, 5000, -1])
def test_inspect_refuses_destroyed_weights(
    size: int, cli: Cli, built: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path(shutil.copytree(built.output, tmp_path / "out"))
    weights = output / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    for folder in (output, output / "checkpoint"):
        assert cli("inspect", folder, "--json") == 2
        out, err = capsys.readouterr()
        assert f"{weights} is not a sound safetensors file: " in err
        assert list(json.loads(out)) == ["error", "exit_code"]
