"""Whether times can be relied on: by hand, and with processes that keep this one from the processors."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporters.timing.noise import Disturbance, NoiseCheck, Watch, noise_factor, noise_reason, total

QUIET = Disturbance(ran_s=9.6, waited_s=0.4)
BUSY = Disturbance(ran_s=3.0, waited_s=1.0)


def test_shares_and_factors_by_hand() -> None:
    assert (QUIET.waiting_share, QUIET.quiet, QUIET.in_words) == (0.04, True, None)
    assert (BUSY.waiting_share, BUSY.quiet) == (0.25, False)
    assert BUSY.factor == pytest.approx(4 / 3)  # the times would be three quarters of what they are
    assert BUSY.in_words == "the timed threads waited for a processor 25% of the time"
    unknown = Disturbance(ran_s=None, waited_s=None)
    assert (unknown.waiting_share, unknown.quiet, unknown.factor) == (0.0, True, 1.0)


def test_more_threads_than_processors_wait_for_each_other() -> None:
    """Of three threads on two processors each waits for a third of the time: nobody else is the cause."""
    assert Disturbance(ran_s=2.0, waited_s=1.0, expected_waiting=1 / 3).quiet
    assert not Disturbance(ran_s=2.0, waited_s=1.0, expected_waiting=0.25).quiet


def test_a_quota_disturbs_whatever_the_share() -> None:
    stopped = Disturbance(ran_s=1.0, waited_s=0.0, throttled_periods=12, throttled_s=0.6)
    assert not stopped.quiet
    assert stopped.in_words == "the CPU quota stopped them 12 times, for 0.6 s"
    assert Disturbance(ran_s=1.0, waited_s=0.0, throttled_periods=0, throttled_s=0.0).quiet


def test_what_is_counted_adds_up() -> None:
    one = Disturbance(ran_s=1.0, waited_s=0.0, throttled_periods=1, throttled_s=0.1)
    found = total((one, None, Disturbance(ran_s=2.0, waited_s=1.0, throttled_periods=2, throttled_s=0.2)))
    assert found is not None
    assert (found.ran_s, found.waited_s, found.throttled_periods) == (3.0, 1.0, 3)
    assert total((None, None)) is None
    again = total((one, Disturbance(ran_s=None, waited_s=None)))
    assert again is not None
    assert again.ran_s is None


def test_reasons_are_of_both_checks() -> None:
    check = NoiseCheck(ratio=0.9, low=0.8, high=0.95)
    assert noise_reason(NoiseCheck(ratio=1, low=0.99, high=1.01), QUIET) is None
    assert noise_reason(None, None) is None
    assert noise_reason(check, BUSY) == f"{check.in_words}; {BUSY.in_words}"
    assert noise_factor(check, BUSY) == pytest.approx(4 / 3)
    assert noise_factor(check, QUIET) == 1.25
    assert noise_factor(None, QUIET) == 1.0


def test_records_say_whether_they_are_quiet() -> None:
    for record in (BUSY, QUIET, NoiseCheck(ratio=0.9, low=0.8, high=0.95)):
        assert record.model_dump(mode="json")["quiet"] is record.quiet
        assert type(record).model_validate_json(record.model_dump_json()) == record


@pytest.fixture
def one_processor() -> Iterator[int]:
    """Keep this process, and those that it starts, on one processor."""
    before = os.sched_getaffinity(0)
    chosen = min(before)
    os.sched_setaffinity(0, {chosen})
    yield chosen
    os.sched_setaffinity(0, before)


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_a_process_beside_it_is_seen(one_processor: int) -> None:
    """Two processes on one processor: each waits while the other runs, and sleeping is no waiting."""
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("the kernel does not count how long threads wait")
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        watch = Watch()
        spin(1.0)
        seen = watch.seen()
    finally:
        other.kill()
        other.wait()
    assert seen.waiting_share > 0.2
    assert not seen.quiet
    assert seen.in_words
    watch = Watch([os.getpid()])
    time.sleep(0.3)
    asleep = watch.seen()
    assert asleep.ran_s is not None
    assert asleep.waited_s is not None
    assert asleep.ran_s + asleep.waited_s < 0.3
    assert Watch(threads=4).seen().expected_waiting == 0.75  # of four threads on one processor
    gone = Watch([other.pid]).seen()
    assert (gone.ran_s, gone.waited_s) == (None, None)
