"""What the machine may lack: heavy packages at help time, and room on the disk."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from project_root import ROOT

from kprune_export.pipeline.run import Outcome


def closure(name: str, seen: dict[str, Distribution]) -> dict[str, Distribution]:
    """Return a distribution and all that it requires without extras, as far as this environment has them."""
    from packaging.requirements import Requirement

    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen:
        return seen
    try:
        seen[key] = distribution(name)
    except PackageNotFoundError:
        return seen
    for text in seen[key].requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            closure(requirement.name, seen)
    return seen


def test_all_that_an_install_brings_is_pinned() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: dict[str, Distribution] = {}
    for text in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
        closure(Requirement(text).name, found)
    pins = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    of_cuda_builds = ("nvidia-", "cuda-", "triton")  # torch names and pins its own
    brought = {name for name in found if not name.startswith(of_cuda_builds)}
    assert brought - {"setuptools"} <= pins  # which pip freeze leaves out with pip itself
    assert "pre-commit" in found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the base dependencies alone, linked from this one."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    target = folder / "lib" / version / "site-packages"
    found = closure("kprune-export", {})
    assert {"torch", "transformers", "onnxruntime-gpu", "typer"} <= set(found)
    assert not {"tensorrt", "tritonclient", "sentence-transformers", "pytest"} & set(found)
    tops = {file.parts[0] for item in found.values() for file in item.files or [] if file.parts[0] != ".."}
    site = Path(sysconfig.get_path("purelib"))
    for top in tops - {"__pycache__"}:
        if (site / top).exists() and not (target / top).exists():
            (target / top).symlink_to(site / top)
    for package in ("kprune_export", "pruning", "exporters"):
        (target / package).unlink(missing_ok=True)
        (target / package).symlink_to(ROOT / package)
    return folder / "bin" / "python"


def test_help_needs_nothing_heavy_and_is_quick(bare: Path) -> None:
    program = (
        "import sys, time\nstart = time.perf_counter()\nsys.argv = ['kprune-export', '--help']\n"
        "from kprune_export.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'scipy', 'onnx', 'onnxruntime', 'matplotlib'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    run = subprocess.run([bare, "-c", program], capture_output=True, text=True, check=True, cwd="/", timeout=60)
    assert "prune-and-build" in run.stdout
    assert "HEAVY []" in run.stderr


def test_every_command_has_help_in_a_bare_environment(bare: Path) -> None:
    for command in ("prune-and-build", "prune", "export", "validate", "verify", "inspect", "doctor"):
        run = subprocess.run(
            [bare, "-m", "kprune_export", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
            timeout=60,
        )
        assert "Usage" in run.stdout
        assert "<bool>" not in run.stdout  # a flag takes no value


def test_doctor_names_what_is_missing_in_a_bare_environment(bare: Path) -> None:
    run = subprocess.run(
        [bare, "-m", "kprune_export", "doctor"], capture_output=True, text=True, cwd="/", timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    assert 'To install tritonclient: pip install "kprune-export[triton]"\n' in run.stdout
    assert 'To install sentence-transformers: pip install "kprune-export[sentence]"\n' in run.stdout


def test_opening_an_embedder_names_the_extra_that_it_needs(bare: Path, embedder: Path) -> None:
    program = f"import pruning; pruning.load_sentence_transformer({str(embedder)!r})"
    run = subprocess.run([bare, "-c", program], capture_output=True, text=True, cwd="/", timeout=120, check=False)
    assert run.returncode == 1
    message = run.stderr.strip().splitlines()[-1]
    assert message.startswith(
        "ImportError: load_sentence_transformer needs sentence-transformers 6 or later (No module"
    )
    assert message.endswith('pip install "kprune-export[sentence]".')


@pytest.mark.parametrize("free_kib", [20, 80, 160, 250])
def test_a_full_disk_leaves_the_old_bundle(
    small_disk: Path, free_kib: int, built: Outcome, classifier: Path, texts_file: Path, cli: object,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    import shutil

    bundle = Path(shutil.copytree(built.output, small_disk / "bundle"))
    before = {p.relative_to(bundle): p.read_bytes() for p in bundle.rglob("*") if p.is_file()}
    free = os.statvfs(small_disk)
    filler = free.f_bavail * free.f_frsize - free_kib * 1024
    (small_disk / "filler").write_bytes(b"x" * max(0, filler))
    arguments = [
        "prune-and-build",
        classifier,
        "-o",
        bundle,
        "--calibration",
        texts_file,
        "--samples",
        150,
        "--threads",
        2,
    ]
    arguments += ["--shapes", "1x8", "--timing-seconds", 0.1, "--seed", 5]
    assert cli(*arguments) == 2  # type: ignore[operator]
    assert "No space is left on the disk" in capsys.readouterr().err
    assert {p.relative_to(bundle): p.read_bytes() for p in bundle.rglob("*") if p.is_file()} == before
