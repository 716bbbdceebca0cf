"""Batching and instances of a served model: from the engine's profiles, and from what was timed.

Nothing is guessed: where nothing was timed, requests are not held back and not merged, and the reason says so.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from exporters.errors import ShapeError
from exporters.parity.check import ParityReport
from exporters.spec import Shape
from exporters.tensorrt.profiles import OptimizationProfile
from exporters.timing.latency import LatencyReport, ShapeLatency
from exporters.variant import Runtime
from kprune_export.errors import BundleError


@dataclass(frozen=True)
class Limits:
    """The shapes that a model is served with: every batch up to the largest at every length between the two.

    Attributes:
        max_batch: texts in the largest batch.
        min_tokens: the shortest sequence.
        max_tokens: the longest.
        reason: where they come from, in words.

    """

    max_batch: int
    min_tokens: int
    max_tokens: int
    reason: str


@dataclass(frozen=True)
class Batching:
    """How requests are merged.

    Attributes:
        preferred: the batch sizes to aim at; empty where merging pays at none.
        delay_us: how long a request may wait for others, in microseconds.
        merges: whether requests are merged at all.
        reason: why, in words.

    """

    preferred: tuple[int, ...]
    delay_us: int
    merges: bool
    reason: str


@dataclass(frozen=True)
class Instances:
    """How many copies of the model run.

    Attributes:
        count: copies on a machine, or on each of its GPUs.
        gpu: whether they run on GPUs.
        threads: threads of each, on the CPU; 0 leaves it to ONNX Runtime.
        reason: why, in words.

    """

    count: int
    gpu: bool
    threads: int
    reason: str


def profile_limits(profiles: Sequence[OptimizationProfile]) -> Limits:
    """Return the shapes that an engine takes whole, so that no batch that Triton makes is outside its profiles.

    Triton makes every batch from 1 on, so lengths count that a batch of 1 can have; the largest batch is the one up
    to which every batch at each of these lengths lies in some profile.

    Raises:
        BundleError: no profile takes a single text.

    """
    single = sorted((x for x in profiles if x.min.batch == 1), key=lambda x: x.min.sequence)
    if not single:
        raise BundleError(
            f"The engine's profiles ({'; '.join(map(str, profiles))}) take no batch of 1, which Triton sends: build "
            "the engine with a profile that begins at batch 1."
        )
    low, high = single[0].min.sequence, single[0].max.sequence
    for profile in single:
        if profile.min.sequence > high + 1:
            break
        high = max(high, profile.max.sequence)
    edges = {low, high, *(x.min.sequence for x in profiles), *(x.max.sequence + 1 for x in profiles)}
    lengths = [length for length in edges if low <= length <= high]

    def taken(batch: int) -> bool:
        return all(any(x.admits(Shape(batch, length)) for x in profiles) for length in lengths)

    largest = 1
    while taken(largest + 1):
        largest += 1
    named = "; ".join(map(str, profiles))
    return Limits(
        largest, low, high, f"batches to {largest} at {low} to {high} tokens: what its profiles take: {named}"
    )


def validated_limits(parity: ParityReport, latency: LatencyReport | None, max_positions: int) -> Limits:
    """Return the shapes that a graph is served with: batches as large as were compared with torch, or timed."""
    shapes = [shape for case in parity.cases if (shape := _shape(case.shape)) is not None]
    shapes += [Shape.parse(x.shape) for x in latency.shapes] if latency else []
    largest = max(shape.batch for shape in shapes)
    return Limits(largest, 1, max_positions, f"batches to {largest}: the largest that was compared with torch or timed")


def batching(limits: Limits, latency: LatencyReport | None, profiles: Sequence[OptimizationProfile]) -> Batching:
    """Decide how requests are merged.

    Where batches were timed, those sizes are preferred at which a text takes less time than alone; a request waits
    for at most the time that merging saves a text, so that it never loses more than it gains. Where none were timed, or
    the times cannot be relied on, an engine's requests are merged into the batches that its profiles are tuned for,
    without waiting, and others stay apart.
    """
    gains, noise = _gains(latency, limits), _noise(latency)
    if gains and noise is None:
        paying = {batch: saved for batch, saved in gains.items() if saved > 0}
        savings = ", ".join(f"{saved:+.2f} ms a text at {batch}" for batch, saved in sorted(gains.items()))
        if not paying:
            return Batching((), 0, merges=False, reason=f"merging was timed and saves nothing ({savings})")
        delay = round(1000 * max(paying.values()))
        return Batching(tuple(sorted(paying)), delay, merges=True, reason=f"merging was timed and saves {savings}")
    tuned = sorted({x.opt.batch for x in profiles if 1 < x.opt.batch <= limits.max_batch})
    if tuned:
        return Batching(
            tuple(tuned), 0, merges=True, reason=f"{noise or 'not timed'}; its profiles are tuned for these batches"
        )
    if gains:
        return Batching((), 0, merges=False, reason=f"{noise}, so requests stay apart")
    return Batching((), 0, merges=False, reason="no two batch sizes were timed at one length, so requests stay apart")


def instances(runtime: Runtime, latency: LatencyReport | None) -> Instances:
    """Decide how many copies run: as many as there are processors for, or, on a GPU, one that keeps it busy.

    A second one on a GPU pays where the GPU was seen waiting for the host.
    """
    if not runtime.on_cpu:
        noise = _noise(latency)
        waits = latency is not None and any(x.pruned.enqueue_bound for x in latency.shapes) and noise is None
        reason = "the GPU was seen waiting for the host" if waits else noise or "one keeps a GPU busy"
        return Instances(2 if waits else 1, gpu=True, threads=0, reason=reason)
    if latency is None:
        return Instances(1, gpu=False, threads=0, reason="not timed: one, with ONNX Runtime's own choice of threads")
    threads, machine = latency.subject.threads, latency.subject.machine
    count = max(1, machine.usable_cpus // threads)
    reason = f"timed with {threads} thread{'' if threads == 1 else 's'} each on {machine.processors}"
    return Instances(count, gpu=False, threads=threads, reason=reason)


def warmup_shapes(
    limits: Limits, latency: LatencyReport | None, profiles: Sequence[OptimizationProfile]
) -> tuple[Shape, ...]:
    """Return the shapes to warm up with: each profile's, those that were timed, else the smallest and a full batch."""
    shapes = [shape for x in profiles for shape in (x.min, x.opt, x.max)]
    if not shapes and latency:
        shapes = [Shape.parse(x.shape) for x in latency.shapes]
    shapes = shapes or [Shape(1, limits.min_tokens), Shape(limits.max_batch, min(128, limits.max_tokens))]
    fitting = {
        shape
        for shape in shapes
        if shape.batch <= limits.max_batch and limits.min_tokens <= shape.sequence <= limits.max_tokens
    }
    return tuple(sorted(fitting))


