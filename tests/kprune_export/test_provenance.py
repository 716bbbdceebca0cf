"""The SBOM and the commit in the manifest."""

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

from cyclonedx.model.bom import Bom

from kprune_export.bundle.provenance import CommitRecord, commit_of
from kprune_export.pipeline import Outcome
from kprune_export.sbom import InstalledPackage, installed_packages, sbom_json

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


def test_the_commit_and_whether_files_differ(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert commit_of(tmp_path) is None  # there is no commit yet
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "a")
    sha = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("")
    assert commit_of(tmp_path) == CommitRecord(sha=sha, modified=False)
    (tmp_path / "a").write_text("2")
    assert commit_of(tmp_path) == CommitRecord(sha=sha, modified=True)
