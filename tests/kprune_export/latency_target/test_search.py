"""The search for widths under a time: against all others, corrected by trial timings, and where it cannot succeed."""

from itertools import product

import pytest
from pydantic import ValidationError

from exporters.machine.description import describe_machine
from exporters.timing.latency_table.table import CostCurve, EncoderDimensions, LatencyTable, ShapeTable, Widths
from kprune_export.errors import TargetError
from kprune_export.latency_target.outcome import target_outcome
from kprune_export.latency_target.search import TimeSearch, confirmed
from kprune_export.latency_target.target_record import LatencyTarget, SensitivityRecord, TargetRecord, TargetShape
from pruning.methods.kprune.sensitivity import SensitivityCurve

SIZES = EncoderDimensions(family="bert", layers=2, hidden_size=64, heads=4, head_size=16, neurons=64)
HEADS, NEURONS = (0, 1, 2, 3, 4), (0, 16, 32, 48, 64)
HEAD_COSTS, NEURON_COSTS = (0.0, 0.06, 0.08, 0.10, 0.12), (0.0, 0.10, 0.15, 0.2, 0.30)
LOSSES = (
    ((4, 2, 0), (0.0, 0.1, 3.0)),
    ((64, 32, 0), (0.0, 0.5, 2.0)),
    ((4, 2, 0), (0.0, 0.6, 1.0)),
    ((64, 32, 0), (0.0, 0.05, 0.2)),
)
"""Of attention and FFN in two layers: the first layer's attention and the last one's FFN matter least when halved."""


def curve(widths: tuple[int, ...], costs: tuple[float, ...]) -> CostCurve:
    return CostCurve(widths=widths, measured=costs, smoothed=costs)


def search(align: int = 16, **target: object) -> TimeSearch:
    shape = ShapeTable(
        shape="1x8", dense_ms=10.0, fixed=0.16, attention=curve(HEADS, HEAD_COSTS), ffn=curve(NEURONS, NEURON_COSTS)
    )
    cheap = curve(NEURONS, (0.0, 0.0, 0.05, 0.05, 0.09))
    slower = shape.model_copy(update={"shape": "8x8", "fixed": 0.58, "ffn": cheap})
    table = LatencyTable(
        runtime="onnxruntime",
        precision="fp32",
        dimensions=SIZES,
        threads=2,
        machine=describe_machine(),
        method="by hand",
        shapes=(shape, slower),
    )
    asked = {"speedup": None, "latency_ms": None, "shapes": (TargetShape(shape="1x8", weight=1.0),)} | target
    curves = [SensitivityCurve(widths=widths, losses=losses) for widths, losses in LOSSES]
    return TimeSearch(LatencyTarget.model_validate(asked), table.sealed(), curves, align)


def test_curves_are_those_of_the_models_sublayers() -> None:
    curves = tuple(SensitivityCurve(widths=widths, losses=losses) for widths, losses in LOSSES)
    record = SensitivityRecord(source_sha256="", texts_sha256="", seed=0, curves=curves)
    record.check_model(SIZES)
    with pytest.raises(TargetError, match="4 sublayers with 4, 64, 4, 64 units, and it has 6 with 4, 64, 4, 64, …"):
        record.check_model(SIZES.model_copy(update={"layers": 3}))
    for widths, losses in (((4, 0), (0.0,)), ((4, 2), (0.0, 1.0)), ((4, 4, 0), (0.0, 0.5, 1.0)), ((0,), (1.0,))):
        with pytest.raises(ValidationError, match="a curve"):
            SensitivityCurve(widths=widths, losses=losses)


@pytest.mark.parametrize("speedup", [1.05, 1.3, 1.7, 2.5, 4.0, 6.0])
def test_nothing_else_in_that_time_loses_less(speedup: float) -> None:
    found = search(speedup=speedup)
    widths = found.find(1 / speedup)
    assert found.predicted_share(widths) <= 1 / speedup + 1e-9
    others = product(product(HEADS, NEURONS), repeat=2)
    least = min(found.loss(other) for other in others if found.predicted_share(other) <= 1 / speedup)
    assert found.loss(widths) == pytest.approx(least)


def test_the_dense_model_is_never_found() -> None:
    found = search(align=1, speedup=1.1)
    dense = ((4, 64), (4, 64))
    assert found.predicted_share(dense) == pytest.approx(1.0)
    assert found.predicted_share(found.find(1.5)) < 1.0  # where a correction says that even more time is left
    record = found.run(lambda widths: 0.5 * found.predicted_share(widths), "onnxruntime-fp32")
    assert all(x.widths != dense for x in record.rounds)


def test_a_table_of_noise_alone_is_refused() -> None:
    found = search(speedup=2.0)
    free = {"attention": curve(HEADS, (0.0,) * 5), "ffn": curve(NEURONS, (0.0,) * 5)}
    shapes = tuple(x.model_copy(update=free) for x in found.table.shapes)
    noisy = TimeSearch(found.target, found.table.model_copy(update={"shapes": shapes}), found.curves, 16)
    with pytest.raises(TargetError, match="no head and no neuron costs any time"):
        noisy.find(0.5)


def test_ffns_are_aligned_and_heads_are_not() -> None:
    by_align = {align: search(align=align, speedup=1.7).find(1 / 1.7) for align in (16, 24, 1)}
    assert all(neurons % 16 == 0 for _, neurons in by_align[16])
    assert all(neurons in (0, 24, 48, 64) for _, neurons in by_align[24])  # the full width is always to be had
    assert any(neurons % 16 for _, neurons in by_align[1])


