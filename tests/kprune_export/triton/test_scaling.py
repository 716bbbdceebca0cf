"""Batches, waiting and instances, each worked out by hand."""

import pytest

from exporters.machine.description import MachineRecord
from exporters.spec import Shape
from exporters.tensorrt.profiles import OptimizationProfile
from exporters.timing.latency import LatencyReport, Measured, ShapeLatency, latency_stats
from exporters.timing.noise import Disturbance
from exporters.variant import Runtime
from kprune_export.errors import BundleError
from kprune_export.triton.scaling import batching, instances, profile_limits, warmup_shapes

ONE = "min=1x1,opt=8x128,max=32x512"


def profiles(*texts: str) -> tuple[OptimizationProfile, ...]:
    return tuple(map(OptimizationProfile.parse, texts))


def timed(threads: int = 2, cpus: int = 8, waits: bool = False, **p50_ms: float) -> LatencyReport:
    """Return a report with these times, by shapes written as ``s8x128``."""
    shapes = []
    for name, milliseconds in p50_ms.items():
        shape = Shape.parse(name[1:])
        enqueue = [milliseconds / 1000] if waits else []
        stats = latency_stats([milliseconds / 1000] * 3, shape.batch, enqueue)
        shapes.append(
            ShapeLatency(shape=str(shape), dense=stats, pruned=stats, speedup=1, speedup_low=1, speedup_high=1)
        )
    machine = MachineRecord(
        cpu_model="", cpus=cpus, memory_gib=1, governor=None, load_1min=0, system="", python="", versions={}
    )
    subject = Measured(dense_bytes=1, pruned_bytes=1, threads=threads, machine=machine)
    return LatencyReport(runtime="", method="", subject=subject, shapes=tuple(shapes))


@pytest.mark.parametrize(
    ("texts", "limits"),
    [
        ((ONE,), (32, 1, 512)),
        (("min=1x4,opt=1x8,max=1x512", "min=1x4,opt=8x8,max=32x64"), (1, 4, 512)),  # 32 long texts fit in neither
        (("min=1x1,opt=4x8,max=4x64", "min=1x65,opt=2x80,max=2x128"), (2, 1, 128)),
        (("min=1x1,opt=1x8,max=4x64", "min=1x66,opt=1x80,max=2x128"), (4, 1, 64)),  # none takes 65 tokens
        (("min=1x1,opt=1x8,max=2x64", "min=3x1,opt=3x8,max=9x64"), (9, 1, 64)),
        (("min=1x1,opt=1x8,max=2x64", "min=4x1,opt=4x8,max=9x64"), (2, 1, 64)),  # none takes 3 texts
    ],
)
def test_every_batch_at_every_length_lies_in_a_profile(texts: tuple[str, ...], limits: tuple[int, int, int]) -> None:
    found = profile_limits(profiles(*texts))
    assert (found.max_batch, found.min_tokens, found.max_tokens) == limits


def test_an_engine_without_a_batch_of_one_is_refused() -> None:
    with pytest.raises(BundleError, match="take no batch of 1"):
        profile_limits(profiles("min=2x1,opt=8x8,max=8x8"))


def test_requests_wait_for_what_merging_saves() -> None:
    limits = profile_limits(profiles(ONE))
    # alone 10 ms; in eight 4 ms a text, which saves 6; in sixteen 7 ms a text, which saves 3
    found = batching(limits, timed(s1x128=10, s8x128=32, s16x128=112), ())
    assert (found.preferred, found.delay_us, found.merges) == ((8, 16), 6000, True)


def test_requests_stay_apart_where_merging_saves_nothing_or_was_not_timed() -> None:
    limits = profile_limits(profiles(ONE))
    costs = batching(limits, timed(s1x128=10, s8x128=88), ())  # 11 ms a text
    assert (costs.preferred, costs.merges) == ((), False)
    assert "saves nothing (-1.00 ms a text at 8)" in costs.reason
    assert not batching(limits, timed(s1x64=10, s8x128=1), ()).merges  # not the same length
    assert not batching(limits, None, ()).merges


def test_an_engine_that_was_not_timed_is_batched_as_it_is_tuned() -> None:
    found = batching(profile_limits(profiles(ONE)), None, profiles(ONE))
    assert (found.preferred, found.delay_us, found.merges) == ((8,), 0, True)


def noisy(report: LatencyReport) -> LatencyReport:
    """Return a report whose last shape was timed while the machine was busy."""
    *quiet, last = report.shapes
    busy = last.model_copy(update={"disturbance": Disturbance(ran_s=1.0, waited_s=3.0)})
    return report.model_copy(update={"shapes": (*quiet, busy)})


def test_nothing_follows_from_times_of_a_busy_machine() -> None:
    """Of calls that take 117 ms under load and 3.5 ms without, no request should wait for 21 ms."""
    report = noisy(timed(s1x128=117, s8x128=768))
    limits = profile_limits(profiles(ONE))
    reason = "the times cannot be relied on (at 8x128 the timed threads waited for a processor 75% of the time)"
    apart = batching(limits, report, ())
    assert (apart.preferred, apart.delay_us, apart.merges) == ((), 0, False)
    assert apart.reason == f"{reason}, so requests stay apart"
    tuned = batching(limits, report, profiles(ONE))
    assert (tuned.preferred, tuned.delay_us, tuned.merges) == ((8,), 0, True)
    assert tuned.reason.startswith(reason)
    on_gpu = instances(Runtime.TENSORRT, noisy(timed(waits=True, s1x8=1)))
    assert on_gpu.count == 1
    assert "cannot be relied on" in on_gpu.reason
    assert instances(Runtime.ONNXRUNTIME, noisy(timed(threads=2, cpus=9, s1x8=1))).count == 4  # times decide nothing


def test_instances_share_the_quota() -> None:
    report = timed(threads=1, cpus=8, s1x8=1)
    machine = report.subject.machine.model_copy(update={"cpu_quota": 2.5})
    limited = report.model_copy(update={"subject": report.subject.model_copy(update={"machine": machine})})
    assert instances(Runtime.ONNXRUNTIME, report).count == 8
    found = instances(Runtime.ONNXRUNTIME, limited)
    assert (found.count, found.reason) == (3, "timed with 1 thread each on 8 processors with a CPU quota of 2.5")


def test_instances_fill_the_processors_or_the_gpu() -> None:
    assert instances(Runtime.ONNXRUNTIME, timed(threads=2, cpus=9, s1x8=1)).count == 4
    assert instances(Runtime.ONNXRUNTIME, timed(threads=16, cpus=8, s1x8=1)).count == 1
    assert instances(Runtime.ONNXRUNTIME, None).count == 1
    assert instances(Runtime.TENSORRT, None).count == 1
    assert instances(Runtime.TENSORRT, timed(waits=True, s1x8=1)).count == 2


def test_every_profile_is_warmed_up_as_far_as_it_is_served() -> None:
    two = profiles("min=1x1,opt=8x16,max=8x64", "min=1x1,opt=1x128,max=1x512")
    limits = profile_limits(two)
    assert limits.max_batch == 1
    assert warmup_shapes(limits, None, two) == (Shape(1, 1), Shape(1, 128), Shape(1, 512))
    assert warmup_shapes(limits, timed(s1x8=1, s4x8=1), ()) == (Shape(1, 8),)
