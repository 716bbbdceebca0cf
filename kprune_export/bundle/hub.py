"""State of a Hugging Face hub repository before a push, and the changes that the push would make."""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from kprune_export.bundle.layout import CHECKPOINT, MANIFEST, SIGNATURE
from kprune_export.bundle.manifest import Manifest
from kprune_export.errors import HubError, ProductError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_MADE_BY_HUB = frozenset((".gitattributes",))
"""What the hub itself puts into a new repository."""
_LARGEST_MANIFEST = 2**26
"""Bytes; a manifest has a few hundred for each file."""
_NAMED = 5
"""How many files a message names."""


@dataclass(frozen=True)
class RepositoryState:
    """What a branch of a repository holds.

    Attributes:
        exists: whether the repository is there, as far as the token lets it be seen.
        private: whether it is private.
        head: the commit that was looked at.
        files: the paths of all files.
        own: those that the manifest in it lists, the manifest and its signature among them; None where there are
            files but no manifest of this program.

    """

    exists: bool
    private: bool = False
    head: str | None = None
    files: frozenset[str] = frozenset()
    own: frozenset[str] | None = frozenset()


@dataclass(frozen=True)
class Changes:
    """What a push does to the files of a repository; paths are sorted.

    Attributes:
        creates: whether it makes the repository.
        added: files that are not there yet.
        replaced: files that an earlier push put there.
        overwritten: files that something else put there.
        removed: files of the bundle that was pushed before, which are not of this one.

    """

    creates: bool
    added: tuple[str, ...]
    replaced: tuple[str, ...]
    overwritten: tuple[str, ...]
    removed: tuple[str, ...]


def place_of(path: str) -> str:
    """Return where a bundle's file lies in a repository: the checkpoint's at the top, all others as in the bundle."""
    return path.removeprefix(f"{CHECKPOINT}/")


def look_at(api: "HfApi", repo_id: str, revision: str) -> RepositoryState:
    """Return what a branch holds; of one that is not there yet, what the main one holds, which it will begin with.

    Raises:
        HfHubHTTPError: the hub refuses, or the repository is gated; and whatever the client's transport raises.

    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        try:
            info = api.model_info(repo_id, revision=revision)
        except RevisionNotFoundError:
            info = api.model_info(repo_id)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return RepositoryState(exists=False)
    files = frozenset(file.rfilename for file in info.siblings or ())
    own = frozenset[str]() if files <= _MADE_BY_HUB else _listed(api, repo_id, str(info.sha), files)
    return RepositoryState(exists=True, private=bool(info.private), head=info.sha, files=files, own=own)


def changes_to(state: RepositoryState, targets: Iterable[str], repo_id: str, *, overwrite: bool) -> Changes:
    """Return what a push does to a repository.

    Args:
        state: what it holds.
        targets: the paths of the files to be pushed.
        repo_id: its name, for messages.
        overwrite: whether files that no earlier push put there may be overwritten.

    Raises:
        HubError: the repository, or a file that would be overwritten, is not of this program, and that was not allowed.

    """
    new = frozenset(targets)
    own = (state.own or frozenset()) & state.files
    overwritten = (new & state.files) - own
    if state.own is None and not overwrite:
        raise HubError(
            f"{repo_id} holds files and no {MANIFEST} of this program ({_named(state.files - _MADE_BY_HUB)}), so it is "
            f"not an earlier push: name another repository, or pass --overwrite to overwrite "
            f"{_named(overwritten) if overwritten else 'no file'} and leave all others."
        )
    if overwritten and not overwrite:
        raise HubError(
            f"{repo_id} holds {_named(overwritten)}, which no earlier push put there: rename what is there, or pass "
            "--overwrite to overwrite it."
        )
    return Changes(
        creates=not state.exists,
        added=tuple(sorted(new - state.files)),
        replaced=tuple(sorted(new & own)),
        overwritten=tuple(sorted(overwritten)),
        removed=tuple(sorted(own - new)),
    )


def check_visibility(state: RepositoryState, repo_id: str, *, private: bool) -> None:
    """Refuse a public repository where a private one is asked for.

    Raises:
        HubError: it is public.

    """
    if private and state.exists and not state.private:
        raise HubError(f"{repo_id} is there already, and public: make it private first, or leave out --private.")


@contextlib.contextmanager
def hub_errors(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever the hub's client raises into one sentence.

    Args:
        what: what did not succeed.
        remedy: what to do.

    Raises:
        HubError: instead of anything that is not an error of this package.

    """
    try:
        yield
    except ProductError:
        raise
    except Exception as error:  # the client lets through whatever its transport raises
        raise HubError(f"{what} ({in_words(error)}): {remedy}") from error


def in_words(error: Exception) -> str:
    """Return the first lines of what the client says, on one."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _listed(api: "HfApi", repo_id: str, head: str, files: frozenset[str]) -> frozenset[str] | None:
    """Return the files that the repository's own manifest lists; None where it has none of this program."""
    if MANIFEST not in files:
        return None
    found = api.get_paths_info(repo_id, [MANIFEST], revision=head)
    if not found or getattr(found[0], "size", _LARGEST_MANIFEST) >= _LARGEST_MANIFEST:
        return None
    with tempfile.TemporaryDirectory(prefix="kprune-export-") as folder:
        path = api.hf_hub_download(repo_id, MANIFEST, revision=head, cache_dir=folder)
        content = Path(path).read_bytes()
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError:
        return None
    return frozenset((MANIFEST, SIGNATURE, *(place_of(file.path) for file in manifest.files)))


def _named(files: Iterable[str]) -> str:
    names = sorted(files)
    more = len(names) - _NAMED
    return ", ".join(map(repr, names[:_NAMED])) + (f" and {more} more" if more > 0 else "")