def test_several_shapes_are_weighed() -> None:
    both = (TargetShape(shape="1x8", weight=1.0), TargetShape(shape="8x8", weight=3.0))
    found = search(speedup=1.2, shapes=both)
    widths = found.find(1 / 1.2)
    shares = [found.table.shape(name).share(widths) for name in ("1x8", "8x8")]
    assert found.predicted_share(widths) == pytest.approx(shares[0] / 4 + shares[1] * 3 / 4)
    assert found.predicted_share(widths) <= 1 / 1.2


def test_a_latency_is_a_share_of_the_dense_model() -> None:
    assert search(latency_ms=5.0).asked_share == 0.5
    assert search(speedup=2.0).asked_share == 0.5


def test_trial_timings_correct_the_table() -> None:
    found = search(align=1, speedup=2.0)

    def slower_than_the_table(widths: Widths) -> float:
        return 1.15 * found.predicted_share(widths)

    record = found.run(slower_than_the_table, "onnxruntime-fp32")
    assert len(record.rounds) == 2
    first, second = record.rounds
    assert first.predicted_share == pytest.approx(0.5, abs=0.01)
    assert first.measured_share == pytest.approx(1.15 * first.predicted_share)
    assert second.measured_share == pytest.approx(0.5, abs=0.005)
    assert record.chosen == 1
    assert record.taken == second


def test_what_never_comes_near_ends_with_the_nearest() -> None:
    found = search(align=1, speedup=2.0)
    seen = iter([0.6, 0.4, 0.52, 0.45, 0.5])
    record = found.run(lambda _: next(seen), "onnxruntime-fp32")
    assert [x.measured_share for x in record.rounds] == [0.6, 0.4, 0.52, 0.45]  # three corrections, and no more
    assert record.taken.measured_share == 0.52


def test_finished_models_correct_what_trial_timings_did_not_show() -> None:
    found = search(align=1, speedup=2.0)
    made: list[Widths] = []

    def finish(widths: Widths) -> float:  # a tenth slower than the trial timing, which was right about the table
        made.append(widths)
        return 1.1 * found.predicted_share(widths)

    record = found.meet(found.predicted_share, finish, "onnxruntime-int8")
    assert len(record.rounds) == len(made) == 2
    first, second = record.rounds
    assert first.finished_share == pytest.approx(1.1 * first.predicted_share)
    assert second.measured_share is None  # the finished model has said how far off trial timings are
    assert second.finished_share == pytest.approx(0.5, abs=0.01)
    assert record.taken == second
    assert record.taken.widths == made[-1]


def test_a_finished_model_that_is_near_enough_is_made_once() -> None:
    found, made = search(align=1, speedup=2.0), []
    record = found.meet(found.predicted_share, lambda widths: made.append(widths) or 0.505, "onnxruntime-fp32")
    assert len(made) == 1
    assert record.taken.finished_share == 0.505


def test_the_nearest_of_the_finished_models_is_taken() -> None:
    found = search(align=1, speedup=2.0)
    seen = iter([0.6, 0.4, 0.53, 0.45, 0.5])
    record = found.meet(found.predicted_share, lambda _: next(seen), "onnxruntime-fp32")
    assert [x.finished_share for x in record.rounds if x.finished_share] == [0.6, 0.4, 0.53, 0.45]
    assert record.taken.finished_share == 0.53


@pytest.mark.parametrize(
    ("shares", "believed", "timed"),
    [
        ((0.51, 0.9, 0.9), 0.51, 1),  # near enough: not timed again
        ((0.56, 0.49, 0.505), 0.505, 3),  # something disturbed the first timing
        ((0.56, 0.55, 0.5), 0.55, 3),  # it really is too slow
        ((0.44, 0.45, 0.43), 0.44, 3),  # or too fast
    ],
)
def test_a_miss_is_believed_when_it_is_seen_again(shares: tuple[float, ...], believed: float, timed: int) -> None:
    timings = iter(shares)
    assert confirmed(lambda: next(timings), 0.5) == believed
    assert tuple(timings) == shares[timed:]


def test_a_carried_table_is_trusted() -> None:
    record = search(speedup=2.0).run(None, "onnxruntime-fp32")
    assert len(record.rounds) == 1
    assert record.taken.measured_share is None
    outcome = target_outcome(record, None)
    assert outcome.trial_speedup is None
    assert outcome.error is None
    assert outcome.predicted_speedup == pytest.approx(1 / record.taken.predicted_share)
    assert TargetRecord.model_validate_json(record.model_dump_json()) == record


def test_what_is_out_of_reach_says_what_is_within() -> None:
    # without heads and neurons 0.16 of the time is left
    with pytest.raises(TargetError, match=r"7 times as fast at 1x8, is out of reach: .* only 6\.25 times as fast"):
        search(speedup=7.0).run(None, "onnxruntime-fp32")


def test_what_this_machine_cannot_reach() -> None:
    found = search(speedup=6.0)
    with pytest.raises(TargetError, match=r"is out of reach: .* only 3\.1\d times as fast"):
        found.run(lambda widths: 2 * found.predicted_share(widths), "onnxruntime-fp32")
