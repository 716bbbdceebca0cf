"""Putting a bundle into a repository of the Hugging Face hub, in one commit.

The checkpoint's files go to the top, where ``from_pretrained`` and the hub's page look for them; everything else stays
where it is in the bundle. https://huggingface.co/docs/huggingface_hub/guides/upload.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kprune_export.bundle.hub import (
    Changes,
    RepositoryState,
    changes_to,
    check_visibility,
    hub_errors,
    in_words,
    look_at,
    place_of,
)
from kprune_export.bundle.layout import CHECKPOINT, MANIFEST, SIGNATURE
from kprune_export.bundle.manifest import FileRecord, Manifest
from kprune_export.bundle.verify import verify_bundle
from kprune_export.errors import BundleError, GateError, HubError, VerificationError
from pruning.checkpoint.source import file_sha256

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

MAIN = "main"
"""The branch that a repository begins with."""
_IN_MEMORY = 10 * 2**20
"""Bytes; larger files are not read into memory, and the hub stores them by their hashes."""


@dataclass(frozen=True)
class Upload:
    """One file: where it is in the bundle, where it goes in the repository, its size, and the hash that it has."""

    path: str
    target: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Destination:
    """Where a bundle is pushed to.

    Attributes:
        repo_id: ``owner/name``; the repository is made if it is not there.
        private: whether the repository must be private.
        revision: the branch, made if it is not there.
        overwrite: whether files that no earlier push put there may be overwritten.

    """

    repo_id: str
    private: bool = False
    revision: str = MAIN
    overwrite: bool = False


@dataclass(frozen=True)
class Pushed:
    """A push that was made: the commit's address and hash, and what it changed."""

    url: str
    commit: str
    changes: Changes


