"""A bundle of a tiny classifier, built once."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kprune_export.pipeline.run import Outcome, prune_and_build
from kprune_export.recipe.recipe import Recipe


def quick_recipe(model: Path, output: Path, texts: Path, **settings: object) -> Recipe:
    quick = {
        "calibration": str(texts),
        "samples": 150,
        "held_out": 40,
        "sequence_length": 16,
        "shapes": ("1x8", "2x16"),
        "timing_seconds": 0.1,
        "threads": 2,
    }
    return Recipe.build(None, {"model": str(model), "output": output, **quick, **settings})


@pytest.fixture(scope="session")
def make_recipe() -> object:
    return quick_recipe


@pytest.fixture(scope="session")
def built(classifier: Path, texts_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    output = tmp_path_factory.mktemp("built") / "bundle"
    return prune_and_build(quick_recipe(classifier, output, texts_file))


@pytest.fixture(autouse=True, scope="session")
def own_thread_pools() -> Iterator[None]:
    """Commands that tests run in this process leave it as it is.

    A command shares one pool of threads among the sessions of its process, for good; sessions that other tests make
    would have to belong to it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exporters.runners.onnxruntime_runner.share_thread_pool", lambda _: None)
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", mount], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"needs the right to mount a small file system: {made.stderr.strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)
