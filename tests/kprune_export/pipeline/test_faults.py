"""What happens around a run: disks that fill or cannot be written, files that change under it, other runs, clocks."""

import ast
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from output_folders import run_folder
from project_root import ROOT

from kprune_export.bundle.layout import WORK
from kprune_export.bundle.verify import verify_bundle
from kprune_export.bundle.workspace import Workspace
from kprune_export.pipeline.run import Outcome, SilentReporter, prune_and_build
from kprune_export.pipeline.stages.stage import ShareDone
from kprune_export.recipe.recipe import Recipe

Cli = Callable[..., int]
MakeRecipe = Callable[..., Recipe]


class AtStage(SilentReporter):
    """Does something when a run begins the stage of a number, counting those that run, or has ended the last one.

    Attributes:
        ran: the titles of the stages that ran.
        where: the title of the stage at whose beginning it was done; None after the last.

    """

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        self.number = number
        self.action = action
        self.ran: list[str] = []
        self.where: str | None = None

    @contextmanager
    def stage(self, number: int, total: int, title: str) -> Iterator[ShareDone]:
        if len(self.ran) + 1 == self.number:
            self.where = title
            self.action()
        yield lambda _: None
        self.ran.append(title)
        if number == total and self.number > len(self.ran):
            self.action()


def interrupt() -> None:
    raise KeyboardInterrupt


def files_of(bundle: Path) -> dict[str, bytes]:
    paths = [path for path in bundle.rglob("*") if path.is_file() and WORK not in path.parts]
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in paths}


def test_a_disk_that_fills_at_any_stage(
    small_disk: Path, built: Outcome, classifier: Path, texts_file: Path, make_recipe: MakeRecipe
) -> None:
    """One run after another: each finishes the stage that failed before, and finds the disk full in the next one."""
    bundle = Path(shutil.copytree(built.output, small_disk / "bundle"))
    before = files_of(bundle)
    recipe = make_recipe(classifier, bundle, texts_file, seed=5)
    filler = small_disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(b"x" * 4096)
                except OSError:
                    return

    with pytest.raises(KeyboardInterrupt):
        prune_and_build(recipe, AtStage(1, interrupt))
    full_at: list[str | None] = []
    while None not in full_at:
        reporter = AtStage(2 if full_at else 1, fill)
        with pytest.raises(OSError, match="No space left") as caught:
            prune_and_build(recipe, reporter)
        assert caught.value.errno == errno.ENOSPC
        assert files_of(bundle) == before
        assert [x for x in verify_bundle(bundle)[1].lines() if WORK not in x] == []
        filler.unlink()
        full_at.append(reporter.where)
    assert len(set(full_at)) == len(full_at) > 8  # every stage, and publishing
    last = AtStage(0, interrupt)
    prune_and_build(recipe, last)
    assert last.ran == []  # each had been finished by one of the runs before
    assert not verify_bundle(bundle)[1]
    assert files_of(bundle) != before


def test_an_output_that_cannot_be_written(
    small_disk: Path, built: Outcome, classifier: Path, texts_file: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(built.output, small_disk / "bundle"))
    before = files_of(bundle)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    texts = ("--calibration", texts_file, "--samples", 150, "--threads", 2)
    for output in (bundle, small_disk / "new"):
        assert cli("prune", classifier, "-o", output, *texts) == 2
        err = capsys.readouterr().err
        assert err == f"Error: The output folder {output} cannot be made: Read-only file system.\n"
    assert cli("triton", bundle, "--backend", "python", "-o", small_disk / "models") == 2
    assert "Read-only file system" in capsys.readouterr().err
    assert cli("verify", bundle) == 0
    assert files_of(bundle) == before


@pytest.fixture(scope="module")
def stopped(
    classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run that was stopped after its second stage."""
    output = tmp_path_factory.mktemp("stopped") / "bundle"
    with pytest.raises(KeyboardInterrupt):
        prune_and_build(make_recipe(classifier, output, texts_file), AtStage(3, interrupt))
    return output


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def link(path: Path) -> None:
    elsewhere = path.rename(path.parents[6] / "elsewhere")
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("prune/plan.json", cut),
        ("prune/checkpoint/model.safetensors", flip),
        ("prune/checkpoint/config.json", Path.unlink),
        ("prune.json", flip),
        ("prune.json", lambda path: path.write_bytes(b"\xff\x00")),
        ("export/onnx/model.onnx", flip),
        ("export/onnx/model.onnx", link),
        ("export.json", cut),
    ],
)
def test_a_file_that_changes_between_stages_is_made_again(
    file: str,
    damage: Callable[[Path], None],
    stopped: Path,
    built: Outcome,
    classifier: Path,
    texts_file: Path,
    make_recipe: MakeRecipe,
    tmp_path: Path,
) -> None:
    output = Path(shutil.copytree(stopped, tmp_path / "bundle"))
    damage(run_folder(output) / "stages" / file)
    reporter = AtStage(2, interrupt)
    with pytest.raises(KeyboardInterrupt):
        prune_and_build(make_recipe(classifier, output, texts_file), reporter)
    assert reporter.ran == ["Exporting to ONNX" if file.startswith("export") else "Pruning"]
    stages, before = run_folder(output) / "stages", run_folder(stopped) / "stages"
    made = {path.relative_to(stages): path for path in stages.rglob("*")}
    expected = {path.relative_to(before): path for path in before.rglob("*")}
    assert made.keys() == expected.keys()
    assert all(path.read_bytes() == expected[name].read_bytes() for name, path in made.items() if path.is_file())
    assert not any(path.is_symlink() for path in made.values())


def test_a_second_run_is_turned_away(
    cli: Cli, classifier: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    with Workspace.open(output) as workspace:
        workspace.begin("mine")
        assert cli("prune", classifier, "-o", output, "--calibration", texts_file, "--threads", 2) == 2
        assert f"Another run is writing to {output}" in capsys.readouterr().err
        assert (run_folder(output) / "stages" / "mine.partial").is_dir()


@pytest.mark.parametrize("seconds", [0, 2**32])
def test_a_clock_that_jumps_decides_nothing(
    seconds: int, built: Outcome, classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(built.output, tmp_path / "bundle"))
    for path in bundle.rglob("*"):
        os.utime(path, (seconds, seconds))
    before = files_of(bundle)
    reporter = AtStage(0, interrupt)
    prune_and_build(make_recipe(classifier, bundle, texts_file), reporter)
    assert reporter.ran == []
    assert files_of(bundle) == before


def test_no_code_asks_for_the_time_of_day() -> None:
    """Durations are of the monotonic clock, and what still holds is known by hashes."""
    forbidden = {
        "time",
        "time_ns",
        "now",
        "utcnow",
        "today",
        "st_mtime",
        "st_mtime_ns",
        "getmtime",
        "localtime",
        "gmtime",
    }
    for package in ("kprune_export", "pruning", "exporters"):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            asked = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & forbidden
            assert not asked, path