def plan_push(bundle: Path, repo_id: str) -> tuple[Manifest, tuple[Upload, ...]]:
    """Check a bundle, and return its manifest and what a push uploads; nothing is sent.

    Raises:
        BundleError: it has no manifest, or no checkpoint.
        VerificationError: its files are not those of the manifest.
        GateError: a gate failed.
        HubError: the repository cannot be called so.

    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubError(f"{repo_id!r} cannot name a repository on the hub: {in_words(error)}") from error
    manifest, difference = verify_bundle(bundle)
    if difference:
        raise VerificationError(f"{bundle} has changed since it was made: {'; '.join(difference.lines())}.")
    if manifest.verdict == "failed":
        raise GateError(f"{bundle} is not pushed: its verdict is {manifest.verdict_in_words}.")
    files = sorted((*manifest.files, *_beside_the_files(bundle, manifest)), key=lambda file: file.path)
    uploads = tuple(Upload(file.path, place_of(file.path), file.size_bytes, file.sha256) for file in files)
    if all(upload.path == upload.target for upload in uploads):
        raise BundleError(f"{bundle} was made by {manifest.command}: only bundles with a checkpoint can be pushed.")
    if len({upload.target for upload in uploads}) < len(uploads):
        raise BundleError(f"A file in {bundle / CHECKPOINT} is called like one beside it: they cannot both be pushed.")
    return manifest, uploads


def look_before(destination: Destination, uploads: Sequence[Upload]) -> Changes:
    """Return what a push would do to a repository; nothing is sent. Arguments and errors as `push_bundle`."""
    from huggingface_hub import HfApi

    with hub_errors(f"{destination.repo_id} cannot be looked at", "once that is mended run the same command again."):
        _, changes = _look(HfApi(), destination, uploads)
    return changes


def push_bundle(bundle: Path, destination: Destination, uploads: Sequence[Upload]) -> Pushed:
    """Upload a bundle in one commit, and check that the repository then holds the bytes that the manifest lists.

    Files of the bundle that was pushed before are replaced or removed; all others stay, and are never overwritten
    unless that is allowed. Until the commit the repository is as it was. A push that was interrupted is done again:
    large files that have arrived are not sent twice, and where the commit had been made nothing is changed.

    Args:
        bundle: the folder.
        destination: the repository.
        uploads: what `plan_push` returned.

    Raises:
        HubError: there is no token; the repository is not of this program; or the hub cannot be reached, refuses, or
            holds other bytes afterwards.
        VerificationError: a file has changed since the bundle was verified.

    """
    from huggingface_hub import CommitOperationDelete, HfApi, get_token

    if get_token() is None:
        raise HubError("The hub needs a token to write: log in with hf auth login, or set HF_TOKEN.")
    api = HfApi()
    repo_id, revision = destination.repo_id, destination.revision
    remedy = "once that is mended run the same command again, which sends only what is not there."
    with hub_errors(f"The push to {repo_id} did not finish", remedy):
        state, changes = _look(api, destination, uploads)
        additions = [_addition(bundle, upload) for upload in uploads]
        if changes.creates:
            api.create_repo(repo_id, private=destination.private or None, exist_ok=True)
            state, now = _look(api, destination, uploads)
            changes = Changes(True, now.added, now.replaced, now.overwritten, now.removed)
        if revision != MAIN:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        api.preupload_lfs_files(repo_id, additions, revision=revision, free_memory=False)
        for upload, addition in zip(uploads, additions, strict=True):
            if not isinstance(addition.path_or_fileobj, bytes):
                _check_unchanged(bundle / upload.path, upload, file_sha256(bundle / upload.path))
        commit = api.create_commit(
            repo_id,
            operations=[*additions, *map(CommitOperationDelete, changes.removed)],
            commit_message=f"Push the bundle with the manifest {_manifest_sha256(uploads)[:12]}",
            revision=revision,
            parent_commit=state.head,
        )
        found = api.get_paths_info(repo_id, [upload.target for upload in uploads], revision=commit.oid)
    by_path: dict[str, Any] = {file.path: file for file in found}
    for upload, addition in zip(uploads, additions, strict=True):
        if not _has_arrived(bundle / upload.path, upload, addition, by_path.get(upload.target)):
            raise HubError(f"{repo_id} does not hold {upload.target} as the manifest lists it: push again.")
    return Pushed(url=commit.commit_url, commit=commit.oid, changes=changes)


def _look(api: "HfApi", destination: Destination, uploads: Sequence[Upload]) -> tuple[RepositoryState, Changes]:
    state = look_at(api, destination.repo_id, destination.revision)
    check_visibility(state, destination.repo_id, private=destination.private)
    targets = [upload.target for upload in uploads]
    return state, changes_to(state, targets, destination.repo_id, overwrite=destination.overwrite)


def _beside_the_files(bundle: Path, manifest: Manifest) -> list[FileRecord]:
    """Return records of what the manifest cannot list: itself, and the signature, as they are now.

    Raises:
        VerificationError: the manifest is no longer the one that was verified.

    """
    records = []
    for name in (MANIFEST, SIGNATURE):
        path = bundle / name
        if not path.is_file():
            continue
        content = path.read_bytes()
        if name == MANIFEST and not _says(content, manifest):
            raise VerificationError(f"{path} has changed since the bundle was verified: nothing was pushed.")
        sha256 = hashlib.sha256(content).hexdigest()
        records.append(FileRecord(path=name, sha256=sha256, size_bytes=len(content), reproducible=False))
    return records


def _says(content: bytes, manifest: Manifest) -> bool:
    try:
        return Manifest.model_validate_json(content) == manifest
    except ValidationError:
        return False


def _manifest_sha256(uploads: Sequence[Upload]) -> str:
    return next(upload.sha256 for upload in uploads if upload.path == MANIFEST)


def _addition(bundle: Path, upload: Upload) -> "CommitOperationAdd":
    """Return the operation that uploads a file, whose bytes have the hash that the manifest lists.

    What is not large is read once, so that the bytes that are hashed are those that are sent. The hub stores large
    files by the hash that the operation was made with.

    Raises:
        VerificationError: the file has changed.

    """
    from huggingface_hub import CommitOperationAdd

    path = bundle / upload.path
    try:
        content = path if upload.size_bytes > _IN_MEMORY else path.read_bytes()
        addition = CommitOperationAdd(upload.target, content)
    except (OSError, ValueError) as error:  # it is gone
        raise VerificationError(f"{path} cannot be read any more: nothing was pushed.") from error
    _check_unchanged(path, upload, addition.upload_info.sha256.hex())
    return addition


def _check_unchanged(path: Path, upload: Upload, sha256: str) -> None:
    if sha256 != upload.sha256:
        raise VerificationError(f"{path} has changed since the bundle was verified: nothing was pushed.")


def _has_arrived(path: Path, upload: Upload, addition: "CommitOperationAdd", found: Any) -> bool:
    """Whether the hub holds a file as the manifest lists it."""
    if found is None:
        return False
    if found.lfs:
        return bool(found.lfs.sha256 == upload.sha256)
    content = addition.path_or_fileobj
    if not isinstance(content, bytes):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != upload.sha256:
            return False
    return bool(found.blob_id == _git_blob_sha1(content))


def _git_blob_sha1(content: bytes) -> str:
    """Return the name that git gives to a file's content: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
