"""Building a bundle beside the one that is there, and putting it in its place.

All work happens in a hidden folder inside the output folder, on the same disk. A finished stage's files
and its record stay there until the whole bundle is published by renames, the manifest last, so that a
run that is killed loses at most the stage it was in, and whoever reads the output folder sees a
manifest only where everything that it lists is there.
"""

import contextlib
import errno
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Self

import filelock
from pydantic import BaseModel, ConfigDict, ValidationError

from kprune_export.bundle.layout import ENTRIES, MANIFEST, SIGNATURE, WORK, foreign_entries
from kprune_export.bundle.manifest import FileRecord, Manifest, StageRecord, record_files
from kprune_export.errors import BundleError, ExitCode, OutputFolderError, exit_code_of
from pruning.checkpoint.source import file_sha256

logger = logging.getLogger(__name__)

LOCK = "lock"
"""In the work folder: held by the run that writes to the output folder."""


class FinishedStage(BaseModel):
    """What is recorded of a finished stage while the bundle is being built."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: StageRecord
    files: tuple[FileRecord, ...]


def check_output(output: Path, entries: frozenset[str] = ENTRIES, kind: str = "a bundle") -> None:
    """Refuse an output folder that holds anything but a bundle, before anything is written to it.

    Args:
        output: the folder.
        entries: all that it may hold at its top.
        kind: what that is called in messages.

    Raises:
        OutputFolderError: it is a file, is inside a file, holds something else, or has no usable name.

    """
    try:
        _check_output(output, entries, kind)
    except (OSError, ValueError) as error:  # a name that the system does not take
        raise folder_error(output, error) from error


def _check_output(output: Path, entries: frozenset[str], kind: str) -> None:
    if output.is_symlink() and not output.exists():
        raise OutputFolderError(f"{output} is a symbolic link that leads nowhere.")
    refuse_links((output / WORK, *(output / WORK / name for name in (LOCK, "stages", "scratch"))))
    above = next(path for path in (output, *output.parents) if path.exists())
    if not above.is_dir():
        where = "is a file" if above == output else f"cannot be made: {above} is a file"
        raise OutputFolderError(f"{output} {where}, but the output must be a folder.")
    if output.is_dir():
        foreign = foreign_entries(output, entries)
        if foreign:
            raise OutputFolderError(
                f"{output} holds {foreign[0]!r}, which is not part of {kind}: choose an empty or a new folder."
            )


def refuse_links(places: Iterable[Path]) -> None:
    """Refuse places that lead elsewhere.

    Raises:
        OutputFolderError: one is a symbolic link.

    """
    for place in places:
        if place.is_symlink():
            raise OutputFolderError(f"{place} is a symbolic link, through which nothing is written: remove it.")


def folder_error(output: Path, error: OSError | ValueError) -> OutputFolderError:
    """Return the error for an output folder that the system does not make."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return OutputFolderError(f"The output folder {output} cannot be made: {reason}.")


