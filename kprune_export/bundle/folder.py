"""The output folder that holds a bundle: which files in it are the bundle's."""

import json
from pathlib import Path

from kprune_export.bundle.layout import MANIFEST, SIGNATURE
from kprune_export.bundle.manifest import Manifest
from kprune_export.output_folder.ownership import FolderKind

_LONGEST_SIGNATURE = 2**26
"""Bytes; a signature has a line of JSON for each file."""


def is_signature(path: Path) -> bool:
    """Whether a file has the form of a signature: a JSON object with sigstore's envelope; it need not be valid."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _LONGEST_SIGNATURE:
        return False
    try:
        return "dsseEnvelope" in json.loads(path.read_bytes())
    except (ValueError, RecursionError, TypeError):
        return False


def _listed(output: Path) -> frozenset[str]:
    files = {file.path for file in Manifest.of_bundle(output).files}
    return frozenset(files | ({SIGNATURE} if is_signature(output / SIGNATURE) else set()))


BUNDLE = FolderKind("a bundle", MANIFEST, _listed)
"""The kind of output folder; a signature beside its manifest belongs to it."""
