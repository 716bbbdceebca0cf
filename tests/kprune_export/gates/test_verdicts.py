"""Verdicts that do not mislead: what is not gated, what is low, and attempts to make a bad model pass."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kprune_export.bundle.variant_report import VariantReport
from kprune_export.bundle.verdict import FidelityWarning, GateResult, Tone, Verdict, in_words, tone_of, verdict_of
from kprune_export.ci.checks import checks_of
from kprune_export.cli.results import print_summary
from kprune_export.diff.compute import diff_bundles
from kprune_export.diff.results import GateChange
from kprune_export.diff.sections import sections
from kprune_export.errors import ExitCode, GateError, LabelError, RecipeError
from kprune_export.evaluation.fidelity import FidelityMeasure, FidelityReport
from kprune_export.evaluation.retrieval_metrics import INDEX, METRICS, TOP
from kprune_export.gates.evaluate import evaluate_gates
from kprune_export.gates.fidelity_limits import fidelity_warnings
from kprune_export.pipeline.run import Outcome, prune_and_build
from kprune_export.pipeline.summary import Summary, summarise
from kprune_export.recipe.gates import GATE_NAMES, RETRIEVAL_GATES
from kprune_export.recipe.recipe import Recipe
from pruning.tasks import AnswerSpan, Regression, Reranking, SentenceEmbedding, SingleLabel, Task

Cli = Callable[..., int]
MakeRecipe = Callable[..., Recipe]
MakeSentences = Callable[..., list[str]]
WARNING = FidelityWarning(variant="v", measure="agreement", value=0.7, limit=0.9, message="v: low.")


def gate(name: str, value: float, limit: float) -> GateResult:
    return GateResult(name=name, comparison="≥", limit=limit, value=value, passed=value >= limit, detail="v")


def measured(
    built: Outcome, *values: tuple[str, float], texts: int = 200, task: type[Task] = SingleLabel
) -> VariantReport:
    """The built variant with other measures of fidelity."""
    (report,) = built.reports
    assert report.fidelity is not None
    measures = tuple(FidelityMeasure(name=x, value=y, higher_is_better=True, description="") for x, y in values)
    fidelity = report.fidelity.model_copy(
        update={"task": task.name, "measures": measures, "texts": 200, "distinct_texts": texts}
    )
    return dataclasses.replace(report, fidelity=fidelity)


@pytest.mark.parametrize(
    ("gates", "warnings", "verdict", "tone", "words"),
    [
        ((), (), "not gated", "neutral", "not gated: parity holds, and no gates were set"),
        ((), (WARNING,), "not gated", "caution", "not gated: parity holds, and no gates were set (1 warning)"),
        ((gate("min_agreement", 1, 0.9),), (), "passed", "good", "passed: parity holds, and every gate"),
        ((gate("min_mrr", 1, 0.9),), (), "passed", "good", "passed: parity holds, and every gate"),
        (
            (gate("min_agreement", 0.7, 0.6),),
            (WARNING, WARNING),
            "passed",
            "caution",
            "passed: parity holds, and every gate (2 warnings)",
        ),
        (
            (gate("min_speedup", 3, 2),),
            (),
            "passed",
            "neutral",
            "passed: parity holds, and every gate, none of which is about fidelity",
        ),
        ((gate("min_agreement", 0.7, 0.9),), (), "failed", "bad", "failed: 1 of 1 gates did not hold"),
    ],
)
def test_verdicts_in_words_and_colours(
    gates: tuple[GateResult, ...], warnings: tuple[FidelityWarning, ...], verdict: Verdict, tone: Tone, words: str
) -> None:
    assert verdict_of(gates) == verdict
    assert tone_of(verdict, gates, warnings) == tone
    assert in_words(verdict, gates, warnings) == words


@pytest.mark.parametrize(
    ("task", "values", "low"),
    [
        (SingleLabel, [("agreement", 0.9), ("kappa", 0.6)], []),
        (SingleLabel, [("agreement", 0.89), ("kappa", 0.8)], ["agreement"]),
        (SingleLabel, [("agreement", 0.95), ("kappa", 0.2)], ["kappa"]),  # nine in ten have the same label
        (SingleLabel, [("agreement", float("nan")), ("kappa", 0.9)], ["agreement"]),
        (Regression, [("r2", 0.89), ("rank_agreement", 0.2)], ["r2"]),  # the headline alone
        (Reranking, [("rank_agreement", 0.94), ("r2", 0.2)], ["rank_agreement"]),
        (AnswerSpan, [("span_agreement", 0.79)], ["span_agreement"]),
        (AnswerSpan, [("span_agreement", 0.8)], []),
        (
            SentenceEmbedding,
            [("mean_cosine", 0.99), ("top_10_overlap", 0.49), ("index_top_10_overlap", 0.49), ("cosine_skill", 0.5)],
            ["top_10_overlap", "index_top_10_overlap", "cosine_skill"],
        ),
        (
            SentenceEmbedding,
            [("mean_cosine", 0.9), ("top_7_overlap", 0.5), ("index_top_7_overlap", 0.5), ("cosine_skill", 0.6)],
            [],
        ),
    ],
)
def test_what_is_low_by_any_standard(
    built: Outcome, task: type[Task], values: list[tuple[str, float]], low: list[str]
) -> None:
    found = fidelity_warnings([measured(built, *values, task=task)])
    assert [x.measure for x in found] == low
    assert all(x.message.startswith("onnxruntime-fp32: ") and x.message.endswith(".") for x in found)


def test_a_warning_says_what_was_measured_without_rounding_it_away(built: Outcome) -> None:
    (found,) = fidelity_warnings([measured(built, ("agreement", 0.89996))])
    assert "agreement with the dense model is 0.89996, below the default limit 0.9" in found.message


def test_few_texts_say_little(built: Outcome) -> None:
    (found,) = fidelity_warnings([measured(built, ("agreement", 1.0), texts=29)])
    assert (found.measure, found.value, found.limit) == ("texts", 29, 30)
    assert not fidelity_warnings([measured(built, ("agreement", 1.0), texts=30)])
    report = measured(built, ("mean_cosine", 1.0), task=SentenceEmbedding)
    assert report.fidelity is not None
    few = dataclasses.replace(report, fidelity=report.fidelity.model_copy(update={"documents": 99}))
    (found,) = fidelity_warnings([few])
    assert (found.measure, found.value, found.limit) == ("documents", 99, 100)
    old = FidelityReport.model_validate(
        {"task": "t", "texts": 3, "texts_sha256": "", "runtime": "r", "measures": [{"name": "agreement", "value": 1,
         "higher_is_better": True, "description": ""}]}
    )  # fmt: skip
    assert old.distinct_texts is None


def test_gates_are_shown_so_that_their_comparison_stays_true(
    built: Outcome, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """0.9495 is not 0.950: in the terminal, in JUnit's check, in the step summary's, and in a diff."""
    failed = gate("min_agreement", 0.94996, 0.95)
    assert (failed.asked, failed.measured) == ("≥ 0.95", "0.94996")
    manifest = built.manifest.model_copy(update={"gates": (failed,), "verdict": "failed"})
    summary = summarise(dataclasses.replace(built, manifest=manifest))
    assert print_summary(summary, as_json=False) is ExitCode.GATE_FAILED
    assert "│ min_agreement │ ≥ 0.95 │ 0.94996  │ no" in capsys.readouterr().out
    checks = {check.name: check.detail for check in checks_of(summary)}
    assert checks["min_agreement"] == "measured 0.94996, asked ≥ 0.95 (v)"
    change = GateChange(name="min_agreement", before=failed, after=failed)
    diff = diff_bundles(built.output, built.output).model_copy(update={"gates": (change,)})
    assert sections(diff)[0].rows[1][1] == "failed: 0.94996, asked ≥ 0.95"


def test_the_report_and_the_card_round_so_too(
    built: Outcome, classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    (report,) = built.reports
    assert report.fidelity is not None
    limit = round(report.fidelity.headline.value, 4) + 0.00001  # equal to the value, if both were rounded
    bundle = prune_and_build(make_recipe(classifier, tmp_path / "out", texts_file, min_agreement=limit))
    assert bundle.manifest.verdict == "failed"
    (result,) = bundle.manifest.gates
    for page in ("report.html", "checkpoint/README.md"):
        text = (bundle.output / page).read_text().replace("\\", "")
        assert result.asked in text
        assert result.measured in text
        assert float(result.measured) < float(result.asked.split()[1])


def test_a_gate_that_nothing_was_measured_for_is_no_passed_gate(built: Outcome) -> None:
    recipe = Recipe.build(None, built.manifest.recipe | {"output": "o", "min_mrr": 0.1})
    with pytest.raises(GateError, match="The gate min_mrr is set, but what it is about was not measured"):
        evaluate_gates(recipe, built.reports)
    assert evaluate_gates(Recipe.build(None, built.manifest.recipe | {"output": "o"}), built.reports) == ()


def test_the_gates_of_retrieval_are_about_its_figures() -> None:
    stems = [f"top_{TOP}_overlap", *METRICS]
    assert list(RETRIEVAL_GATES.values()) == [*stems, *(f"{INDEX}{name}" for name in stems)]
    assert set(RETRIEVAL_GATES) < set(GATE_NAMES) < set(Recipe.model_fields)


def test_a_bundle_without_gates_is_neutral_and_warns_everywhere(
    built: Outcome, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tiny random model pruned by half is far from the dense one."""
    warnings = built.manifest.warnings
    assert "agreement" in [x.measure for x in warnings]
    summary = summarise(built)
    assert (summary.verdict, summary.warnings) == ("not gated", warnings)
    assert print_summary(summary, as_json=False) is ExitCode.OK
    shown = " ".join(capsys.readouterr().out.split())
    report = (built.output / "report.html").read_text()
    card = (built.output / "checkpoint" / "README.md").read_text().replace("\\", "")
    for warning in warnings:
        assert f"Warning: {warning.message}" in shown
        assert f"<b>Warning:</b> {warning.message}" in report
        assert f"**Warning:** {warning.message}" in card
    assert '<p class="verdict caution">Not gated: ' in report
    assert Summary.model_validate_json(summary.model_dump_json()).warnings == warnings
    assert json.loads((built.output / "manifest.json").read_text())["warnings"][0]["measure"] == "agreement"
    assert cli("verify", built.output) == 0
    assert f"({len(warnings)} warnings)" in capsys.readouterr().out


