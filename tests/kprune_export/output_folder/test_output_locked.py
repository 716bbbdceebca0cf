"""Two runs into one folder, where the lock or more was removed while the first was running.

The second must end well, and the first with one sentence, having changed nothing of the second's.
"""

import contextlib
import os
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from output_folders import build, manifest_of, run_folder, run_stage, tree

from kprune_export.bundle.layout import MANIFEST, WORK
from kprune_export.bundle.manifest import StageRecord
from kprune_export.bundle.verify import verify_bundle
from kprune_export.bundle.workspace import Workspace
from kprune_export.errors import OutputFolderError
from kprune_export.experiments.compare.folder import ComparisonFolder
from kprune_export.output_folder.work import LOCK
from kprune_export.pipeline.run import Outcome, Reporter, SilentReporter, export, prune_and_build
from kprune_export.pipeline.stages.stage import ShareDone
from kprune_export.recipe.recipe import Recipe
from kprune_export.triton.folder import write_folder

MakeRecipe = Callable[..., Recipe]
Run = Callable[[Recipe, Reporter | None], Outcome]
LOST = "was removed or taken over by another run while this one was writing, so this one published nothing"


def remove_lock(output: Path) -> None:
    (output / WORK / LOCK).unlink()


def remove_work(output: Path) -> None:
    shutil.rmtree(output / WORK)


def move_output(output: Path) -> None:
    output.rename(output.with_name("moved"))


class AtStage(SilentReporter):
    """Does something once, when a run begins the stage of a number."""

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        self._number = number
        self._action = action

    @contextlib.contextmanager
    def stage(self, number: int, total: int, title: str) -> Iterator[ShareDone]:
        if number == self._number:
            self._number = 0
            self._action()
        yield lambda _: None


@pytest.mark.parametrize(
    ("run", "number", "removal"),
    [(export, 1, remove_work), (export, 2, remove_lock), (prune_and_build, 3, remove_lock)],
)
def test_a_second_run_ends_well_and_the_first_with_a_sentence(
    run: Run, number: int, removal: Callable[[Path], None], classifier: Path, texts_file: Path,
    make_recipe: MakeRecipe, tmp_path: Path,
) -> None:  # fmt: skip
    output = tmp_path / "out"
    recipe, found = make_recipe(classifier, output, texts_file), dict[str, bytes]()

    def disturb() -> None:
        removal(output)
        run(recipe, None)
        found.update(tree(output))

    with pytest.raises(OutputFolderError, match=LOST):
        run(recipe, AtStage(number, disturb))
    assert tree(output) == found
    assert not verify_bundle(output)[1]
    run(recipe, None)
    assert tree(output) == found  # and the same command has nothing left to do


@pytest.mark.parametrize("removal", [remove_lock, remove_work, move_output])
@pytest.mark.parametrize("moment", ["begin", "scratch", "finish", "publish", "write"])
def test_a_run_whose_work_was_taken_over_changes_nothing(
    moment: str, removal: Callable[[Path], None], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    record = StageRecord(name="one", key="k", reproducible=True, outputs=("plan.json",))
    build(output, {"one": {"plan.json": "old"}})
    with contextlib.ExitStack() as others:
        with pytest.raises(OutputFolderError, match=LOST), Workspace.open(output) as first:
            folder = first.begin("one")
            (folder / "plan.json").write_text("of the first")
            removal(output)
            second = others.enter_context(Workspace.open(output))
            theirs = run_stage(second, "one", {"plan.json": "of the second"})
            (second.scratch("two") / "step").write_text("of the second")
            before = tree(output)
            match moment:
                case "begin":
                    first.begin("one")
                case "scratch":
                    first.scratch("two")
                case "finish":
                    first.finish(record)
                case "publish":
                    first.publish(manifest_of([theirs]), [theirs])
                case "write":
                    (folder / "plan.json").write_text("x")
        assert tree(output) == before
        second.publish(manifest_of([theirs]), [theirs])
    assert tree(output)["plan.json"] == b"of the second"
    assert set(tree(output)) == {"plan.json", MANIFEST}
    assert not verify_bundle(output)[1]


def test_a_lock_that_is_removed_with_no_other_run_harms_nothing(
    classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    export(make_recipe(classifier, output, texts_file), AtStage(2, lambda: remove_lock(output)))
    assert not verify_bundle(output)[1]
    assert not (output / WORK).exists()


def test_work_that_is_removed_with_no_other_run_is_said(
    classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with pytest.raises(OutputFolderError, match=LOST):
        export(make_recipe(classifier, output, texts_file), AtStage(2, lambda: remove_work(output)))
    export(make_recipe(classifier, output, texts_file))
    assert not verify_bundle(output)[1]


def test_repositories_and_comparisons_notice_it_too(tmp_path: Path) -> None:
    for name, open_folder in (("models", write_folder), ("comparison", ComparisonFolder.open)):
        output = tmp_path / name
        with pytest.raises(OutputFolderError, match=LOST), open_folder(output):
            remove_lock(output)
            with contextlib.suppress(KeyboardInterrupt), open_folder(output):
                raise KeyboardInterrupt
            raise FileNotFoundError(2, "No such file", "x")
        assert not list(output.glob(f"{WORK}/run-*/repository"))


def test_many_runs_at_once_are_refused_or_end_well(tmp_path: Path) -> None:
    """Runs that begin while others are publishing or ending: no other error, and the bundle of one of them is whole."""
    output = tmp_path / "out"

    def run_often(number: int) -> None:
        for turn in range(25):
            try:
                build(output, {"one": {"plan.json": f"{number} {turn}", f"checkpoint/{turn % 3}": "x"}})
            except OutputFolderError as error:
                if not str(error).startswith("Another run is writing to"):
                    raise

    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run_often(number)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert not verify_bundle(output)[1]
    assert not (output / WORK).exists()


def test_a_lock_file_that_was_removed_before_it_was_locked_is_no_lock(tmp_path: Path) -> None:
    """The lock of a run that has just ended is not taken for the folder's."""
    output = tmp_path / "out"
    with Workspace.open(output):
        inode = (output / WORK / LOCK).stat().st_ino
        with pytest.raises(OutputFolderError, match="Another run is writing to"), Workspace.open(output):
            pass
        assert (output / WORK / LOCK).stat().st_ino == inode
        assert run_folder(output).is_dir()
