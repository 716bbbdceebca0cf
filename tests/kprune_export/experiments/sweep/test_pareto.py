"""What is dominated, what is recommended, and what a sweep returns: answers worked out by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from exporters.errors import ShapeError
from exporters.machine.description import describe_machine
from kprune_export.bundle.manifest import SourceRecord, TextsRecord
from kprune_export.bundle.verdict import FidelityWarning, GateResult
from kprune_export.errors import NoTrialError
from kprune_export.evaluation.fidelity import FidelityMeasure
from kprune_export.evaluation.metrics import TaskMetric
from kprune_export.experiments.sweep.figure import draw
from kprune_export.experiments.sweep.pareto import Point, dominated
from kprune_export.experiments.sweep.recommend import Wish, recommend
from kprune_export.experiments.sweep.run import exit_code
from kprune_export.experiments.sweep.sweep_record import SweepRecord, Trial, TrialFigures, TrialLatency, with_dominated
from kprune_export.experiments.sweep.table import markdown

Cli = Callable[..., int]


def gate(name: str, passed: bool, inconclusive: bool = False) -> GateResult:
    return GateResult(
        name=name,
        comparison="≥",
        limit=2.0,
        value=2.1 if passed else 1.9,
        passed=passed,
        inconclusive=inconclusive,
        detail="",
    )


def trial(
    name: str,
    latencies: tuple[float, float],
    fidelity: float,
    mib: float = 10,
    gates: tuple[GateResult, ...] = (),
    speedup: float | None = 2.0,
    metric: float | None = None,
) -> Trial:
    latency = tuple(
        TrialLatency(shape=shape, p50_ms=ms, speedup=8 / ms, speedup_low=7 / ms, speedup_high=9 / ms, noise=None)
        for shape, ms in zip(("1x128", "8x128"), latencies, strict=True)
    )
    measure = FidelityMeasure(name="agreement", value=fidelity, higher_is_better=True, description="")
    figures = TrialFigures(
        flops_reduction=0.5,
        size_bytes=int(mib * 2**20),
        fidelity=measure,
        metric=None
        if metric is None
        else TaskMetric(name="accuracy", dense=0.95, pruned=metric, examples=100, description=""),
        latency=latency,
        verdict="not gated",
        gates=gates,
    )
    return Trial(name=name, variant="onnxruntime-fp32", speedup=speedup, bundle=f"trials/{name}", figures=figures)


def record(*trials: Trial) -> SweepRecord:
    return SweepRecord(
        source=SourceRecord(model="m", weights_sha256="", config_sha256="", tokenizer_sha256=""),
        task="single-label classification",
        held_out=TextsRecord(source="t", texts=40, sha256=""),
        machine=describe_machine(),
        threads=2,
        shapes=("1x128", "8x128"),
        trials=with_dominated(trials),
    )


FAILED = Trial(name="z", variant="onnxruntime-fp32", speedup=9.0, bundle="trials/z", error="It is out of reach.")
FAMILY = (
    trial("dense", (8.0, 60.0), 1.0, mib=90, speedup=None, metric=0.95),
    trial("a", (5.0, 45.0), 0.98, mib=60, metric=0.94),
    trial("b", (4.0, 50.0), 0.96, mib=50, metric=0.93),
    trial("c", (4.0, 40.0), 0.95, mib=20, metric=0.96),
    FAILED,
)


def test_a_point_is_dominated_by_one_that_is_as_good_in_both_and_better_in_one() -> None:
    points = {
        "dense": Point(8, 1.0),
        "a": Point(5, 0.98),
        "as fast as a, less faithful": Point(5, 0.97),
        "as faithful as a, slower": Point(6, 0.98),
        "b": Point(3, 0.90),
        "equal to b": Point(3, 0.90),
        "worse than all": Point(9, 0.80),
    }
    assert {name for name, beaten in dominated(points).items() if beaten} == {
        "as fast as a, less faithful",
        "as faithful as a, slower",
        "worse than all",
    }
    assert dominated({}) == {}


def test_what_is_dominated_is_named_for_each_shape() -> None:
    found = {x.name: [at.dominated for at in figures.latency] for x, figures in record(*FAMILY).made}
    assert found == {"dense": [False, False], "a": [False, False], "b": [False, True], "c": [True, False]}


def test_the_fastest_faithful_trial_is_recommended() -> None:
    family = record(*FAMILY)

    def names(**wish: object) -> tuple[str, str | None]:
        found = recommend(family, Wish.model_validate(wish))
        return found.best.name, found.second.name if found.second else None

    assert names(min_fidelity=0.9) == ("b", "c")  # equally fast: the more faithful
    assert names(min_fidelity=0.9, shape="8x128") == ("c", "a")
    assert names(min_fidelity=0.96) == ("b", "a")  # at the limit is kept
    assert names(min_fidelity=0.97) == ("a", "dense")
    assert names(min_fidelity=0.99) == ("dense", None)
    assert names(min_fidelity=0.9, max_size_mib=20) == ("c", None)


def test_what_breaks_a_gate_is_not_recommended_but_what_misses_its_own_target_is() -> None:
    family = record(
        trial("a", (5, 5), 0.9, gates=(gate("target_speedup", False),)),
        trial("b", (4, 4), 0.9, gates=(gate("target_speedup", True), gate("min_agreement", False))),
        trial("c", (3, 3), 0.9, gates=(gate("min_speedup", False, inconclusive=True),)),
    )
    assert recommend(family, Wish(min_fidelity=0.5)).best.name == "a"


def test_where_there_is_none_the_best_fidelity_is_named() -> None:
    with pytest.raises(NoTrialError, match=r"fidelity \(agreement\) of 0.99: the best is b with 0.9600"):
        recommend(record(*FAMILY[1:]), Wish(min_fidelity=0.99, max_size_mib=50))
    with pytest.raises(NoTrialError, match="within 5 MiB: the smallest file has 20 MiB"):
        recommend(record(*FAMILY), Wish(min_fidelity=0.5, max_size_mib=5))
    with pytest.raises(NoTrialError, match="Every trial of the sweep failed"):
        recommend(record(FAILED), Wish(min_fidelity=0.5))
    with pytest.raises(ShapeError, match="no shape 4x4, only 1x128, 8x128"):
        recommend(record(*FAMILY), Wish(min_fidelity=0.5, shape="4x4"))


def test_exit_codes() -> None:
    passed, broken = gate("min_agreement", True), gate("min_agreement", False)
    noisy = gate("min_speedup", False, inconclusive=True)
    dense = FAMILY[0]
    assert exit_code(record(dense, trial("a", (1, 1), 1, gates=(broken,)), trial("b", (1, 1), 1, gates=(passed,)))) == 0
    assert exit_code(record(dense, trial("a", (1, 1), 1, gates=(gate("target_speedup", False),)))) == 0
    assert exit_code(record(dense, trial("a", (1, 1), 1, gates=(broken,)), FAILED)) == 3
    assert exit_code(record(dense, trial("a", (1, 1), 1, gates=(broken,)), trial("b", (1, 1), 1, gates=(noisy,)))) == 6
    assert exit_code(record(dense, FAILED)) == 3


def test_what_is_low_and_what_was_missed_is_named() -> None:
    """A missed target is not rounded to what was asked, and what an embedder finds has a table of its own."""
    missed = gate("target_speedup", False).model_copy(update={"limit": 1.45, "value": 1.4496})
    family = record(trial("a", (5, 5), 0.8, gates=(missed,)), trial("b", (4, 4), 0.9))
    figures = family.trials[0].figures
    assert figures is not None
    warning = FidelityWarning(variant="v", measure="agreement", value=0.8, limit=0.9, message="v: agreement is low.")
    found = {"top_10_overlap": 0.7, "index_mrr_at_10": 0.65}
    low = figures.model_copy(update={"warnings": (warning,), "retrieval": found})
    text = markdown(family.model_copy(update={"trials": (family.trials[0].model_copy(update={"figures": low}),)}))
    assert "asked for 1.45 x, reached 1.4496 x" in text
    assert "Warning, a: v: agreement is low." in text
    assert "| trial | top 10 overlap | index mrr at 10 |" in text
    assert "| a | 0.7000 | 0.6500 |" in text
    assert "### Retrieval" not in markdown(family)
    with pytest.raises(NoTrialError, match=r"of 0.9: the best is b with 0.899999\."):
        recommend(record(trial("b", (4, 4), 0.899999)), Wish(min_fidelity=0.9))


def test_the_picture_and_the_table() -> None:
    family = record(*FAMILY)
    assert draw(family) == draw(family)
    texts = "".join(ElementTree.fromstring(draw(family)).itertext())
    for word in ("agreement", "accuracy", "at 1x128", "at 8x128", "dense", "2×"):
        assert word in texts
    lines = markdown(family).splitlines()
    rows = [line for line in lines if line.startswith("| b ")]
    assert rows == [
        "| b | 4 | 2.00 x (1.75 to 2.25) | 0.9600 | 0.9300 | 50 | front | not gated |",
        "| b | 50 | 0.16 x (0.14 to 0.18) | 0.9600 | 0.9300 | 50 | dominated | not gated |",
    ]
    assert "| z | It is out of reach. |" in lines
    assert "| dense | 8 | 1.00 x (0.88 to 1.12) | 1.0000 | 0.9500 | 90 | front |  |" in lines  # gates are not about it
    ElementTree.fromstring(draw(record(FAILED)))  # nothing to draw is a plot too


def test_recommend_on_the_command_line(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.json").write_text(record(*FAMILY).model_dump_json())
    assert cli("recommend", tmp_path, "--min-fidelity", 0.97) == 0
    out = capsys.readouterr().out
    assert "a: 5 ms at 1x128 (1.60 times as fast as dense fp32), agreement 0.9800, accuracy 0.9400, 60 MiB." in out
    assert f"Its bundle: {tmp_path / 'trials/a'}" in out
    assert "Second: dense: 8 ms" in out
    assert cli("recommend", tmp_path, "--min-fidelity", 0.97, "--shape", "8x128", "--json") == 0
    assert json.loads(capsys.readouterr().out)["best"]["name"] == "a"
    assert cli("recommend", tmp_path, "--min-fidelity", 1.5, "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == 3
    assert "the best is dense with 1.0000" in found["error"]
    assert cli("recommend", tmp_path / "trials", "--min-fidelity", 0.9) == 2
    assert "is not a finished sweep" in capsys.readouterr().err
