"""What sweeps in the tests have in common."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporters.timing.latency import TimingSettings


@pytest.fixture(scope="module", autouse=True)
def short_tables() -> Iterator[None]:
    """Time each model of a latency table for a shorter time than a real one: only widths depend on it here."""
    with pytest.MonkeyPatch.context() as patch:
        short = TimingSettings(warmup_s=0.01, seconds=0.02, min_blocks=3, block_s=0.005)
        patch.setattr("exporters.timing.latency_table.measure.TIMING", short)
        yield


@pytest.fixture(scope="module")
def wide(make_checkpoint: Callable[..., Path]) -> Path:
    """A classifier that spends most of its time in its FFNs, so that a speedup of 1.1 is to be had."""
    return make_checkpoint(hidden_size=64, intermediate_size=768, num_hidden_layers=2)
