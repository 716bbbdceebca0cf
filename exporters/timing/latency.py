"""Latency of dense against pruned, measured so that the ratio can be trusted.

The two runners take turns in short blocks, so that both see the same machine: its clock, its
neighbours, its temperature. Percentiles are over single calls, nothing left out; the speedup is the
median over pairs of neighbouring blocks, with a bootstrap interval over those pairs. What a call is timed
from and to is the timer's: by default from inputs in host memory to outputs in host memory, on a monotonic clock.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, computed_field
from scipy.stats import bootstrap

from exporters.inputs import synthetic_inputs
from exporters.machine.cpu import CpuMoment, affinity, read_cpu
from exporters.machine.description import MachineRecord
from exporters.machine.gpu import GpuClock, GpuRecord
from exporters.parts import FinishedParts
from exporters.runners.base import Feeds, Runner
from exporters.spec import ModelSpec, Shape
from exporters.timing.noise import Disturbance, NoiseCheck, Watch, noise_factor, noise_reason, total
from exporters.timing.timers import HostClock, Timer

BOOTSTRAP_RESAMPLES = 2000
CONFIDENCE = 0.95
NOISE_SHARE = 0.5
"""The check of the machine takes this share of the time that a pair of models takes."""
ENQUEUE_BOUND = 0.8
"""The share of the compute time from which the enqueue time is said to bound a GPU, by the medians, as in trtexec."""


@dataclass(frozen=True)
class TimingSettings:
    """How long to measure.

    Attributes:
        warmup_s: both runners are warmed up for this long, at each shape, before anything counts.
        seconds: each runner is timed for at least this long at each shape.
        min_blocks: pairs of blocks to time at least, whatever a call takes.
        block_s: about how long one block of one runner lasts at most.

    """

    warmup_s: float = 0.2
    seconds: float = 3.0
    min_blocks: int = 15
    block_s: float = 0.1

    @property
    def block_length_s(self) -> float:
        """About how long one block of one runner lasts: shorter ones make the least number fit in a short time."""
        return min(self.block_s, self.seconds / self.min_blocks)


class LatencyStats(BaseModel):
    """The distribution of one runner's calls at one shape."""

    model_config = ConfigDict(frozen=True)

    calls: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    sequences_per_s: float
    """By the mean: what calls would give that follow each other without a pause."""
    samples_ms: tuple[float, ...]
    """Every call, in the order in which it was made."""
    enqueue_p50_ms: float | None = None
    """How long the host took to hand a call to the GPU, where the timer measures it."""
    enqueue_bound: bool | None = None
    """Whether the GPU was likely waiting for the host, so that the times say little of the GPU: see `ENQUEUE_BOUND`."""


class ShapeLatency(BaseModel):
    """Dense and pruned at one shape."""

    model_config = ConfigDict(frozen=True)

    shape: str
    dense: LatencyStats
    pruned: LatencyStats
    speedup: float
    """Median over block pairs of dense time over pruned time."""
    speedup_low: float
    speedup_high: float
    """The ends of the 95 % bootstrap interval."""
    noise: NoiseCheck | None = None
    """The check of the machine, where one was made."""
    clocks: tuple[GpuClock, ...] = ()
    """The GPU's clock before the first block and after the last, where a GPU was timed."""
    cpu: tuple[CpuMoment, ...] = ()
    """The machine's load and the processors' clocks at the same moments."""
    disturbance: Disturbance | None = None
    """What kept the threads from the processors meanwhile; None where a GPU was timed."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def noise_reason(self) -> str | None:
        """Why these figures cannot be trusted, in words; None where nothing speaks against them."""
        return noise_reason(self.noise, self.disturbance)

    @property
    def noise_factor(self) -> float:
        """How many times too large or too small a ratio of these times may be, at least 1."""
        return noise_factor(self.noise, self.disturbance)


class Measured(BaseModel):
    """What was measured, and on what."""

    model_config = ConfigDict(frozen=True)

    dense_bytes: int
    pruned_bytes: int
    """The sizes of the two models' files."""
    threads: int
    machine: MachineRecord


