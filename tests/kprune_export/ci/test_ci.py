"""Gates from a file, and what build servers read: JUnit XML and step summaries."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from exporters.errors import ParityError
from kprune_export.bundle.manifest import Manifest
from kprune_export.ci.checks import Check, check_of_error, checks_of
from kprune_export.ci.junit import junit_xml
from kprune_export.ci.publish import STEP_SUMMARY_VARIABLE, CiReports
from kprune_export.ci.step_summary import summary_markdown
from kprune_export.errors import OutputFolderError, RecipeError
from kprune_export.pipeline.run import Outcome
from kprune_export.pipeline.summary import Summary, summarise
from kprune_export.recipe.gates import GATE_NAMES
from kprune_export.recipe.recipe import Recipe, read_gates

Cli = Callable[..., int]


@pytest.fixture(autouse=True)
def no_step_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STEP_SUMMARY_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def summary(built: Outcome) -> Summary:
    return summarise(built)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_gate_names_are_settings() -> None:
    assert set(GATE_NAMES) < set(Recipe.model_fields)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("min_speedups: 2\n", r"has the unknown key 'min_speedups' \(did you mean 'min_speedup'\?\): known are min_sp"),
        ("size: 1\nmin-metric: 2\n", r"unknown keys, 'min-metric' \(did you mean 'min_metric'\?\), 'size'"),
        ("seed: 3\n", "has the unknown key 'seed'.*: known are min_speedup, min_agreement, min_metric, max_size_mib"),
        ("- 1\n", "The gates file .* is not a mapping"),
        ("a: [\n", "The gates file .* is not YAML"),
    ],
)
def test_bad_gates_files(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        read_gates(write(tmp_path / "gates.yaml", text))


def test_flags_go_over_the_gates_file_and_that_over_the_recipe(
    cli: Cli, classifier: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write(
        tmp_path / "recipe.yaml",
        f"model: {classifier}\ncalibration: {texts_file}\nsamples: 150\nheld_out: 40\nsequence_length: 16\n"
        "shapes: 1x8\ntiming_seconds: 0.1\nthreads: 2\n"
        "min_agreement: 0.99999\nmax_size_mib: 100\nmin_speedup: 0.0001\n",
    )
    gates = write(tmp_path / "gates.yaml", "min_agreement: 0.0\nmax_size_mib: 50\n")
    junit, output = tmp_path / "junit.xml", tmp_path / "bundle"
    arguments = ["--recipe", recipe, "-o", output, "--gates", gates, "--junit", junit, "--max-size-mib", 0.001]
    assert cli("prune-and-build", *arguments, "--json") == 3
    found = {gate["name"]: gate["limit"] for gate in json.loads(capsys.readouterr().out)["gates"]}
    assert found == {"min_speedup": 0.0001, "min_agreement": 0.0, "max_size_mib": 0.001}
    recorded = Manifest.of_bundle(output).recipe
    assert {name: recorded[name] for name in GATE_NAMES} == dict.fromkeys(GATE_NAMES) | found
    root = ElementTree.parse(junit).getroot()
    suites = {suite.get("name"): (suite.get("tests"), suite.get("failures"), suite.get("errors")) for suite in root}
    assert suites.pop("warnings")[1:] == ("0", "0")  # of a tiny model that is not near the dense one
    assert suites == {"parity": ("1", "0", "0"), "gates": ("3", "1", "0")}
    failed = [case for case in root.iter("testcase") if case.find("failure") is not None]
    assert [case.get("name") for case in failed] == ["max_size_mib"]

    stricter = write(tmp_path / "validate.yaml", "max_size_mib: 100\nmin_agreement: 2\n")
    arguments = ["--gates", stricter, "--junit", junit, "--min-agreement", 0.0, "--threads", 2]
    assert cli("validate", output, *arguments) == 0
    assert ElementTree.parse(junit).getroot().get("failures") == "0"


def test_junit_of_known_checks() -> None:
    text = junit_xml(
        (
            Check(suite="parity", name="a", outcome="passed", detail="fine"),
            Check(suite="gates", name="b", outcome="failed", detail='1 < 2 & "quoted" \x00 \x1b[1m'),
            Check(suite="gates", name="c", outcome="passed", detail=""),
            Check(suite="parity", name="d", outcome="skipped", detail="not here"),
            Check(suite="run", name="run", outcome="error", detail="stopped"),
        )
    )
    root = ElementTree.fromstring(text)
    assert root.tag == "testsuites"
    assert dict(root.items()) == {
        "name": "kprune-export", "tests": "5", "failures": "1", "errors": "1", "skipped": "1",
    }  # fmt: skip
    suites = {suite.get("name"): suite for suite in root}
    assert list(suites) == ["parity", "gates", "run"]
    assert [case.get("name") for case in suites["gates"]] == ["b", "c"]
    assert (suites["gates"].get("tests"), suites["gates"].get("failures")) == ("2", "1")
    failure = suites["gates"].find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == r'1 < 2 & "quoted" \x00 \x1b[1m'
    assert suites["parity"].find("testcase[@name='d']/skipped") is not None
    assert suites["run"].find("testcase/error") is not None


def test_checks_of_a_run(summary: Summary) -> None:
    check, *warnings = checks_of(summary)
    assert (check.suite, check.name, check.outcome) == ("parity", "onnxruntime-fp32", "passed")
    assert [(x.suite, x.outcome, x.detail) for x in warnings] == [
        ("warnings", "skipped", warning.message) for warning in summary.warnings
    ]


def test_parity_that_fails_is_a_failure_and_other_errors_are_errors(tmp_path: Path) -> None:
    assert check_of_error(ParityError("a: off.")).model_dump() == {
        "suite": "parity", "name": "parity with torch", "outcome": "failed", "detail": "a: off.",
    }  # fmt: skip
    reports = CiReports.open(tmp_path / "junit.xml", tmp_path / "out")
    with pytest.raises(RecipeError, match="stop"), reports.of_errors():
        raise RecipeError("stop.")
    [suite] = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("name"), suite.get("errors"), suite.get("failures")) == ("run", "1", "0")


def test_files_that_cannot_be_written_are_known_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OutputFolderError, match="junit.xml lies in the output folder"):
        CiReports.open(tmp_path / "out" / "junit.xml", tmp_path / "out")
    with pytest.raises(RecipeError, match="cannot be written: No such file"):
        CiReports.open(tmp_path / "nowhere" / "junit.xml", tmp_path / "out")
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv(STEP_SUMMARY_VARIABLE, str(tmp_path / "folder"))
    with pytest.raises(RecipeError, match="cannot be written: Is a directory"):
        CiReports.open(None, tmp_path / "out")


def test_step_summaries_are_appended(
    summary: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, classifier: Path
) -> None:
    path = write(tmp_path / "summary.md", "# Before\n\n")
    monkeypatch.setenv(STEP_SUMMARY_VARIABLE, str(path))
    CiReports.open(None, tmp_path / "out").publish(summary)
    assert cli("export", classifier, "-o", tmp_path / "out", "--precision", "int8", "--calibration", "nowhere.csv") == 2
    text = path.read_text(encoding="utf-8")
    html = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    assert text.startswith(f"# Before\n\n{summary_markdown(summary)}")
    assert f"<strong>{summary.verdict_in_words}</strong>" in html
    assert "<strong>not gated: parity holds, and no gates were set" in html
    assert "<td>onnxruntime-int8</td>" in html  # the dense model's own
    assert "<td>agreement</td>" in html
    assert "<strong>error</strong>: " in html
    assert "nowhere.csv does not exist" in html
