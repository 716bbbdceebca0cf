"""Comparing a bundle with its manifest."""

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from kprune_export.bundle.layout import MANIFEST, SIGNATURE, WORK
from kprune_export.bundle.manifest import Manifest
from kprune_export.errors import BundleError
from pruning.checkpoint.source import file_sha256


@dataclass(frozen=True)
class Difference:
    """What differs between a bundle's files and its manifest; paths are relative, sorted."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.changed)

    def without_work(self) -> "Difference":
        """Return what differs beside the work folder of a run."""
        return replace(self, extra=tuple(path for path in self.extra if path != f"{WORK}/"))

    def lines(self) -> list[str]:
        """Return one line for each difference, like a diff's; of the work folder also what to do."""
        marks = (("- missing ", self.missing), ("+ extra   ", self.extra), ("! changed ", self.changed))
        return [mark + _shown(path) for mark, paths in marks for path in paths]


def _shown(path: str) -> str:
    if path == f"{WORK}/":
        return f"{path} (of a run that has not finished: run it again, or remove the folder)"
    return path if path.isprintable() else repr(path)


def verify_bundle(bundle: Path) -> tuple[Manifest, Difference]:
    """Compare all that a bundle's folder holds with its manifest.

    What is no regular file (a symbolic link, whatever it points at, a pipe, a device, a socket) counts as changed or as
    extra, and is not opened. The work folder of a run that has not finished is extra.

    Raises:
        BundleError: there is no manifest, it is a link, or it is not valid.

    """
    manifest = Manifest.of_bundle(bundle)
    listed = {record.path: record for record in manifest.files}
    found = {name: path for name, path in _entries(bundle).items() if not _is_own(name, path)}
    changed = [
        name
        for name, path in found.items()
        if name in listed
        and (
            not _is_regular(path)
            or path.stat().st_size != listed[name].size_bytes
            or file_sha256(path) != listed[name].sha256
        )
    ]
    return manifest, Difference(
        missing=tuple(sorted(set(listed) - set(found))),
        extra=tuple(sorted(set(found) - set(listed))),
        changed=tuple(sorted(changed)),
    )


def irregular_entries(bundle: Path) -> tuple[str, ...]:
    """Return the paths in a bundle's folder that are neither folders nor regular files, each with what it is, sorted.

    Raises:
        BundleError: a folder in it cannot be read.

    """
    return tuple(f"{name} ({_kind(path)})" for name, path in sorted(_entries(bundle).items()) if _kind(path))


def _entries(bundle: Path) -> dict[str, Path]:
    """Return all in a folder but its folders, by their paths in it; links are not followed, the work folder is one."""

    def refuse(error: OSError) -> None:
        raise BundleError(f"{error.filename} cannot be read: {error.strerror}.") from error

    found: dict[str, Path] = {}
    for top, folders, files in os.walk(bundle, onerror=refuse):
        place = Path(top)
        if place == bundle and WORK in folders:
            folders.remove(WORK)
            found[f"{WORK}/"] = place / WORK
        links = [name for name in folders if (place / name).is_symlink()]
        found |= {(place / name).relative_to(bundle).as_posix(): place / name for name in (*files, *links)}
    return found


def _is_own(name: str, path: Path) -> bool:
    """Whether an entry is the manifest or the signature, which no manifest lists."""
    return name in (MANIFEST, SIGNATURE) and _is_regular(path)


def _is_regular(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _kind(path: Path) -> str:
    """Return what an entry is, where it is neither a file nor a folder; else the empty text."""
    return _KINDS.get(stat.S_IFMT(path.lstat().st_mode), "")
