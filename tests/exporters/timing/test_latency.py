import os

import numpy as np
import pytest
from torch import nn

from exporters.machine.description import describe_machine
from exporters.onnx.file import OnnxArtefact
from exporters.runners.base import Feeds, Runner
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner
from exporters.runners.torch_runner import TorchRunner
from exporters.spec import ModelSpec, Shape
from exporters.timing.latency import (
    LatencyReport,
    Measured,
    NoiseCheck,
    TimingSettings,
    latency_stats,
    measure_latency,
    speedup_interval,
)
from exporters.timing.timers import Calls, HostClock

QUICK = TimingSettings(warmup_s=0.02, seconds=0.1, min_blocks=5, block_s=0.02)


def test_stats_by_hand() -> None:
    stats = latency_stats([0.001, 0.002, 0.003, 0.004, 0.010], batch=8)
    assert (stats.calls, stats.mean_ms, stats.p50_ms) == (5, 4.0, 3.0)
    assert stats.p90_ms == pytest.approx(4 + 0.6 * 6)  # linear between the 4th and 5th of five
    assert stats.sequences_per_s == 2000.0
    assert stats.samples_ms == (1.0, 2.0, 3.0, 4.0, 10.0)


def test_interval_holds_the_median_and_narrows() -> None:
    random = np.random.default_rng(1)
    few, many = random.normal(2, 0.2, 15), random.normal(2, 0.2, 400)
    for ratios in (few, many):
        low, high = speedup_interval(ratios)
        assert low <= np.median(ratios) <= high
    assert np.subtract(*speedup_interval(many)[::-1]) < np.subtract(*speedup_interval(few)[::-1])
    assert speedup_interval(np.array([1.5, 1.5])) == (1.5, 1.5)


class Slowed(TorchRunner):
    """A model that is said to take so long, by `Pretended`."""

    def __init__(self, module: nn.Module, spec: ModelSpec, seconds: float) -> None:
        super().__init__(module, spec)
        self.seconds = seconds

    def next_call(self) -> float:
        return self.seconds


class Pretended(HostClock):
    """Returns given times of models, so that no other process can change them."""

    def block(self, runner: Runner, feeds: Feeds, calls: int) -> Calls:
        assert isinstance(runner, Slowed)
        return Calls(tuple(runner.next_call() for _ in range(calls)))


@pytest.fixture(scope="module")
def subject() -> Measured:
    return Measured(dense_bytes=2, pruned_bytes=1, threads=2, machine=describe_machine())


def test_a_known_ratio_is_measured(encoder: nn.Module, spec: ModelSpec, subject: Measured) -> None:
    dense, pruned = Slowed(encoder, spec, 0.006), Slowed(encoder, spec, 0.002)
    report = measure_latency(dense, pruned, spec, [Shape(2, 4)], subject, "a pool", QUICK, timer=Pretended())
    (shape,) = report.shapes
    assert shape.speedup == pytest.approx(3.0)
    assert shape.speedup_low == pytest.approx(3.0)
    assert shape.speedup_high == pytest.approx(3.0)
    assert shape.dense.p50_ms == pytest.approx(6.0)
    assert shape.pruned.calls >= 5 * 5
    assert shape.disturbance is not None  # of this process, whatever the times are


def test_a_model_is_as_fast_as_itself(encoder: nn.Module, spec: ModelSpec, subject: Measured) -> None:
    """And the machine is said to be noisy where it is not; what is measured of the other model stays the same."""
    dense, pruned = Slowed(encoder, spec, 0.006), Slowed(encoder, spec, 0.003)
    found = {}
    for name, seconds in (("alike", 0.006), ("slower", 0.009)):
        again = Slowed(encoder, spec, seconds)
        timed = measure_latency(
            dense, pruned, spec, [Shape(2, 4)], subject, "a pool", QUICK, again=again, timer=Pretended()
        )
        found[name] = timed.shapes[0].noise
        assert timed.shapes[0].speedup == pytest.approx(2.0)
    assert found["alike"] is not None
    assert found["slower"] is not None
    assert (found["alike"].ratio, found["alike"].quiet) == (1.0, True)
    assert found["slower"].ratio == pytest.approx(6 / 9)
    assert not found["slower"].quiet


def test_quiet_by_hand() -> None:
    assert NoiseCheck(ratio=1.02, low=0.99, high=1.04).quiet
    assert NoiseCheck(ratio=1.005, low=1.004, high=1.006).quiet  # a hundredth is no difference to anyone
    assert not NoiseCheck(ratio=1.05, low=1.02, high=1.08).quiet
    assert not NoiseCheck(ratio=0.9, low=0.85, high=0.98).quiet
    assert not NoiseCheck(ratio=1.0, low=0.8, high=1.05).quiet  # one lies in it, but so does much else


class Stalling(Slowed):
    """Every fifth call waits, as on a machine that others use too."""

    calls = 0

    def next_call(self) -> float:
        self.calls += 1
        return 0.04 if self.calls % 5 == 0 else self.seconds


def test_it_takes_no_longer_than_asked(encoder: nn.Module, spec: ModelSpec, subject: Measured) -> None:
    short = TimingSettings(warmup_s=0.02, seconds=0.15)
    runners = Slowed(encoder, spec, 0.005), Slowed(encoder, spec, 0.005)
    report = measure_latency(*runners, spec, [Shape(2, 4)], subject, "a pool", short, timer=Pretended())
    assert report.method.startswith("blocks of about 10 ms")
    assert 15 <= report.shapes[0].dense.calls <= 15 * 2
    stalling = Stalling(encoder, spec, 0.001), Stalling(encoder, spec, 0.001)
    report = measure_latency(*stalling, spec, [Shape(2, 4)], subject, "a pool", QUICK, timer=Pretended())
    assert report.shapes[0].dense.calls <= 5 * 3 + 3  # of 8.8 ms on average, in blocks of 20 ms


def test_real_sessions_and_every_shape(artefact: OnnxArtefact, spec: ModelSpec, subject: Measured) -> None:
    shares: list[float] = []
    with OnnxRuntimeRunner(artefact.path, 2) as one, OnnxRuntimeRunner(artefact.path, 2) as same:
        report = measure_latency(one, same, spec, [Shape(1, 8), Shape(4, 32)], subject, "a pool", QUICK, shares.append)
    assert [shape.shape for shape in report.shapes] == ["1x8", "4x32"]
    assert report.runtime == "onnxruntime (CPU)"
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert report.smallest_speedup.speedup == min(shape.speedup for shape in report.shapes)
    assert report.affinity == tuple(sorted(os.sched_getaffinity(0)))
    assert [len(shape.cpu) for shape in report.shapes] == [2, 2]  # before and after
    assert LatencyReport.model_validate_json(report.model_dump_json()) == report
