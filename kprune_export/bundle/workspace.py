"""Building a bundle beside the one that is there, and putting it in its place.

A finished stage's files and its record stay in the run's own folder, hidden in the output folder, until the whole
bundle is published: a run that is killed loses at most the stage it was in, and a reader of the output folder sees a
manifest only where everything that it lists is there.
"""

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from kprune_export.bundle.folder import BUNDLE, is_signature
from kprune_export.bundle.layout import MANIFEST, SIGNATURE
from kprune_export.bundle.manifest import FileRecord, Manifest, StageRecord, record_files
from kprune_export.bundle.verify import verify_bundle
from kprune_export.errors import BundleError
from kprune_export.output_folder.transaction import OutputFolder
from kprune_export.output_folder.work import refuse_links, remove_tree
from pruning.checkpoint.source import file_sha256

logger = logging.getLogger(__name__)

_STAGES, _SCRATCH = "stages", "scratch"


class FinishedStage(BaseModel):
    """What is recorded of a finished stage while the bundle is being built."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: StageRecord
    files: tuple[FileRecord, ...]


class Workspace:
    """The locked output folder of one run. Open it with `Workspace.open`."""

    def __init__(self, folder: OutputFolder) -> None:
        self.output = folder.output
        self._folder = folder
        self._stages = folder.own / _STAGES

    @classmethod
    @contextlib.contextmanager
    def open(cls, output: Path) -> Iterator[Self]:
        """Make and lock an output folder for one run.

        When the run fails on bad input, what it made is removed again, the folder included. When it
        fails otherwise, or is interrupted, finished stages stay for the next run.

        Raises:
            OutputFolderError: it cannot be made, holds something else, another run is writing to it, or another run
                has taken over its unfinished work.

        """
        with OutputFolder.open(BUNDLE, output) as folder:
            folder.subfolder(_STAGES)
            workspace = cls(folder)
            try:
                yield workspace
            except BaseException:
                workspace._drop_unfinished()
                raise

    def scratch(self, stage: str) -> Path:
        """Return a folder in which a stage may keep unfinished work across runs.

        Raises:
            OutputFolderError: it holds a symbolic link, or as `OutputFolder.subfolder`.

        """
        folder = self._folder.subfolder(_SCRATCH, stage)
        refuse_links((folder, *folder.rglob("*")))
        return folder

    def begin(self, stage: str) -> Path:
        """Return an empty folder for a stage to write its outputs into."""
        return self._folder.empty_subfolder(_STAGES, f"{stage}.partial")

    def finish(self, stage: StageRecord) -> FinishedStage:
        """Take over what a stage wrote into the folder from `begin`, and record it; its scratch goes.

        Raises:
            BundleError: it did not write all its outputs.
            OutputFolderError: another run has taken over this one's unfinished work.

        """
        self._folder.require()
        partial, final = self._partial(stage.name), self._stages / stage.name
        files = record_files(partial, stage.outputs, stage.reproducible)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        record = FinishedStage(stage=stage, files=tuple(files))
        temporary = self._stages / f"{stage.name}.json.partial"
        temporary.write_text(record.model_dump_json(indent=2), encoding="utf-8")
        temporary.replace(self._record(stage.name))
        shutil.rmtree(self._folder.own / _SCRATCH / stage.name, ignore_errors=True)
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
        """Put the stages' outputs and the manifest in place, and remove the files of the bundle before.

        A signature is of all files and the manifest: it stays where the manifest is byte for byte what it was, and is
        removed, with a warning, where it is not.
        """
        text = manifest.to_json()
        moves = [
            (self._stages / stage.stage.name / output, output)
            for stage in stages
            for output in stage.stage.outputs
            if (self._stages / stage.stage.name / output).exists()
        ]
        built = {
            file.path
            for stage in stages
            for file in stage.files
            if (self._stages / stage.stage.name / file.path).exists()
        }
        files = {file.path for file in manifest.files}
        signed = {SIGNATURE} if self._signature_holds(text) else set()
        self._folder.publish(text, files, moves, kept=(files - built) | signed)

    def _signature_holds(self, manifest: str) -> bool:
        """Whether there is a signature that is also of the bundle to be published; warn of one that is not."""
        if not is_signature(self.output / SIGNATURE):
            return False
        old = self.output / MANIFEST
        if old.is_file() and old.read_bytes() == manifest.encode():
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
            manifest = Manifest.of_bundle(self.output)
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
            remove_tree(path)

    def _partial(self, stage: str) -> Path:
        return self._stages / f"{stage}.partial"

    def _record(self, stage: str) -> Path:
        return self._stages / f"{stage}.json"


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


def replace_bundle(output: Path, write: Callable[[Path], None]) -> None:
    """Replace the bundle in an output folder by a finished one that comes from elsewhere.

    Args:
        output: the folder.
        write: writes the finished bundle into an empty folder.

    Raises:
        BundleError: what was written is not a bundle whose files are those of its manifest.
        OutputFolderError: as `Workspace.open`.

    """
    with OutputFolder.open(BUNDLE, output) as folder:
        arrived = folder.empty_subfolder("arrived")
        write(arrived)
        manifest, difference = verify_bundle(arrived)
        if difference:
            raise BundleError(f"The bundle for {output} did not arrive whole: {'; '.join(difference.lines())}.")
        files = {file.path for file in manifest.files}
        tops = sorted({PurePosixPath(path).parts[0] for path in files})
        folder.publish(
            (arrived / MANIFEST).read_text(encoding="utf-8"), files, [(arrived / name, name) for name in tops]
        )
