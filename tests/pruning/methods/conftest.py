from collections.abc import Callable
from pathlib import Path

import pytest

from pruning import load_checkpoint
from pruning.calibration.batches import Batch, make_batches
from pruning.calibration.examples import Example


@pytest.fixture(scope="session")
def texts(make_sentences: Callable[..., list[str]]) -> list[Example]:
    return [Example(text) for text in make_sentences(80, length=14)]


@pytest.fixture
def batches(classifier: Path, texts: list[Example]) -> tuple[Batch, ...]:
    return make_batches(load_checkpoint(classifier).tokenizer, texts, 64, batch_size=16)