def _gains(latency: LatencyReport | None, limits: Limits) -> dict[int, float]:
    """Return what a text saves in a batch beside the smallest batch timed at its length, in ms; the least by size."""
    by_length: dict[int, list[tuple[int, ShapeLatency]]] = defaultdict(list)
    for timed in latency.shapes if latency else ():
        shape = Shape.parse(timed.shape)
        by_length[shape.sequence].append((shape.batch, timed))
    gains: dict[int, float] = {}
    for rows in by_length.values():
        (smallest, alone), *larger = sorted(rows, key=lambda row: row[0])
        for batch, timed in larger:
            if batch <= limits.max_batch:
                saved = alone.pruned.p50_ms / smallest - timed.pruned.p50_ms / batch
                gains[batch] = min(saved, gains.get(batch, saved))
    return gains


def _noise(latency: LatencyReport | None) -> str | None:
    """Return why nothing follows from the times, in words; None where they can be relied on."""
    reasons = {x.shape: x.noise_reason for x in latency.shapes if x.noise_reason} if latency else {}
    listed = "; ".join(f"at {shape} {reason}" for shape, reason in reasons.items())
    return f"the times cannot be relied on ({listed})" if listed else None


def _shape(text: str) -> Shape | None:
    try:
        return Shape.parse(text)
    except ShapeError:  # a case that names texts, not a shape
        return None
