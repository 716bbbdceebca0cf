"""Identity of a checkpoint: the hashes of every file that decides what is loaded from it."""

from collections.abc import Iterable, Mapping
from pathlib import Path

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


def read_identity(folder: CheckpointFolder) -> CheckpointIdentity:
    """Hash the files of a checkpoint.

    Raises:
        CheckpointError: one cannot be read.

    """
    try:
        return CheckpointIdentity(
            weights_sha256=folder.weights_sha256(),
            config_sha256=file_sha256(folder.path / CONFIG_FILE),
            companions={x.relative_to(folder.path).as_posix(): file_sha256(x) for x in folder.companions()},
        )
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}.") from error


def identity_of_loaded(folder: CheckpointFolder, before: CheckpointIdentity) -> CheckpointIdentity:
    """Hash the files of a checkpoint that has just been loaded, and check that they are what was loaded.

    A file that a training job overwrites keeps its name, so that a hash from before or after loading alone need not be
    of what was loaded.

    Args:
        folder: the checkpoint, with the names of its tokenizer's files.
        before: its hashes before it was loaded, when these names were not known.

    Raises:
        CheckpointError: a file was written to meanwhile.

    """
    found = read_identity(folder)
    known = before.model_copy(update={"companions": {**found.companions, **before.companions}})
    changed = list(found.changed_files(known))
    if read_object(folder.path / CONFIG_FILE) != folder.config and CONFIG_FILE not in changed:
        changed.append(CONFIG_FILE)  # it was read before it was hashed
    if changed:
        raise CheckpointError(
            f"{_listed(changed)} in {folder.path} changed while the checkpoint was being loaded: wait until whatever "
            "writes to it has finished, or copy it to a folder of its own."
        )
    return found


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


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