class LatencyReport(BaseModel):
    """All shapes, and what they were measured on."""

    model_config = ConfigDict(frozen=True)

    format: Literal["kprune-latency"] = "kprune-latency"
    version: Literal[2] = 2
    runtime: str
    method: str
    subject: Measured
    gpu: GpuRecord | None = None
    affinity: tuple[int, ...] = ()
    """The numbers of the processors that the runners might use."""
    shapes: tuple[ShapeLatency, ...]
    baseline_shapes: tuple[ShapeLatency, ...] = ()
    """The same against the dense model in the same precision, where that is not fp32: what pruning gained."""

    @property
    def noise_reasons(self) -> dict[str, str]:
        """Why times cannot be relied on, by the shapes at which they cannot."""
        reasons: dict[str, str] = {}
        for shape in (*self.shapes, *self.baseline_shapes):
            if shape.noise_reason:
                reasons.setdefault(shape.shape, shape.noise_reason)
        return reasons

    @property
    def smallest_speedup(self) -> ShapeLatency:
        """The shape that gained least."""
        return min(self.shapes, key=lambda shape: shape.speedup)


def measure_latency(
    dense: Runner,
    pruned: Runner,
    spec: ModelSpec,
    shapes: Sequence[Shape],
    subject: Measured,
    place: str,
    settings: TimingSettings | None = None,
    progress: Callable[[float], None] = lambda _: None,
    timer: Timer | None = None,
    again: Runner | None = None,
    parts: FinishedParts | None = None,
) -> LatencyReport:
    """Time two runners against each other at every shape.

    Args:
        dense: what the speedup is relative to.
        pruned: what is measured.
        spec: the inputs to make.
        shapes: the shapes to time.
        subject: the models' sizes, the threads and the machine, for the record.
        place: in which process or processes the runners run, and with which threads, in words, for the record.
        settings: how long to measure.
        progress: called with how far the measurement is.
        timer: how calls are timed; by the host's clock unless given.
        again: the dense model opened a second time, to check the machine with.
        parts: where finished shapes are kept and taken from.

    """
    settings, parts = settings or TimingSettings(), parts or FinishedParts()
    timer = timer or HostClock()
    results = []
    for number, shape in enumerate(shapes):

        def report(share: float, number: int = number) -> None:
            progress((number + share) / len(shapes))

        feeds = synthetic_inputs(spec, shape)
        measure = partial(
            _measure_shape, (dense, pruned), again, feeds, shape, settings, report, timer, subject.threads
        )
        results.append(parts.once(str(shape), ShapeLatency, measure))
        report(1.0)
    return LatencyReport(
        runtime=pruned.name,
        method=(
            f"blocks of about {settings.block_length_s * 1000:.0f} ms, dense and pruned in turn, {place}, "
            f"{settings.warmup_s * 1000:.0f} ms warm-up; {timer.description}"
        ),
        subject=subject,
        gpu=timer.gpu(),
        affinity=affinity(),
        shapes=tuple(results),
    )


@dataclass(frozen=True)
class Alternated:
    """Two runners timed in turn.

    Attributes:
        seconds: every call's seconds, of each.
        enqueue_s: the same for what the host took to hand a call to a GPU, where that is a time of its own.
        ratios: the ratio of each block pair.
        disturbance: what kept the threads from the processors meanwhile; None where a GPU was timed.

    """

    seconds: tuple[list[float], list[float]]
    enqueue_s: tuple[list[float], list[float]]
    ratios: NDArray[np.float64]
    disturbance: Disturbance | None = None


def _measure_shape(
    runners: tuple[Runner, Runner],
    again: Runner | None,
    feeds: Feeds,
    shape: Shape,
    settings: TimingSettings,
    progress: Callable[[float], None],
    timer: Timer,
    threads: int,
) -> ShapeLatency:
    pair_share = 1 if again is None else 1 / (1 + NOISE_SHARE)
    for runner in runners:
        timer.prepare(runner, feeds)
    clocks, cpu = [timer.clock()], [read_cpu()]
    found = alternate(runners, feeds, settings, lambda share: progress(share * pair_share), timer, threads)
    disturbance = found.disturbance
    clocks.append(timer.clock())
    cpu.append(read_cpu())
    noise = None
    if again is not None:
        timer.prepare(again, feeds)
        shorter = replace(settings, seconds=settings.seconds * NOISE_SHARE)
        rest = alternate(
            (runners[0], again),
            feeds,
            shorter,
            lambda share: progress(pair_share + share * (1 - pair_share)),
            timer,
            threads,
        )
        disturbance = total((disturbance, rest.disturbance))
        low, high = speedup_interval(rest.ratios)
        noise = NoiseCheck(ratio=float(np.median(rest.ratios)), low=low, high=high)
    low, high = speedup_interval(found.ratios)
    return ShapeLatency(
        shape=str(shape),
        dense=latency_stats(found.seconds[0], shape.batch, found.enqueue_s[0]),
        pruned=latency_stats(found.seconds[1], shape.batch, found.enqueue_s[1]),
        speedup=float(np.median(found.ratios)),
        speedup_low=low,
        speedup_high=high,
        noise=noise,
        clocks=tuple(clock for clock in clocks if clock is not None),
        cpu=tuple(cpu),
        disturbance=disturbance,
    )


