"""Times of a busy machine are marked wherever they are shown, and nowhere else."""

import dataclasses
import json
from collections.abc import Callable

import pytest

from exporters.timing.latency import LatencyReport
from exporters.timing.noise import Disturbance
from kprune_export.bundle.variant_report import VariantReport
from kprune_export.ci.step_summary import summary_markdown
from kprune_export.cli.results import print_summary
from kprune_export.diff.figures import measured
from kprune_export.diff.read import read_bundle
from kprune_export.experiments.sweep.recommend import Recommendation, Wish, in_words
from kprune_export.experiments.sweep.sweep_record import Trial, _figures
from kprune_export.gates.noise import noise_remarks
from kprune_export.pipeline.run import Outcome
from kprune_export.pipeline.summary import summarise
from kprune_export.recipe.recipe import Recipe
from kprune_export.report.render import ReportContent, render_report
from pruning.checkpoint.load import load_checkpoint
from pruning.plan import PruningPlan

BUSY = Disturbance(ran_s=1.0, waited_s=1.0)
REASON = "the timed threads waited for a processor 50% of the time"
Timed = Callable[[Disturbance | None], Outcome]


@pytest.fixture
def timed(built: Outcome) -> Timed:
    """Return the outcome of a run whose second shape was disturbed, and whose first was not."""

    def outcome(disturbance: Disturbance | None) -> Outcome:
        (report,) = built.reports
        latency = _disturbed(report, disturbance)
        reports = (dataclasses.replace(report, latency=latency),)
        return dataclasses.replace(built, reports=reports, noise=noise_remarks(reports))

    return outcome


def _disturbed(report: VariantReport, disturbance: Disturbance | None) -> LatencyReport:
    assert report.latency is not None
    quiet = [shape.model_copy(update={"noise": None, "disturbance": None}) for shape in report.latency.shapes]
    quiet[1] = quiet[1].model_copy(update={"disturbance": disturbance})
    return report.latency.model_copy(update={"shapes": tuple(quiet)})


def test_the_remark_names_the_variant_the_shape_and_the_reason(timed: Timed) -> None:
    assert timed(None).noise == ()
    (remark,) = timed(BUSY).noise
    assert remark == (
        f"The times of onnxruntime-fp32 are noisy, at 2x16 ({REASON}): measure again on a machine that does nothing "
        "else (kprune-export validate)."
    )


def test_the_terminal(timed: Timed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    print_summary(summarise(timed(None)), as_json=False)
    assert "noisy" not in capsys.readouterr().out
    print_summary(summarise(timed(BUSY)), as_json=False)
    printed = capsys.readouterr().out
    lines = {line.split("│")[1].strip(): line for line in printed.splitlines() if line.startswith("│ p50")}
    assert "noisy" in lines["p50 at 2x16, ms"]
    assert "noisy" not in lines["p50 at 1x8, ms"]
    assert REASON in " ".join(printed.split())


def test_the_json_and_the_step_summary(timed: Timed, capsys: pytest.CaptureFixture[str]) -> None:
    summary = summarise(timed(BUSY))
    print_summary(summary, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert [x["noise_reason"] for x in printed["variants"][0]["latency"]] == [None, REASON]
    assert len(printed["noise"]) == 1
    assert summary_markdown(summary).count("noisy") == 2  # the remark, and the figure
    assert "noisy" not in summary_markdown(summarise(timed(None)))


def test_the_headline_of_the_report(built: Outcome, timed: Timed) -> None:
    def page(outcome: Outcome) -> str:
        manifest, source = built.manifest, load_checkpoint(built.output / "checkpoint")
        assert manifest.calibration is not None
        assert manifest.held_out is not None
        latency = outcome.reports[0].latency
        assert latency is not None
        return render_report(
            ReportContent(
                recipe=Recipe.build(None, manifest.recipe | {"output": built.output}),
                task=source.task,
                source=manifest.source,
                calibration=manifest.calibration,
                held_out=manifest.held_out,
                plan=PruningPlan.read(built.output / "plan.json"),
                reports=outcome.reports,
                machine=latency.subject.machine,
                gates=(),
                noise=outcome.noise,
            )
        )

    quiet, noisy = page(timed(None)), page(timed(BUSY))
    head = noisy[noisy.index("<header>") : noisy.index("<h2>")]
    assert REASON in head
    (card,) = (line for line in head.splitlines() if "as fast as dense fp32 at 2x16" in line)
    assert "noisy" in card
    assert "noisy" not in quiet[quiet.index("<header>") :]


def test_the_files(timed: Timed) -> None:
    latency = timed(BUSY).reports[0].latency
    assert latency is not None
    written = json.loads(latency.model_dump_json())
    assert [shape["noise_reason"] for shape in written["shapes"]] == [None, REASON]
    assert written["shapes"][1]["disturbance"]["quiet"] is False
    assert LatencyReport.model_validate_json(latency.model_dump_json()) == latency


def test_a_comparison_of_bundles_widens_the_interval(built: Outcome, timed: Timed) -> None:
    content = read_bundle(built.output)
    found = {}
    for name, disturbance in (("quiet", None), ("busy", BUSY)):
        latency = timed(disturbance).reports[0].latency
        assert latency is not None
        changed = dataclasses.replace(content, latency={"onnxruntime-fp32": latency})
        (figure,) = (x for x in measured("onnxruntime-fp32", changed) if x.name == "speedup at 2x16")
        assert figure.interval is not None
        found[name] = figure.interval
    assert found["busy"] == pytest.approx((found["quiet"][0] / 2, found["quiet"][1] * 2))


def test_a_sweep_s_trial(timed: Timed) -> None:
    outcome = timed(BUSY)
    figures = _figures(outcome.manifest, outcome.reports[0])
    assert [(x.noise, x.noise_reason) for x in figures.latency] == [(None, None), (2.0, REASON)]
    trial = Trial(name="dense", variant="onnxruntime-fp32", speedup=None, bundle="x", figures=figures)
    shown = [
        in_words(trial, Recommendation(wish=Wish(min_fidelity=0, shape=shape), best=trial, second=None))
        for shape in ("1x8", "2x16")
    ]
    assert [REASON in text for text in shown] == [False, True]