def lock_folder(output: Path, work: Path) -> filelock.BaseFileLock:
    """Lock an output folder by a file in its work folder, and return the lock, to be released.

    Raises:
        OutputFolderError: another run has locked it.

    """
    lock = filelock.FileLock(work / LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise OutputFolderError(f"Another run is writing to {output}: wait for it, or choose another folder.") from None
    return lock


class Workspace:
    """The locked output folder of one run. Open it with `Workspace.open`."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self._work = output / WORK
        self._stages = self._work / "stages"

    @classmethod
    @contextlib.contextmanager
    def open(cls, output: Path) -> Iterator[Self]:
        """Make and lock an output folder for one run.

        When the run fails on bad input, what it made is removed again, the folder included. When it
        fails otherwise, or is interrupted, finished stages stay for the next run.

        Raises:
            OutputFolderError: it cannot be made, holds something else, or another run is writing to it.

        """
        check_output(output)
        made = next((p for p in reversed((output, *output.parents)) if not p.exists()), None)
        had_work = (output / WORK).exists()
        workspace = cls(output)
        try:
            workspace._stages.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            _remove_empty(workspace._stages, made or workspace._work)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):  # a full disk has a sentence of its own
                raise
            raise folder_error(output, error) from error
        lock = lock_folder(output, output / WORK)
        try:
            yield workspace
        except BaseException as error:
            workspace._drop_unfinished()
            if not had_work and isinstance(error, Exception) and _leaves_nothing(error):
                shutil.rmtree(workspace._work, ignore_errors=True)
                if made is not None:
                    _remove_empty(output, made)
            raise
        finally:
            lock.release()

    def scratch(self, stage: str) -> Path:
        """Return a folder in which a stage may keep unfinished work across runs."""
        folder = self._work / "scratch" / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def begin(self, stage: str) -> Path:
        """Return an empty folder for a stage to write its outputs into."""
        folder = self._partial(stage)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def finish(self, stage: StageRecord) -> FinishedStage:
        """Take over what a stage wrote into the folder from `begin`, and record it; its scratch goes.

        Raises:
            BundleError: it did not write all its outputs.

        """
        partial, final = self._partial(stage.name), self._stages / stage.name
        files = record_files(partial, stage.outputs, stage.reproducible)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        record = FinishedStage(stage=stage, files=tuple(files))
        temporary = self._record(stage.name).with_suffix(".partial")
        temporary.write_text(record.model_dump_json(indent=2), encoding="utf-8")
        temporary.replace(self._record(stage.name))
        shutil.rmtree(self._work / "scratch" / stage.name, ignore_errors=True)
        return record

    def finished(self, name: str, key: str) -> FinishedStage | None:
        """Return a stage's record if it was finished with this key and its files are still those.

        Looks at the work of an earlier run that was not published, then at the published bundle.
        """
        record = self._recorded(name)
        if record and record.stage.key == key and self._are_there(record):
            return record
        self._record(name).unlink(missing_ok=True)  # of other settings: it must not shadow what is published
        shutil.rmtree(self._stages / name, ignore_errors=True)
        record = self._published(name)
        return record if record and record.stage.key == key and self._are_there(record) else None

    def path(self, stage: FinishedStage, output: str) -> Path:
        """Return where an output of a finished stage is at the moment.

        Raises:
            BundleError: it is gone.

        """
        for root in (self._stages / stage.stage.name, self.output):
            if (root / output).exists():
                return root / output
        raise BundleError(f"The output {output} of the stage {stage.stage.name} has been removed.")

    def publish(self, manifest: Manifest, stages: Sequence[FinishedStage]) -> None:
        """Put the stages' outputs and the manifest in place and remove what does not belong to them.

        A signature is of all files and the manifest: it stays where the manifest is byte for byte what it was, and is
        removed, with a warning, where it is not.
        """
        (self._work / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        signed = {SIGNATURE} if self._signature_holds() else set()
        (self.output / MANIFEST).unlink(missing_ok=True)
        _remove_links(self.output)
        for stage in stages:
            for output in stage.stage.outputs:
                built = self._stages / stage.stage.name / output
                if built.exists():
                    self._keep_inner(built, output, stages)
                    _replace(built, self.output / output)
        listed = {file.path for file in manifest.files}
        tops = signed | {PurePosixPath(path).parts[0] for path in listed}
        for entry in self.output.iterdir():
            if entry.name not in tops and entry.name != WORK:
                _remove(entry)
            elif entry.is_dir() and entry.name != WORK:
                for path in entry.rglob("*"):
                    if path.is_file() and path.relative_to(self.output).as_posix() not in listed:
                        path.unlink()
        (self._work / MANIFEST).replace(self.output / MANIFEST)
        shutil.rmtree(self._work)

    def _keep_inner(self, built: Path, output: str, stages: Sequence[FinishedStage]) -> None:
        """Copy what other stages have put into an output's folder, and have not made again, before it is replaced."""
        for stage in stages:
            for inner in stage.stage.outputs:
                made_again = (self._stages / stage.stage.name / inner).exists()
                if inner.startswith(f"{output}/") and not made_again and (self.output / inner).is_file():
                    shutil.copyfile(self.output / inner, built / inner.removeprefix(f"{output}/"))

    def _signature_holds(self) -> bool:
        """Whether there is a signature that is also of the bundle to be published; warn of one that is not."""
        signature, old, new = (self.output / SIGNATURE, self.output / MANIFEST, self._work / MANIFEST)
        if not signature.exists() and not signature.is_symlink():
            return False
        if signature.is_file() and not signature.is_symlink() and old.is_file() and _same_bytes(old, new):
            return True
        logger.warning("The bundle in %s has changed, and its signature is removed: sign it again.", self.output)
        return False

    def _are_there(self, record: FinishedStage) -> bool:
        """Whether each file of a stage is unchanged, in the work folder or, published already, in place."""
        return all(
            any(_is(root, file) for root in (self._stages / record.stage.name, self.output)) for file in record.files
        )

    def _recorded(self, name: str) -> FinishedStage | None:
        path = self._record(name)
        if not path.is_file():
            return None
        try:
            return FinishedStage.model_validate_json(path.read_bytes())
        except ValidationError:  # of another version, or damaged: the stage runs again
            return None

    def _published(self, name: str) -> FinishedStage | None:
        try:
            manifest = Manifest.read(self.output)
        except BundleError:  # no bundle yet, or one that cannot be relied on
            return None
        stage = next((stage for stage in manifest.stages if stage.name == name), None)
        if stage is None:
            return None
        outputs = [output for other in manifest.stages for output in other.outputs]
        files = [f for f in manifest.files if _innermost(f.path, outputs) in stage.outputs]
        return FinishedStage(stage=stage, files=tuple(files)) if files else None

    def _drop_unfinished(self) -> None:
        for path in self._stages.glob("*.partial"):
            _remove(path)

    def _partial(self, stage: str) -> Path:
        return self._stages / f"{stage}.partial"

    def _record(self, stage: str) -> Path:
        return self._stages / f"{stage}.json"


def _same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def _is(root: Path, file: FileRecord) -> bool:
    """Whether a file is the one recorded, and in the folder itself: not behind a link."""
    path = root / file.path
    parents = (root / above for above in PurePosixPath(file.path).parents)
    return (
        path.is_file()
        and not any(place.is_symlink() for place in (path, *parents) if place != root)
        and path.stat().st_size == file.size_bytes
        and file_sha256(path) == file.sha256
    )


def _within(path: str, output: str) -> bool:
    return path == output or path.startswith(f"{output}/")


def _innermost(path: str, outputs: Iterable[str]) -> str | None:
    """Return the output that a file belongs to: of a folder and a file in it that are both outputs, the file."""
    return max((output for output in outputs if _within(path, output)), key=len, default=None)


def _leaves_nothing(error: Exception) -> bool:
    """Whether a failure must leave the output folder as it was: bad input, a missing runtime, a full disk."""
    return exit_code_of(error) in (ExitCode.BAD_INPUT, ExitCode.RUNTIME_MISSING)


def _replace(built: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove(place)
    built.rename(place)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_links(folder: Path) -> None:
    """Remove all symbolic links in a folder, so that nothing is written or removed through one."""
    for path in folder.rglob("*"):
        if path.is_symlink():
            path.unlink()


def _remove_empty(folder: Path, topmost: Path) -> None:
    """Remove a folder and its parents up to the topmost one that this run made, as far as they are empty."""
    for path in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            path.rmdir()
        if path == topmost:
            return
