"""Comparing a bundle with its manifest."""

from dataclasses import dataclass
from pathlib import Path

from kprune_export.bundle.layout import MANIFEST, SIGNATURE, WORK
from kprune_export.bundle.manifest import Manifest
from pruning.checkpoint.source import file_sha256


@dataclass(frozen=True)
class Difference:
    """What differs between a bundle's files and its manifest; paths are relative, sorted."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.changed)

    def lines(self) -> list[str]:
        """Return one line for each difference, like a diff's."""
        marks = (("- missing ", self.missing), ("+ extra   ", self.extra), ("! changed ", self.changed))
        return [mark + (path if path.isprintable() else repr(path)) for mark, paths in marks for path in paths]


def verify_bundle(bundle: Path) -> tuple[Manifest, Difference]:
    """Compare all files of a bundle with its manifest.

    Symbolic links count as changed, or as extra, whatever they point at.

    Raises:
        BundleError: there is no manifest, or it is not valid.

    """
    manifest = Manifest.read(bundle)
    listed = {record.path: record for record in manifest.files}
    found = {
        path.relative_to(bundle).as_posix(): path
        for path in bundle.rglob("*")
        if (path.is_file() or path.is_symlink())
        and path.relative_to(bundle).parts[0] != WORK
        and path not in (bundle / MANIFEST, bundle / SIGNATURE)
    }
    changed = [
        name
        for name, path in found.items()
        if name in listed
        and (
            path.is_symlink()
            or path.stat().st_size != listed[name].size_bytes
            or file_sha256(path) != listed[name].sha256
        )
    ]
    return manifest, Difference(
        missing=tuple(sorted(set(listed) - set(found))),
        extra=tuple(sorted(set(found) - set(listed))),
        changed=tuple(sorted(changed)),
    )