def timed_in_turn(
    runners: tuple[Runner, Runner],
    spec: ModelSpec,
    shape: Shape,
    settings: TimingSettings,
    timer: Timer,
    threads: int = 1,
) -> Alternated:
    """Time two runners in turn at a shape, on inputs that are made for it; arguments as those of `alternate`."""
    feeds = synthetic_inputs(spec, shape)
    for runner in runners:
        timer.prepare(runner, feeds)
    return alternate(runners, feeds, settings, lambda _: None, timer, threads)


def alternate(
    runners: tuple[Runner, Runner],
    feeds: Feeds,
    settings: TimingSettings,
    progress: Callable[[float], None],
    timer: Timer,
    threads: int = 1,
) -> Alternated:
    """Time two runners in turn, in blocks, until both were timed for long enough and in enough blocks.

    Args:
        runners: both prepared by the timer with the feeds.
        feeds: what they are called with.
        settings: how long.
        progress: called with the share that is done.
        timer: how calls are timed.
        threads: how many threads each runs with, which determines whether they wait for each other.

    """
    watch = None if timer.gpu() else Watch({runner.process_id for runner in runners}, threads)
    calls = [_calls_a_block(runner, feeds, settings, timer) for runner in runners]
    found = Alternated(([], []), ([], []), np.empty(0))
    ratios: list[float] = []
    spent = [0.0, 0.0]
    while min(spent) < settings.seconds or len(ratios) < settings.min_blocks:
        block = [0.0, 0.0]
        first = len(ratios) % 2  # who goes first alternates too
        for side in (first, 1 - first):
            timed = timer.block(runners[side], feeds, calls[side])
            found.seconds[side].extend(timed.seconds)
            found.enqueue_s[side].extend(timed.enqueue_s)
            spent[side] += sum(timed.seconds)
            block[side] = float(np.median(timed.seconds))
        ratios.append(block[0] / block[1])
        progress(min(1.0, min(spent) / settings.seconds, len(ratios) / settings.min_blocks))
    return replace(found, ratios=np.asarray(ratios), disturbance=watch.seen() if watch else None)


def _calls_a_block(runner: Runner, feeds: Feeds, settings: TimingSettings, timer: Timer) -> int:
    """Warm a runner up and return how many of its calls fill a block.

    By the mean call, the first left out: where others use the machine too, the quickest says little of how
    long a block will take.
    """
    end = time.perf_counter() + settings.warmup_s
    times = list(timer.block(runner, feeds, 1).seconds)
    while time.perf_counter() < end:
        times += timer.block(runner, feeds, 1).seconds
    return max(1, round(settings.block_length_s / float(np.mean(times[1:] or times))))


def latency_stats(seconds: Sequence[float], batch: int, enqueue_s: Sequence[float] = ()) -> LatencyStats:
    """Summarise calls: percentiles by linear interpolation, throughput from the mean.

    Args:
        seconds: how long each call took.
        batch: sequences in a call.
        enqueue_s: how long the host took to hand each call to a GPU, where that was timed.

    """
    milliseconds = np.asarray(seconds) * 1000
    enqueue = float(np.median(enqueue_s)) * 1000 if len(enqueue_s) else None
    p50, p90, p95, p99 = (float(x) for x in np.percentile(milliseconds, (50, 90, 95, 99)))
    mean = float(milliseconds.mean())
    return LatencyStats(
        calls=len(milliseconds),
        mean_ms=mean,
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        sequences_per_s=1000 * batch / mean,
        samples_ms=tuple(round(float(x), 4) for x in milliseconds),
        enqueue_p50_ms=enqueue,
        enqueue_bound=None if enqueue is None else enqueue > ENQUEUE_BOUND * p50,
    )


def speedup_interval(ratios: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of the median of paired ratios.

    https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.bootstrap.html
    """
    if len(np.unique(ratios)) == 1:
        return float(ratios[0]), float(ratios[0])
    result = bootstrap(
        (ratios,),
        np.median,
        n_resamples=BOOTSTRAP_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    interval = result.confidence_interval
    return float(interval.low), float(interval.high)
