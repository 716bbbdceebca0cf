"""Comparisons: what is written, what is kept, what is refused, and what the figures mean."""

import dataclasses
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from kprune_export.bundle.layout import WORK
from kprune_export.bundle.manifest import SourceRecord, TextsRecord
from kprune_export.errors import OutputFolderError
from kprune_export.evaluation.fidelity import FidelityMeasure
from kprune_export.evaluation.metrics import TaskMetric
from kprune_export.experiments.compare.folder import ComparisonFolder
from kprune_export.experiments.compare.request import ComparisonRequest
from kprune_export.experiments.compare.results import Cell, Comparison, Layer, Measured, best_methods, make_row
from kprune_export.experiments.compare.run import compare
from kprune_export.experiments.compare.table import markdown, winners
from pruning import PruningSettings, load_checkpoint, prune_checkpoint
from pruning.methods import METHODS
from pruning.methods.journal import Journal

Cli = Callable[..., int]
QUICK: list[object] = ["--samples", 60, "--held-out", 20, "--sequence-length", 16, "--threads", 2]
SETTINGS = {"samples": 60, "held_out": 20, "sequence_length": 16, "threads": 2}


class Recorder:
    def __init__(self) -> None:
        self.ran: list[str] = []
        self.reused: list[str] = []

    def stage(self, number: int, total: int, title: str) -> Any:
        from contextlib import nullcontext

        self.ran.append(title)
        return nullcontext(lambda _: None)

    def skipped(self, number: int, total: int, title: str) -> None:
        self.reused.append(title)

    def planned(self, expected: Any) -> None:
        self.expected = expected


@pytest.fixture
def labelled(tmp_path: Path, make_sentences: Callable[..., list[str]]) -> Path:
    path = tmp_path / "labelled.csv"
    rows = [f"{text},{i % 2}" for i, text in enumerate(make_sentences(200, length=15))]
    path.write_text("text,label\n" + "\n".join(rows))
    return path


def request(model: Path, texts: Path, output: Path, methods: str, rates: str, seeds: str = "0") -> ComparisonRequest:
    settings = {"model": str(model), "calibration": str(texts), "output": output, **SETTINGS}
    return ComparisonRequest.build(methods, rates, seeds, settings)


