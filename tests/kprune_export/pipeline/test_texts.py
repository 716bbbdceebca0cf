"""What is held out is never calibrated on, wherever texts come from and however a task reads them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kprune_export.errors import RecipeError
from kprune_export.pipeline.texts import choose_texts, leave_out
from kprune_export.recipe.recipe import Recipe
from pruning.calibration.docstrings import docstring_examples
from pruning.calibration.examples import Example
from pruning.errors import CalibrationError
from pruning.tasks import SentenceEmbedding, SingleLabel, Task

CLASSES = SingleLabel(("no", "yes"))


def write(path: Path, rows: list[str], header: str = "sentence") -> str:
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    return str(path)


def recipe(**settings: object) -> Recipe:
    return Recipe.build(None, {"model": "m", "output": "o", **settings})


def test_a_text_is_what_the_task_reads() -> None:
    known = [Example("a", "b", 1)]
    rows = [Example("a", "b", 0), Example("a", "c"), Example("b", "a"), Example("a")]
    assert leave_out(rows, known, CLASSES) == ([Example("a", "c"), Example("b", "a"), Example("a")], 1)
    assert leave_out([*rows, Example("d", "b")], known, SentenceEmbedding()) == ([Example("c"), Example("d")], 2)


def test_evaluation_texts_are_left_out_of_calibration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    evaluation = write(tmp_path / "dev.tsv", [f"text {i}" for i in range(30)])
    calibration = write(tmp_path / "train.tsv", [f"text {i}" for i in range(20, 100)])
    found = choose_texts(
        recipe(calibration=calibration, evaluation=evaluation), CLASSES, calibrates=True, measures=True
    )
    assert {x.text for x in found.calibration} == {f"text {i}" for i in range(30, 100)}
    assert [x.text for x in found.held_out] == [f"text {i}" for i in range(30)]
    assert found.left_out == 10
    assert "10 calibration texts are among those held out" in caplog.text
    again = choose_texts(
        recipe(calibration=calibration, evaluation=evaluation), CLASSES, calibrates=True, measures=False
    )
    assert (again.calibration, again.held_out) == (found.calibration, ())
    few = recipe(calibration=calibration, evaluation=evaluation, samples=65)
    assert len(choose_texts(few, CLASSES, calibrates=True, measures=True).calibration) == 65


def test_the_same_file_twice_leaves_nothing(tmp_path: Path) -> None:
    same = write(tmp_path / "t.tsv", [f"text {i}" for i in range(30)])
    with pytest.raises(CalibrationError, match="All 30 calibration texts are among those held out"):
        choose_texts(recipe(calibration=same, evaluation=same), CLASSES, calibrates=True, measures=True)
    found = choose_texts(recipe(calibration=same, evaluation=same), CLASSES, calibrates=False, measures=True)
    assert (len(found.held_out), found.calibration) == (30, ())


@pytest.mark.parametrize("task", [CLASSES, SentenceEmbedding()])
def test_the_embedded_texts_too(tmp_path: Path, task: Task) -> None:
    embedded = [x.text for x in docstring_examples(60, seed=0)]
    evaluation = tmp_path / "dev.txt"
    evaluation.write_text("\n".join(embedded[:25]), encoding="utf-8")
    settings = recipe(evaluation=str(evaluation), samples=40, held_out=20)
    found = choose_texts(settings, task, calibrates=True, measures=True)
    assert found.left_out == 25
    assert {x.text for x in found.calibration} == set(embedded[25:])


def test_pairs_that_share_a_text_are_kept_apart_for_embedders(tmp_path: Path) -> None:
    rows = [f"common\tother {i}" for i in range(20)] + [f"left {i}\tright {i}" for i in range(80)]
    pairs = write(tmp_path / "pairs.tsv", rows, "sentence1\tsentence2")
    found = choose_texts(recipe(calibration=pairs, held_out=20), SentenceEmbedding(), calibrates=True, measures=True)
    held_out = {text for x in found.held_out for text in (x.text, x.pair)}
    assert "common" in held_out
    assert not held_out & {x.text for x in found.calibration}
    assert all(x.pair for x in found.held_out)
    assert found.left_out == 1


def test_a_single_evaluation_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="holds a single text"):
        choose_texts(recipe(evaluation=write(tmp_path / "a.tsv", ["one"])), CLASSES, calibrates=True, measures=True)


def test_too_few_left_is_said_as_ever(
    cli: Callable[..., int], classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = write(tmp_path / "dev.tsv", ["good film", "bad film"])
    calibration = write(tmp_path / "train.tsv", ["good film", "bad film", "sad"])
    arguments = ["prune-and-build", classifier, "-o", tmp_path / "out", "--calibration", calibration]
    assert cli(*arguments, "--evaluation", evaluation, "--shapes", "1x8", "--threads", 2) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert "2 calibration texts are among those held out" in err
    assert "The calibration texts hold 3 tokens, but at least 12 are needed" in err
    assert not (tmp_path / "out").exists()