def bad_model(make_recipe: MakeRecipe, model: Path, output: Path, texts: Path, **settings: object) -> Recipe:
    """A model pruned by magnitude, without tuning, that is nowhere near the dense one."""
    return make_recipe(model, output, texts, method="magnitude", flops_reduction=0.8, dense_int8=False, **settings)


ATTEMPTS: dict[str, dict[str, object]] = {
    "no gates": {},
    "a gate about size alone": {"max_size_mib": 1000},
    "a gate about speed alone": {"min_speedup": 0.0001},
    "a limit that nothing misses": {"min_agreement": 0.0},
    "a limit below zero": {"min_agreement": -5.0},
    "a metric that nothing misses": {"min_metric": 0.0, "evaluation": "{labelled}"},
    "three texts": {"min_agreement": 0.3, "evaluation": "{three}"},
    "one text, repeated": {"min_agreement": 0.9, "evaluation": "{repeated}"},
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_bad_model_is_never_green(
    attempt: str,
    classifier: Path,
    texts_file: Path,
    make_recipe: MakeRecipe,
    make_sentences: MakeSentences,
    tmp_path: Path,
) -> None:
    texts = make_sentences(40, seed=5)
    files = {
        "labelled": "text,label\n" + "".join(f"{x},{n % 2}\n" for n, x in enumerate(texts)),
        "three": "text\n" + "\n".join(texts[:3]),
        "repeated": "text\n" + "\n".join(texts[:1] * 100),
    }
    for name, content in files.items():
        (tmp_path / f"{name}.csv").write_text(content)
    settings = {
        key: str(tmp_path / f"{value.strip('{}')}.csv") if key == "evaluation" else value
        for key, value in ATTEMPTS[attempt].items()
    }
    outcome = prune_and_build(bad_model(make_recipe, classifier, tmp_path / "out", texts_file, **settings))
    manifest = outcome.manifest
    assert tone_of(manifest.verdict, manifest.gates, manifest.warnings) in ("caution", "bad")
    assert "warning" in str(manifest.verdict_in_words)
    assert '<p class="verdict good">' not in (outcome.output / "report.html").read_text()


@pytest.mark.parametrize(
    ("settings", "error", "problem"),
    [
        ({"min_agreement": float("nan")}, RecipeError, "Input should be a finite number"),
        ({"min_agreement": float("-inf")}, RecipeError, "Input should be a finite number"),
        ({"max_size_mib": float("inf")}, RecipeError, "Input should be a finite number"),
        ({"min_mrr": 0.1}, RecipeError, "--min-mrr is about what a sentence embedder finds, but .* single-label"),
        ({"min_index_overlap": 0.1}, RecipeError, "--min-index-overlap is about what a sentence embedder finds"),
        ({"min_metric": 0.1}, LabelError, r"--min-metric needs labels, but .*texts.txt has no label column"),
    ],
)
def test_gates_that_could_not_fail_are_refused(
    settings: dict[str, object],
    error: type[Exception],
    problem: str,
    classifier: Path,
    texts_file: Path,
    make_recipe: MakeRecipe,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=problem):
        prune_and_build(bad_model(make_recipe, classifier, tmp_path / "out", texts_file, **settings))
    assert not (tmp_path / "out").exists()
