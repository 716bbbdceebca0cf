"""Putting a bundle into a repository of the Hugging Face hub, in one commit.

The checkpoint's files go to the top, where ``from_pretrained`` and the hub's page look for them; everything else stays
where it is in the bundle. https://huggingface.co/docs/huggingface_hub/guides/upload.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kprune_export.bundle.layout import CHECKPOINT, ENGINES, ENTRIES, MANIFEST, ONNX_FOLDER, SIGNATURE, TRITON
from kprune_export.bundle.manifest import Manifest
from kprune_export.bundle.verify import verify_bundle
from kprune_export.errors import BundleError, GateError, HubError, VerificationError

MAIN = "main"
"""The branch that a repository begins with."""


@dataclass(frozen=True)
class Upload:
    """One file: where it is in the bundle, where it goes in the repository, and its size."""

    path: str
    target: str
    size_bytes: int


@dataclass(frozen=True)
class Pushed:
    """A push that was made: the commit's address and hash, and the files that it removed from the repository."""

    url: str
    commit: str
    removed: tuple[str, ...]


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
        raise HubError(f"{repo_id!r} cannot name a repository on the hub: {_in_words(error)}") from error
    manifest, difference = verify_bundle(bundle)
    if difference:
        raise VerificationError(f"{bundle} has changed since it was made: {'; '.join(difference.lines())}.")
    if manifest.verdict == "failed":
        raise GateError(f"{bundle} is not pushed: its verdict is {manifest.verdict_in_words}.")
    own = [name for name in (MANIFEST, SIGNATURE) if (bundle / name).is_file()]
    paths = sorted([*(file.path for file in manifest.files), *own])
    targets = [path.removeprefix(f"{CHECKPOINT}/") for path in paths]
    if targets == paths:
        raise BundleError(f"{bundle} was made by {manifest.command}: only bundles with a checkpoint can be pushed.")
    if len(set(targets)) < len(targets):
        raise BundleError(f"A file in {bundle / CHECKPOINT} is called like one beside it: they cannot both be pushed.")
    uploads = zip(paths, targets, strict=True)
    return manifest, tuple(Upload(path, target, (bundle / path).stat().st_size) for path, target in uploads)


def push_bundle(
    bundle: Path, repo_id: str, uploads: Sequence[Upload], *, private: bool = False, revision: str = MAIN
) -> Pushed:
    """Upload a bundle in one commit, and check that the repository then holds its bytes.

    What an earlier push of another bundle left there is removed; files that no bundle has are left alone. Until the
    commit the repository is as it was. A push that was interrupted is done again: large files that have arrived are
    not sent twice, and where the commit had been made nothing is changed.

    Args:
        bundle: the folder.
        repo_id: ``owner/name``; the repository is made if it is not there.
        uploads: what `plan_push` returned.
        private: whether the repository must be private.
        revision: the branch, made if it is not there.

    Raises:
        HubError: there is no token, or the hub cannot be reached, refuses, or holds other bytes afterwards.

    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    if get_token() is None:
        raise HubError("The hub needs a token to write: log in with hf auth login, or set HF_TOKEN.")
    api = HfApi()
    try:
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise HubError(f"{repo_id} is there already, and public: make it private first, or leave out --private.")
        if revision != MAIN:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        there = api.model_info(repo_id, revision=revision)
        removed = _left_over([file.rfilename for file in there.siblings or ()], uploads)
        commit = api.create_commit(
            repo_id,
            operations=[
                *(CommitOperationAdd(x.target, bundle / x.path) for x in uploads),
                *(CommitOperationDelete(path) for path in removed),
            ],
            commit_message=f"Push the bundle with the manifest {_sha256(bundle / MANIFEST)[:12]}",
            revision=revision,
            parent_commit=there.sha,
        )
        found = api.get_paths_info(repo_id, [x.target for x in uploads], revision=commit.oid)
    except HubError:
        raise
    except Exception as error:  # the client lets through whatever its transport raises
        raise HubError(
            f"The push to {repo_id} did not finish ({_in_words(error)}): once that is mended run the same command "
            "again, which sends only what is not there."
        ) from error
    _check_arrived(bundle, uploads, {file.path: file for file in found}, repo_id)
    return Pushed(url=commit.commit_url, commit=commit.oid, removed=removed)


def _left_over(there: Sequence[str], uploads: Sequence[Upload]) -> tuple[str, ...]:
    """Return the files in a repository that only an earlier bundle can have put there."""
    new = {upload.target for upload in uploads}
    folders = tuple(f"{name}/" for name in (ONNX_FOLDER, ENGINES, TRITON))
    return tuple(sorted(x for x in there if x not in new and (x in ENTRIES or x.startswith(folders))))


def _check_arrived(bundle: Path, uploads: Sequence[Upload], found: dict[str, Any], repo_id: str) -> None:
    for upload in uploads:
        file, path = found.get(upload.target), bundle / upload.path
        same = file is not None and (
            file.lfs.sha256 == _sha256(path) if file.lfs else file.blob_id == _git_blob_sha1(path)
        )
        if not same:
            raise HubError(f"{repo_id} does not hold {upload.target} as it was sent: push again.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_blob_sha1(path: Path) -> str:
    """Return the name that git gives to a file's content: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _in_words(error: Exception) -> str:
    """Return the first lines of what the client says, on one."""
    return " ".join(str(error).split())[:300] or type(error).__name__
