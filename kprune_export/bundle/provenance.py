"""Provenance of a bundle: the commit of the working directory's repository.

Git itself is not asked. A repository's own configuration can name programs that git runs, filters, hooks and monitors
among them, and the working directory may be a downloaded checkpoint. Its files are read instead:
https://git-scm.com/docs/gitrepository-layout.
"""

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MOST_BYTES = 4096
"""Of HEAD, of a reference and of what names a folder: they hold a line."""
_MOST_LINKS = 5
"""How many references may name one another; git takes as many."""


class CommitRecord(BaseModel):
    """A git commit.

    Whether files differed from it is not recorded: only git could find out, by running the filters that the repository
    names. Manifests of earlier versions say so under ``modified``, which is ignored.

    Attributes:
        sha: its hash.

    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha: str


def commit_of(folder: Path) -> CommitRecord | None:
    """Return the commit that a folder's repository is at.

    None where it is in none, where there is no commit yet, and where references are not stored in files.
    """
    for place in (folder, *folder.parents):
        entry = place / ".git"
        git = entry if _is_folder(entry) else _named_folder(entry, "gitdir: ")
        if git is not None and _first_line(git / "HEAD"):
            sha = _resolve(git)
            return CommitRecord(sha=sha) if sha else None
    return None


def _resolve(git: Path) -> str | None:
    """Return the hash that a repository's HEAD leads to; of a linked worktree, references are in the main one's."""
    common = _named_folder(git / "commondir", "") or git
    name = "HEAD"
    for _ in range(_MOST_LINKS):
        found = _first_line(git / name) or _first_line(common / name) or _packed(common, name)
        if found is None or not found.startswith("ref: "):
            return found if found and _SHA.fullmatch(found) else None
        name = found.removeprefix("ref: ").strip()
        if not name.startswith("refs/") or ".." in name.split("/"):
            return None
    return None


def _packed(git: Path, name: str) -> str | None:
    try:
        if (git / "packed-refs").is_file():
            with (git / "packed-refs").open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    sha, _, packed = line.rstrip("\n").partition(" ")
                    if packed == name:
                        return sha
    except OSError:
        pass
    return None


def _named_folder(file: Path, prefix: str) -> Path | None:
    """Return the folder that a file names after a prefix, relative to its own."""
    line = _first_line(file)
    if line is None or not line.startswith(prefix):
        return None
    folder = file.parent / line.removeprefix(prefix)
    return folder if _is_folder(folder) else None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that the system does not take
        return False


def _first_line(path: Path) -> str | None:
    """Return the first line of a small file; None where there is no such file, or it cannot be read."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode(errors="replace")
    except (OSError, ValueError):  # as above
        return None
    return text.partition("\n")[0].rstrip("\r")
