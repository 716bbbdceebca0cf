"""The SBOM and the commit in the manifest."""

import json
import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from cyclonedx.model.bom import Bom

from kprune_export.bundle.provenance import CommitRecord, commit_of
from kprune_export.pipeline.run import Outcome
from kprune_export.pipeline.stages.sbom import InstalledPackage, installed_packages, sbom_json

PACKAGES = (
    InstalledPackage(name="kprune-export", version="0.1.0", licence="Apache-2.0"),
    InstalledPackage(name="other", version="2.0+cpu", licence=None),
    InstalledPackage(name="some-lib", version="1.5", licence="MIT OR Apache-2.0"),
)


def git(folder: Path, *arguments: str) -> str:
    names = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *names, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_known_environment() -> None:
    text = sbom_json(PACKAGES)
    assert text == sbom_json(PACKAGES)
    values = json.loads(text)
    assert (values["bomFormat"], values["specVersion"]) == ("CycloneDX", "1.6")
    assert "serialNumber" not in values
    assert "timestamp" not in values["metadata"]
    bom = Bom.from_json(values)  # type: ignore[attr-defined]
    assert bom.metadata.component.name == "kprune-export"
    assert [(x.name, x.version, str(x.purl)) for x in bom.components] == [
        ("other", "2.0+cpu", "pkg:pypi/other@2.0%2Bcpu"),
        ("some-lib", "1.5", "pkg:pypi/some-lib@1.5"),
    ]
    assert [[x.value for x in component.licenses] for component in bom.components] == [[], ["MIT OR Apache-2.0"]]
    [product] = [x for x in values["dependencies"] if x["ref"] == "pkg:pypi/kprune-export@0.1.0"]
    assert product["dependsOn"] == ["pkg:pypi/other@2.0%2Bcpu", "pkg:pypi/some-lib@1.5"]


def test_every_package_is_listed_once() -> None:
    packages = installed_packages()
    names = [package.name for package in packages]
    assert names == sorted(set(names))
    found = {package.name: package.version for package in packages}
    assert found["torch"] == version("torch")
    assert found["ml-dtypes"] == version("ml_dtypes")


def test_a_bundle_holds_it(built: Outcome) -> None:
    text = (built.output / "sbom.json").read_text(encoding="utf-8")
    assert text == sbom_json(installed_packages())
    assert "sbom.json" in built.manifest.reproducible_hashes()
    assert built.manifest.commit == commit_of(Path.cwd())


def commit(folder: Path, text: str) -> str:
    (folder / "a").write_text(text)
    git(folder, "add", "a")
    git(folder, "commit", "-qm", text)
    return git(folder, "rev-parse", "HEAD")


def test_the_commit_wherever_git_stores_it(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "inner" / "folder").mkdir(parents=True)
    assert commit_of(repository) is None
    git(repository, "init", "-q")
    assert commit_of(repository) is None  # there is no commit yet
    first = commit(repository, "1")
    assert commit_of(repository) == commit_of(repository / "inner" / "folder") == CommitRecord(sha=first)
    git(repository, "pack-refs", "--all")
    assert commit_of(repository) == CommitRecord(sha=first)
    second = commit(repository, "2")
    assert commit_of(repository) == CommitRecord(sha=second)  # a reference of its own goes before the packed one
    git(repository, "worktree", "add", "-q", "-b", "other", "../linked", first)
    assert commit_of(tmp_path / "linked") == CommitRecord(sha=first)
    assert commit_of(repository) == CommitRecord(sha=second)
    git(repository, "pack-refs", "--all")
    assert commit_of(tmp_path / "linked") == CommitRecord(sha=first)
    git(repository, "checkout", "-q", "--detach", first)
    assert commit_of(repository) == CommitRecord(sha=first)
    git(repository, "symbolic-ref", "refs/heads/alias", "refs/heads/other")
    git(repository, "symbolic-ref", "HEAD", "refs/heads/alias")
    assert commit_of(repository) == CommitRecord(sha=first)


def test_nothing_of_the_repository_is_run(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    sha = commit(tmp_path, "1")
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\ncat\n")
    script.chmod(0o755)
    (tmp_path / ".gitattributes").write_text("* filter=evil\n")
    for key in ("filter.evil.clean", "filter.evil.process", "core.fsmonitor", "core.pager", "core.sshCommand"):
        git(tmp_path, "config", key, str(script))
    for hook in ("post-index-change", "fsmonitor-watchman"):
        shutil.copy(script, tmp_path / ".git" / "hooks" / hook)
    (tmp_path / "a").write_text("2")
    assert commit_of(tmp_path) == CommitRecord(sha=sha)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "head",
    [
        "",
        "ref: ",
        "ref: refs/heads/main",
        "ref: refs/../../secret",
        "ref: /etc/passwd",
        "ref: HEAD",
        "ref: refs/\0",
        "f" * 39,
        "x" * 100_000,
    ],
)
def test_a_head_that_leads_nowhere(tmp_path: Path, head: str) -> None:
    (tmp_path / "secret").write_text("f" * 40)
    (tmp_path / ".git" / "refs" / "heads").mkdir(parents=True)
    (tmp_path / ".git" / "refs" / "heads" / "main").write_text("ref: refs/heads/main")
    (tmp_path / ".git" / "HEAD").write_text(head)
    assert commit_of(tmp_path) is None


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    os.mkfifo(tmp_path / ".git" / "HEAD")
    assert commit_of(tmp_path) is None  # and it does not wait for what comes out of it
    for text in ("gitdir: ", "gitdir: nowhere", "gitdir: \0", "else", "gitdir: " + "x" * 5000):
        folder = tmp_path / "other"
        folder.mkdir(exist_ok=True)
        (folder / ".git").write_text(text)
        assert commit_of(folder) is None


def test_what_earlier_versions_recorded_is_still_read() -> None:
    assert CommitRecord.model_validate({"sha": "f" * 40, "modified": True}) == CommitRecord(sha="f" * 40)
