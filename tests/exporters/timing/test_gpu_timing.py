"""Timers: with known sequences here, on a GPU with a kernel that waits for a known number of cycles."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from exporters.errors import MeasurementError
from exporters.inputs import synthetic_inputs
from exporters.machine.description import describe_machine
from exporters.machine.gpu import GpuClock, GpuRecord
from exporters.runners.base import Feeds, Runner
from exporters.runners.torch_runner import TorchDeviceRunner, TorchRunner
from exporters.spec import ModelSpec, Shape
from exporters.timing.gpu_timer import DeviceEvents, read_clock
from exporters.timing.latency import LatencyReport, Measured, TimingSettings, latency_stats, measure_latency
from exporters.timing.timers import Calls, HostClock

SETTINGS = TimingSettings(warmup_s=0.0, seconds=0.1, min_blocks=4, block_s=0.02)


class Scripted:
    """A timer that returns given times, and remembers who was timed when."""

    description = "as the script says"

    def __init__(self, seconds: dict[Runner, tuple[float, ...]], enqueue: dict[Runner, float]) -> None:
        self.seconds = seconds
        self.enqueue = enqueue
        self.blocks: list[tuple[Runner, int]] = []
        self.prepared: list[Runner] = []
        self.read = 0

    def prepare(self, runner: Runner, feeds: Feeds) -> None:
        self.prepared.append(runner)

    def block(self, runner: Runner, feeds: Feeds, calls: int) -> Calls:
        self.blocks.append((runner, calls))
        times = self.seconds[runner]
        return Calls(tuple(times[i % len(times)] for i in range(calls)), (self.enqueue[runner],) * calls)

    def clock(self) -> GpuClock:
        self.read += 1
        return GpuClock(sm_mhz=1000 * self.read, unknown=None)

    def gpu(self) -> GpuRecord:
        return GpuRecord(name="a GPU", compute_capability="9.0", memory_gib=80.0, driver="580.1", cuda="13.0")


@pytest.fixture
def subject() -> Measured:
    return Measured(dense_bytes=2, pruned_bytes=1, threads=1, machine=describe_machine())


def test_a_known_sequence(encoder: nn.Module, spec: ModelSpec, subject: Measured) -> None:
    dense, pruned = TorchRunner(encoder, spec), TorchRunner(encoder, spec)
    timer = Scripted({dense: (0.010,), pruned: (0.002, 0.004)}, {dense: 0.0079, pruned: 0.0021})
    report = measure_latency(dense, pruned, spec, [Shape(8, 16)], subject, "a pool", SETTINGS, timer=timer)
    (shape,) = report.shapes
    assert timer.prepared == [dense, pruned]
    assert timer.blocks[:2] == [(dense, 1), (pruned, 1)]  # the warm-up
    blocks = timer.blocks[2:]
    assert [runner for runner, _ in blocks[:6]] == [dense, pruned, pruned, dense, dense, pruned]
    assert {(runner is dense, calls) for runner, calls in blocks} == {(True, 2), (False, 10)}  # of 10 and of 2 ms
    assert shape.dense.calls == 10  # 0.1 s of 10 ms, in blocks of two
    assert (shape.dense.p50_ms, shape.dense.p99_ms, shape.dense.sequences_per_s) == (10.0, 10.0, 800.0)
    assert (shape.pruned.p50_ms, shape.pruned.p90_ms) == (3.0, 4.0)
    assert (shape.dense.enqueue_p50_ms, shape.dense.enqueue_bound) == (7.9, False)  # of 10: under the 80 %
    assert (shape.pruned.enqueue_p50_ms, shape.pruned.enqueue_bound) == (2.1, False)
    assert shape.speedup == pytest.approx(10 / 3)
    assert [clock.sm_mhz for clock in shape.clocks] == [1000, 2000]
    assert report.gpu is not None
    assert report.gpu.name == "a GPU"
    assert report.method.endswith("as the script says")
    assert LatencyReport.model_validate_json(report.model_dump_json()) == report


def test_a_gpu_that_waits_for_the_host_is_flagged() -> None:
    assert latency_stats([0.010] * 4, 1, [0.0081] * 4).enqueue_bound is True
    assert latency_stats([0.010] * 4, 1, [0.0080] * 4).enqueue_bound is False
    plain = latency_stats([0.010] * 4, 1)
    assert (plain.enqueue_p50_ms, plain.enqueue_bound) == (None, None)


def test_percentiles_by_hand() -> None:
    stats = latency_stats([i / 1000 for i in range(1, 102)], 1)  # 1 to 101 ms, so that they fall on calls
    assert (stats.p50_ms, stats.p90_ms, stats.p95_ms, stats.p99_ms) == pytest.approx((51, 91, 96, 100))


def test_the_host_clock_times_each_call(encoder: nn.Module, spec: ModelSpec) -> None:
    ran = []

    class Counting(TorchRunner):
        def _run(self, feeds: Feeds) -> dict[str, object]:
            ran.append(len(feeds))
            return {}

    timed = HostClock().block(Counting(encoder, spec), synthetic_inputs(spec, Shape(1, 2)), 3)
    assert ran == [3, 3, 3]
    assert len(timed.seconds) == 3
    assert not timed.enqueue_s


def test_events_do_not_time_the_cpu(encoder: nn.Module, spec: ModelSpec) -> None:
    for runner in (TorchRunner(encoder, spec), TorchDeviceRunner(encoder, spec, torch.device("cpu"))):
        with pytest.raises(MeasurementError, match="does not run on a GPU, so CUDA events cannot time it"):
            DeviceEvents().prepare(runner, synthetic_inputs(spec, Shape(1, 2)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_a_clock_that_cannot_be_read_says_why() -> None:
    assert read_clock() == GpuClock(sm_mhz=None, unknown="torch finds no GPU")


class Waiting(nn.Module):
    """Keeps the GPU busy for a number of its cycles."""

    def __init__(self, cycles: int) -> None:
        super().__init__()
        self.cycles = cycles

    def forward(self, input_ids: torch.Tensor, **_: torch.Tensor) -> torch.Tensor:
        torch.cuda._sleep(self.cycles)
        return input_ids


@pytest.mark.gpu
def test_events_time_a_known_kernel(spec: ModelSpec, subject: Measured) -> None:
    device = torch.device("cuda", 0)
    long, short = (TorchDeviceRunner(Waiting(cycles), spec, device) for cycles in (4_000_000, 1_000_000))
    settings = replace(SETTINGS, seconds=0.3, warmup_s=0.2, min_blocks=10)
    report = measure_latency(long, short, spec, [Shape(1, 4)], subject, "a stream", settings, timer=DeviceEvents())
    (shape,) = report.shapes
    assert shape.speedup == pytest.approx(4.0, rel=0.05)  # both count the same clock's cycles
    assert shape.dense.enqueue_bound is False
    assert report.gpu is not None
    assert len(shape.clocks) == 2


@pytest.mark.gpu
def test_a_network_is_not_faster_than_its_copies_allow(encoder: nn.Module, spec: ModelSpec) -> None:
    """Compute time leaves out what the synchronous loop has: copies, launches and waiting."""
    device = torch.device("cuda", 0)
    runner = TorchDeviceRunner(copy.deepcopy(encoder).to(device), spec, device)
    feeds = synthetic_inputs(spec, Shape(8, 64))
    medians = []
    for timer in (DeviceEvents(), HostClock()):
        timer.prepare(runner, feeds)
        timer.block(runner, feeds, 20)
        medians.append(sorted(timer.block(runner, feeds, 50).seconds)[25])
    assert 0 < medians[0] < medians[1]
