"""One run's output folder: checked, locked, written to in a hidden place, and replaced as a whole.

All work happens in a hidden folder inside the output folder, on the same disk. Finished files are put in place by
renames, the record that lists them last, and what remains to be done is written down first: a process can be killed
at any moment, and the next run completes what it began.
"""

import contextlib
import errno
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Self

from kprune_export.errors import ExitCode, OutputFolderError, exit_code_of
from kprune_export.output_folder.ownership import FolderKind, check_locked, check_output, folder_error, owned_files
from kprune_export.output_folder.publication import RECORD_SOURCE, Move, Publication
from kprune_export.output_folder.work import WORK, Work, remove_tree


class OutputFolder:
    """The locked output folder of one run. Open it with `OutputFolder.open`.

    Attributes:
        output: the folder.
        own: a folder for the run's unfinished work, with what an earlier run left there.

    """

    def __init__(self, kind: FolderKind, output: Path, work: Work) -> None:
        self.output = output
        self.own = work.own
        self._kind = kind
        self._work = work
        self._done = False

    @classmethod
    @contextlib.contextmanager
    def open(cls, kind: FolderKind, output: Path, *, resumes: bool = True) -> Iterator[Self]:
        """Make and lock an output folder, and complete what an earlier run was publishing.

        When the run fails on bad input, what it made is removed again, the folder included. When it fails otherwise,
        or is interrupted, its unfinished work stays for the next run.

        Args:
            kind: what it holds.
            output: the folder.
            resumes: whether the next run can use unfinished work; if not, it is removed however the run ends.

        Raises:
            OutputFolderError: it cannot be made, holds something else, another run is writing to it, or the work
                folder was removed or taken over by another run meanwhile.

        """
        check_output(kind, output)
        made = next((path for path in reversed((output, *output.parents)) if not path.exists()), None)
        had_work = (output / WORK).exists()
        try:
            work = Work.enter(output, kind.name)
        except OSError as error:
            if not had_work:
                shutil.rmtree(output / WORK, ignore_errors=True)
                _remove_empty(output, made)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):  # a full disk has a sentence of its own
                raise
            raise folder_error(output, error) from error
        folder = cls(kind, output, work)
        try:
            check_locked(kind, output)
            if publication := Publication.read(folder.own):
                publication.complete(folder.own, output)
            yield folder
        except BaseException as error:
            if folder._lost:
                if isinstance(error, Exception):
                    raise folder._lost_error() from error
            elif not resumes or (not had_work and isinstance(error, Exception) and _leaves_nothing(error)):
                work.clear()
                _remove_empty(output, made)
            raise
        finally:
            work.release()

    def require(self) -> None:
        """Check that the run may still write: nobody has removed its work folder, or taken it over.

        Raises:
            OutputFolderError: somebody has.

        """
        if self._lost:
            raise self._lost_error()

    def subfolder(self, *names: str) -> Path:
        """Return a folder in the run's own, made if it is not there.

        Raises:
            OutputFolderError: as `require`.

        """
        self.require()
        path = self.own
        for name in names:
            path = path / name
            path.mkdir(exist_ok=True)
        return path

    def empty_subfolder(self, *names: str) -> Path:
        """Return an empty folder in the run's own; errors as `require`."""
        remove_tree(self.own.joinpath(*names))
        return self.subfolder(*names)

    def discard(self, *names: str) -> None:
        """Remove a folder in the run's own, and all of the work folder where nothing else is in it."""
        shutil.rmtree(self.own.joinpath(*names), ignore_errors=True)
        if not self._lost and not any(self.own.iterdir()):
            self._done = True
            self._work.clear()

    def owned(self) -> frozenset[str]:
        """Return the files in the output folder that may be replaced or removed, the record among them."""
        return owned_files(self._kind, self.output)

    def publish(
        self, record: str, files: Collection[str], moves: Iterable[tuple[Path, str]], kept: Collection[str] = ()
    ) -> None:
        """Replace the content of the output folder, and remove the unfinished work.

        Args:
            record: the text of the new record.
            files: the files that it lists.
            moves: files and folders in the run's own folder, and their places in the output folder.
            kept: the files of the old content that stay; all others that the old record lists are removed.

        Raises:
            OutputFolderError: the folder holds by now what this program did not write, or as `require`.

        """
        self.require()
        check_locked(self._kind, self.output)
        (self.own / RECORD_SOURCE).write_text(record, encoding="utf-8")
        publication = Publication(
            record=self._kind.record,
            moves=tuple(
                Move(source=source.relative_to(self.own).as_posix(), target=target) for source, target in moves
            ),
            removed=tuple(sorted(self.owned() - {self._kind.record} - set(kept))),
            files=tuple(sorted(files)),
        )
        publication.write(self.own)
        publication.complete(self.own, self.output)
        self._done = True
        self._work.clear()

    @property
    def _lost(self) -> bool:
        return not self._done and self._work.lost

    def _lost_error(self) -> OutputFolderError:
        return OutputFolderError(
            f"{self.output / WORK} was removed or taken over by another run while this one was writing, so this one "
            "published nothing: run the same command again when no other run writes to the folder."
        )


def _leaves_nothing(error: Exception) -> bool:
    """Whether a failure must leave the output folder as it was: bad input, a missing runtime, a full disk."""
    return exit_code_of(error) in (ExitCode.BAD_INPUT, ExitCode.RUNTIME_MISSING)


def _remove_empty(output: Path, made: Path | None) -> None:
    """Remove the folders that a run made, from the output folder up to the topmost one, as far as they are empty."""
    for path in (output, *output.parents) if made else ():
        with contextlib.suppress(OSError):
            path.rmdir()
        if path == made:
            return
