"""Identity of a checkpoint: the hashes of every file that decides what is loaded from it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from pruning.checkpoint.source import CONFIG_FILE, CheckpointFolder, file_sha256, joint_sha256
from pruning.errors import CheckpointError
from pruning.json_file import read_object


class CheckpointIdentity(BaseModel):
    """Hashes of a checkpoint's files; equal ones give the same model, tokenizer and pooling.

    Attributes:
        weights_sha256: of the weights, as `CheckpointFolder.weights_sha256` returns it.
        config_sha256: of config.json.
        companions: of each file that the tokenizer or the pooling reads, by its path in the checkpoint.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights_sha256: str
    config_sha256: str
    companions: dict[str, str]

    @property
    def companions_sha256(self) -> str:
        """One hash over all companions and their names."""
        return joint_sha256(dict(sorted(self.companions.items())))

    def changed_files(self, other: "CheckpointIdentity") -> tuple[str, ...]:
        """Return the names of what differs between two identities; companions by their paths, sorted."""
        named = (
            ("the weights", self.weights_sha256, other.weights_sha256),
            (CONFIG_FILE, self.config_sha256, other.config_sha256),
        )
        changed = [name for name, one, another in named if one != another]
        return (*changed, *changed_companions(self.companions, other.companions))


def changed_companions(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paths of companions that two checkpoints do not have alike, sorted."""
    return tuple(sorted(name for name in {*one, *other} if one.get(name) != other.get(name)))


class _Stamp(NamedTuple):
    """What the file system says of a file; any write to it, or another file in its place, changes it."""

    inode: int
    size_bytes: int
    modified_ns: int


class FileWatch:
    """Notices whether a checkpoint's files are written to while it is loaded; start one before loading.

    A file that a training job overwrites keeps its name, so that hashes taken before or after loading need not be of
    what was loaded. Hashes taken while no file has changed are.

    Args:
        path: the checkpoint's folder.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = {file: _stamp(file) for file in path.rglob("*")}

    def identity(self, folder: CheckpointFolder) -> CheckpointIdentity:
        """Hash the files of a checkpoint that has just been loaded.

        Raises:
            CheckpointError: one of them was written to since this watch began.

        """
        companions = folder.companions()
        files = (*folder.weights, folder.path / CONFIG_FILE, *companions)
        try:
            identity = CheckpointIdentity(
                weights_sha256=folder.weights_sha256(),
                config_sha256=file_sha256(folder.path / CONFIG_FILE),
                companions={file.relative_to(folder.path).as_posix(): file_sha256(file) for file in companions},
            )
        except OSError as error:
            raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}.") from error
        written = [file.name for file in files if _stamp(file) != self._before.get(file)]
        if read_object(folder.path / CONFIG_FILE) != folder.config and CONFIG_FILE not in written:
            written.append(CONFIG_FILE)  # it was read before this watch began
        if written:
            raise CheckpointError(
                f"{_listed(written)} in {self._path} changed while the checkpoint was being loaded: wait until "
                "whatever writes to it has finished, or copy it to a folder of its own."
            )
        return identity


def check_identity(found: CheckpointIdentity, expected: CheckpointIdentity, path: Path) -> None:
    """Refuse a checkpoint that is no longer the one that a run began with.

    Raises:
        CheckpointError: a file has changed.

    """
    changed = found.changed_files(expected)
    if changed:
        raise CheckpointError(
            f"{_listed(changed)} in {path} changed during the run, so its results would be about two different "
            "models: run the command again once the checkpoint is final, or copy it to a folder of its own."
        )


def _stamp(file: Path) -> _Stamp | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return _Stamp(found.st_ino, found.st_size, found.st_mtime_ns)


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