def test_on_the_command_line(
    cli: Cli, classifier: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    arguments = ["compare", classifier, "-o", output, "--calibration", labelled, *QUICK]
    arguments += ["--methods", "random,magnitude", "--rates", "0.7,0.3", "--seeds", "0,1"]
    assert cli(*arguments) == 0
    out, err = capsys.readouterr()
    assert "[8/8] magnitude at 70.0%, seed 1: done in" in err
    assert "KL(pruned ‖ dense)" in out
    for line in ("30 % removed", "random", "magnitude"):
        assert line in out
    assert sorted(path.name for path in output.iterdir()) == ["cells", "compare.json", "compare.md", "compare.svg"]
    found = Comparison.model_validate_json((output / "compare.json").read_text())
    assert (found.methods, found.rates, found.seeds) == (("random", "magnitude"), (0.3, 0.7), (0, 1))
    assert found.metric_name == "accuracy"
    assert len(found.cells) == len(list((output / "cells").iterdir())) == 8
    for row in found.rows:
        assert row.flops_reduction is not None
        assert row.rate <= row.flops_reduction < row.rate + 0.01
        assert row.divergence is not None
        assert row.divergence.value > 0
        assert row.divergence.error is not None
    table = (output / "compare.md").read_text()
    rows = [line for line in table.splitlines() if re.match(r"\| \d+ % .* ± ", line)]
    assert len(rows) == 2 * 3  # of three tables
    assert all("**" in row for row in rows)
    plot = ElementTree.fromstring((output / "compare.svg").read_text())
    words = " ".join(element.text or "" for element in plot.iter() if element.text)
    for wanted in ("random", "magnitude", "FLOPs removed", "accuracy", "dense"):
        assert wanted in words
    before = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    assert cli(*arguments, "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads((output / "compare.json").read_text())
    assert err.count("up to date") == 8
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == before


def test_figures_are_those_of_pruning_and_measuring_by_hand(classifier: Path, labelled: Path, tmp_path: Path) -> None:
    found = compare(request(classifier, labelled, tmp_path / "out", "kwon2022", "0.5", "3"))
    (cell,) = found.cells
    assert cell.measured is not None
    from pruning.calibration.examples import Columns, read_examples, split_examples

    calibration, held_out = split_examples(read_examples(labelled, Columns()), 60, 20, 3)
    dense, pruned = load_checkpoint(classifier), load_checkpoint(classifier)
    settings = PruningSettings(flops_reduction=0.5, sequence_length=16, method="kwon2022", seed=3)
    plan = prune_checkpoint(pruned, calibration, settings)
    assert cell.measured.layers == tuple(Layer(heads=len(x.heads), neurons=len(x.neurons)) for x in plan.layers)
    divergences, right, same = [], 0, 0
    for example in held_out:
        inputs = dense.tokenizer([example.text], return_tensors="pt")
        with torch.no_grad():
            p, q = (torch.log_softmax(x.model(**inputs).logits[0].double(), -1) for x in (pruned, dense))
        divergences.append(float((p.exp() * (p - q)).sum()))
        right += int(p.argmax()) == int(str(example.label))
        same += int(p.argmax()) == int(q.argmax())
    assert cell.measured.divergence == pytest.approx(sum(divergences) / len(divergences), rel=1e-3)
    error = torch.tensor(divergences, dtype=torch.float64).std() / len(divergences) ** 0.5
    assert cell.measured.divergence_error == pytest.approx(float(error), rel=1e-3)
    assert cell.measured.metric is not None
    assert cell.measured.metric.pruned == pytest.approx(right / len(held_out))
    assert cell.measured.measures[0].value == pytest.approx(same / len(held_out))


def test_it_resumes_and_runs_again_what_changed(
    classifier: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(classifier, labelled, tmp_path / "out", "magnitude,random", "0.3,0.5")
    keep = ComparisonFolder.keep

    def keep_then_die(self: ComparisonFolder, cell: Any, found: Cell) -> None:
        keep(self, cell, found)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ComparisonFolder, "keep", keep_then_die)
        with pytest.raises(KeyboardInterrupt):
            compare(asked)
    assert not (tmp_path / "out" / "compare.json").exists()
    recorder = Recorder()
    first = compare(asked, recorder)
    assert recorder.reused == ["magnitude at 30.0%, seed 0"]
    assert len(recorder.ran) == 3
    recorder = Recorder()
    more = compare(request(classifier, labelled, tmp_path / "out", "magnitude,random", "0.3,0.4,0.5"), recorder)
    assert recorder.ran == ["magnitude at 40.0%, seed 0", "random at 40.0%, seed 0"]
    assert [x for x in more.cells if x.rate != 0.4] == list(first.cells)
    labelled.write_text(labelled.read_text() + "\na good film,1\n")
    recorder = Recorder()
    compare(asked, recorder)
    assert len(recorder.ran) == 4  # other texts: nothing holds


def test_one_text_has_no_error(classifier: Path, labelled: Path, tmp_path: Path) -> None:
    asked = request(classifier, labelled, tmp_path / "out", "magnitude", "0.5")
    asked = dataclasses.replace(asked, recipe=asked.recipe.model_copy(update={"held_out": 1}))
    found = compare(asked)
    assert found.rows[0].divergence is not None
    assert found.rows[0].divergence.error is None
    recorder = Recorder()
    assert compare(asked, recorder) == found
    assert not recorder.ran


def test_a_damaged_cell_is_run_again(classifier: Path, labelled: Path, tmp_path: Path) -> None:
    asked = request(classifier, labelled, tmp_path / "out", "magnitude", "0.5")
    first = compare(asked)
    (tmp_path / "out" / "cells" / "magnitude-0.5-0.json").write_text("{")
    recorder = Recorder()
    again = compare(asked, recorder)
    assert len(recorder.ran) == 1
    assert again.rows[0].divergence == first.rows[0].divergence


def test_rates_share_what_does_not_depend_on_them(
    classifier: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second rate takes kprune's sensitivity curves from the first, and ends as if it had run alone."""
    save, saved = Journal.save, list[str]()
    monkeypatch.setattr(Journal, "save", lambda self, step, tensors: saved.append(step) or save(self, step, tensors))
    both = compare(request(classifier, labelled, tmp_path / "both", "kprune", "0.3,0.6"))
    assert [step for step in saved if step.startswith("curve")] == [f"curve-{number:03d}" for number in range(4)]
    alone = compare(request(classifier, labelled, tmp_path / "alone", "kprune", "0.6"))
    assert both.row("kprune", 0.6).divergence == alone.row("kprune", 0.6).divergence


def test_what_a_method_cannot_do_is_said(classifier: Path, labelled: Path, tmp_path: Path) -> None:
    found = compare(request(classifier, labelled, tmp_path / "out", "kcm2023,magnitude", "0.3,0.5"))
    assert found.row("kcm2023", 0.3).refused is None
    refused = found.row("kcm2023", 0.5)
    assert refused.divergence is None
    assert "removes FFN neurons only, which are 37.5%" in (refused.refused or "")
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "Not run: kcm2023 at 50 %. The method kcm2023 removes FFN neurons only" in text


def test_embedders_by_the_cosines_of_pairs(
    make_checkpoint: Callable[..., Path], make_sentences: Callable[..., list[str]], tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.csv"
    rows = [f"{text},{text} good film,{i % 5}" for i, text in enumerate(make_sentences(120, length=12))]
    pairs.write_text("sentence1,sentence2,score\n" + "\n".join(rows))
    found = compare(request(make_checkpoint(pooling="mean"), pairs, tmp_path / "out", "magnitude", "0.5"))
    assert (found.metric_name, found.fidelity_name) == ("spearman", "mean_cosine")
    assert "squared distance" in found.divergence_name


@pytest.mark.parametrize("head", ["ForMaskedLM", "ForTokenClassification"])
def test_outputs_for_tokens(head: str, make_checkpoint: Callable[..., Path], labelled: Path, tmp_path: Path) -> None:
    asked = request(make_checkpoint(head=head), labelled, tmp_path / "out", "kprune,random", "0.3,0.6")
    found = compare(asked)
    assert found.fidelity_name == "agreement"
    assert found.metric_name == ("masked_accuracy" if head == "ForMaskedLM" else None)
    divergence = {(row.method, row.rate): row.divergence.value for row in found.rows if row.divergence}
    assert divergence["kprune", 0.3] < divergence["kprune", 0.6]
    assert all(divergence["kprune", rate] < 0.7 * divergence["random", rate] for rate in (0.3, 0.6))


def cell(method: str, rate: float, seed: int, divergence: float, accuracy: float) -> Cell:
    agreement = FidelityMeasure(name="agreement", value=0.9, higher_is_better=True, description="")
    return Cell(
        method=method,
        rate=rate,
        seed=seed,
        key="0",
        measured=Measured(
            flops_reduction=rate,
            divergence=divergence,
            divergence_error=0.25,
            measures=(agreement,),
            metric=TaskMetric(name="accuracy", dense=0.9, pruned=accuracy, examples=100),
            seconds=2.0,
            layers=(),
        ),
    )


def test_errors_are_over_seeds_or_else_over_texts() -> None:
    row = make_row("a", 0.5, [cell("a", 0.5, 0, 1.0, 0.8), cell("a", 0.5, 1, 3.0, 0.6)])
    assert row.divergence is not None
    assert row.metric is not None
    assert (row.divergence.value, row.divergence.error) == (2.0, pytest.approx(1.0))  # √2 / √2
    assert row.metric.error == pytest.approx(0.1)
    row = make_row("a", 0.5, [cell("a", 0.5, 0, 1.0, 0.8)])
    assert row.divergence is not None
    assert row.metric is not None
    assert row.divergence.error == 0.25
    assert row.metric.error == pytest.approx((0.8 * 0.2 / 100) ** 0.5)


def comparison(cells: list[Cell]) -> Comparison:
    methods = tuple(dict.fromkeys(x.method for x in cells))
    rates = tuple(sorted({x.rate for x in cells}))
    texts = TextsRecord(source="texts", texts=9, sha256="0")
    return Comparison(
        task="single-label classification",
        source=SourceRecord(model="m", weights_sha256="0", config_sha256="0", tokenizer_sha256="0"),
        sequence_length=128,
        methods=methods,
        rates=rates,
        seeds=(0,),
        calibration=(texts,),
        held_out=(texts,),
        divergence_name="divergence",
        fidelity_name="agreement",
        metric_name="accuracy",
        dense_metric=0.9,
        rows=tuple(make_row(m, r, [x for x in cells if (x.method, x.rate) == (m, r)]) for m in methods for r in rates),
        cells=tuple(cells),
    )


def test_the_best_of_each_row_is_said_and_bold_whichever_it_is() -> None:
    ours = [cell("kprune", 0.5, 0, 1.0, 0.80), cell("kprune", 0.8, 0, 3.0, 0.70)]
    refusal = Cell(method="kcm", rate=0.8, seed=0, key="0", refused="It prunes neurons only.")
    found = comparison([*ours, cell("kwon", 0.5, 0, 2.0, 0.85), cell("kwon", 0.8, 0, 2.5, 0.70),
                        cell("kcm", 0.5, 0, 5.0, 0.6), refusal])  # fmt: skip
    assert best_methods(found, 0.8, "divergence", higher_is_better=False) == ["kwon"]
    assert best_methods(found, 0.8, "metric", higher_is_better=True) == ["kprune", "kwon"]  # a tie is a tie
    assert winners(found, "divergence", False) == "Best: kprune at 50 %; kwon at 80 %."
    text = markdown(found)
    assert "| 50 % | **1.0000 ± 0.2500** | 2.0000 ± 0.2500 | 5.0000 ± 0.2500 |" in text
    assert "| 80 % | 3.0000 ± 0.2500 | **2.5000 ± 0.2500** | – |" in text
    assert "| 80 % | **0.7000 ± 0.0458** | **0.7000 ± 0.0458** | – |" in text
    assert "Not run: kcm at 80 %. It prunes neurons only." in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "taylor"], "There is no pruning method 'taylor': choose one of kprune"),
        (["--methods", " , "], "--methods names nothing"),
        (["--rates", "0.5,1"], "must be above 0 and below 1, but 1.0 was given"),
        (["--rates", "nan"], "must be above 0 and below 1"),
        (["--rates", "half"], "--rates must be numbers, for example 0.5,0.7, but holds 'half'"),
        (["--rates", "0.9999999"], "leaves nothing to keep"),
        (["--seeds", "1.5"], "--seeds must be whole numbers"),
        (["--samples", 0], "'--samples' is not valid"),
        (["--label-column", "stars"], "no column 'stars'"),
    ],
)
def test_bad_input_leaves_nothing(
    arguments: list[object], message: str, cli: Cli, classifier: Path, labelled: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "new" / "out"
    code = cli("compare", classifier, "-o", output, "--calibration", labelled, "--threads", 2, *arguments)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_a_folder_with_something_else_is_left_alone(
    cli: Cli, classifier: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert cli("compare", classifier, "-o", tmp_path / "out", "--calibration", labelled, *QUICK) == 2
    assert "holds 'notes.txt', which is not part of a comparison" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("place", [WORK, "compare.md", "cells", "cells/kprune-0.50-0.json"])
def test_a_link_to_elsewhere_is_not_followed(
    cli: Cli, classifier: Path, labelled: Path, tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "out" / place
    link.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    link.symlink_to(tmp_path / "elsewhere")
    assert cli("compare", classifier, "-o", tmp_path / "out", "--calibration", labelled, *QUICK) == 2
    err = capsys.readouterr().err
    assert f"{place} is a symbolic link, through which nothing is written" in err or "holds 'cells'" in err
    assert not any((tmp_path / "elsewhere").iterdir())


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        ComparisonFolder.open(tmp_path / "out"),
        pytest.raises(OutputFolderError, match="Another run is writing"),
        ComparisonFolder.open(tmp_path / "out"),
    ):
        pass


def test_help_lists_every_method(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    from kprune_export.cli import compare as module

    listed = dict(re.findall(r"^ *- \*\*([\w-]+)\*\*: (.+)$", module.compare.__doc__ or "", re.MULTILINE))
    assert listed == {method.name: method.summary for method in METHODS.values()}
    assert inspect.signature(module.compare).parameters["methods"].default == ",".join(METHODS)
    assert cli("compare", "--help") == 0
    assert "kprune-paper" in capsys.readouterr().out
