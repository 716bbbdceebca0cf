"""Wheel and sdist: what is in them, and that the wheel works where nothing of the repository is."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("kprune_export", "pruning", "exporters")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist, built from a copy of the tracked files."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("needs the git repository, to know which files belong to it")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", output, source], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return output


@pytest.mark.slow
def test_the_wheel_has_every_module_and_data_file(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.suffix in (".py", ".j2", ".typed"):
                assert path.relative_to(ROOT).as_posix() in names
    others = {name.split("/")[0] for name in names} - set(PACKAGES)
    assert len(others) == 1
    assert others.pop().endswith(".dist-info")


@pytest.mark.slow
def test_the_sdist_has_what_tests_and_documentation_need(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"CHANGELOG.md", "SECURITY.md", "LICENSE", "constraints.txt", "mkdocs.yml", "tests/conftest.py"} <= names
    assert {"docs/index.md", "tools/mkdocs_hooks.py", "templates/prune.yml", "action.yml", "Dockerfile"} <= names


@pytest.mark.slow
def test_the_installed_wheel_makes_a_bundle(
    built: Path, classifier: Path, make_sentences: Callable[..., list[str]], tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    own = next((environment / "lib").glob("python*")) / "site-packages"
    # The dependencies are those of this environment. A path in a .pth file is only searched: what is installed there in
    # editable mode, as this project may be, is not found by it.
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (wheel,) = built.glob("*.whl")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel],
        check=True,
        capture_output=True,
    )

    def run(*command: object) -> str:
        surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, env=surroundings, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    command = environment / "bin" / "kprune-export"
    for package in PACKAGES:
        assert run(python, "-c", f"import {package}; print({package}.__file__)").startswith(str(own))
    assert run(command, "--version").startswith("kprune-export 0.1.0")
    (tmp_path / "texts.txt").write_text("\n".join(make_sentences(120)), encoding="utf-8")
    quick = ["--samples", 80, "--held-out", 40, "--shapes", "1x8", "--timing-seconds", 0.1, "--flops-reduction", 0.5]
    run(command, "prune-and-build", classifier, "--output", "bundle", "--calibration", "texts.txt", "--triton", *quick)
    run(command, "verify", "bundle")
    assert (tmp_path / "bundle" / "report.html").stat().st_size > 10_000
