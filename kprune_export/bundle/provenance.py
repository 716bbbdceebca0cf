"""Where a bundle was made: the commit of the working directory's repository."""

import shutil
import subprocess
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class CommitRecord(BaseModel):
    """A git commit.

    Attributes:
        sha: its hash.
        modified: whether tracked files differed from it.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha: str
    modified: bool


def commit_of(folder: Path) -> CommitRecord | None:
    """Return the commit that a folder's repository is at; None where it is in none, or git is not installed."""
    if shutil.which("git") is None:
        return None
    sha = _git(folder, "rev-parse", "--verify", "HEAD")
    if sha is None:
        return None
    changes = _git(folder, "-c", "core.fsmonitor=false", "status", "--porcelain", "--untracked-files=no")
    return CommitRecord(sha=sha, modified=changes != "")


def _git(folder: Path, *arguments: str) -> str | None:
    found = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None
