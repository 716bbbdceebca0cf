"""Where labels are looked for and not found: said at once, with the columns that are there and those expected."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kprune_export.errors import LabelError
from kprune_export.evaluation.labels import check_label_column
from kprune_export.pipeline.job import prepare_job
from kprune_export.recipe.recipe import Recipe
from pruning.calibration.examples import Columns, TextSource, read_source
from pruning.errors import CalibrationError
from pruning.tasks import MaskedLanguageModelling, SingleLabel, TokenLabels

CLASSES = SingleLabel(("no", "yes"))
Cli = Callable[..., int]
MakeRecipe = Callable[..., Recipe]


def test_a_source_says_which_columns_it_has(tmp_path: Path) -> None:
    path = tmp_path / "dev.csv"
    path.write_text("id,sentence,label,gold\n1,a b,0,x\n2,,1,y\n")
    found = read_source(path)
    assert [(x.text, x.label) for x in found.examples] == [("a b", 0)]
    assert (found.columns, found.text, found.pair, found.label) == (
        ("id", "sentence", "label", "gold"), "sentence", None, "label",
    )  # fmt: skip
    assert found.unread == ("id", "gold")
    assert read_source(path, Columns(label="gold")).label == "gold"
    lines = tmp_path / "dev.txt"
    lines.write_text("a b\n")
    assert read_source(lines) == TextSource(found.examples[:0] + read_source(lines).examples)
    assert read_source(lines).columns == ()


@pytest.mark.parametrize(
    ("header", "task", "said"),
    [
        ("sentence,gold", CLASSES, "dev.csv has no label column: its columns are sentence, gold, and labels are looked "
         "for in label, labels, score"),
        ("sentence", CLASSES, "its columns are sentence"),
        ("sentence,gold", TokenLabels(("O", "B-X")), "labels are looked for in ner_tags, tags, labels"),
    ],
)  # fmt: skip
def test_labels_that_are_asked_for(header: str, task: SingleLabel, said: str) -> None:
    source = TextSource((), tuple(header.split(",")), text="sentence")
    with pytest.raises(LabelError, match="--min-metric needs labels") as caught:
        check_label_column(task, source, "dev.csv", "--min-metric")
    assert said in str(caught.value)
    assert str(caught.value).endswith("Name the column with --label-column, or give labelled texts with --evaluation.")


def test_labels_that_are_not_asked_for_are_a_note(caplog: pytest.LogCaptureFixture) -> None:
    check_label_column(CLASSES, TextSource((), ("sentence", "gold"), text="sentence"), "dev.csv", None)
    assert "dev.csv has no label column (its columns are sentence, gold)" in caplog.text
    assert "where one of gold holds labels, name it with --label-column" in caplog.text
    caplog.clear()
    check_label_column(CLASSES, TextSource((), ("sentence",), text="sentence"), "dev.csv", None)
    check_label_column(CLASSES, TextSource(()), "dev.txt", None)
    check_label_column(CLASSES, None, "the embedded texts", None)
    labelled = TextSource((), ("sentence", "id", "label"), text="sentence", label="label")
    check_label_column(CLASSES, labelled, "dev.csv", "--min-metric")
    check_label_column(MaskedLanguageModelling(), TextSource((), ("text", "x"), text="text"), "dev.csv", "--min-metric")
    assert not caplog.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--min-metric", 0.5], "--min-metric needs labels, but {dev} has no label column: its columns are text, gold"),
        (["--label-column", "labels"], "{dev} has no column 'labels': its columns are text, gold"),
        (["--label-column", "gold", "--min-metric", 0.5], "The label 'good' is none of the model's"),
    ],
)
def test_on_the_command_line(
    arguments: list[object], said: str, cli: Cli, classifier: Path, texts_file: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    dev = tmp_path / "dev.csv"
    dev.write_text("text,gold\na good film,good\na bad film,bad\n")
    monkeypatch.setattr("kprune_export.pipeline.job.choose_texts", choose_only_what_fits(arguments))
    given = ["--calibration", texts_file, "--evaluation", dev, "--threads", 2, "--shapes", "1x8"]
    assert cli("prune-and-build", classifier, "-o", tmp_path / "out", *given, *arguments) == 2
    assert said.format(dev=dev) in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def choose_only_what_fits(arguments: list[object]) -> Callable[..., object]:
    """Texts are chosen only where columns are there: what is wrong with these is known before."""
    from kprune_export.pipeline.texts import choose_texts

    def stop(*_: object, **__: object) -> object:
        raise AssertionError("texts were chosen before the columns were checked")

    return choose_texts if "gold" in arguments else stop


def test_labels_are_not_looked_for_in_calibration_texts_where_there_are_others(
    classifier: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """Calibration texts need no labels, whatever the evaluation's column is called."""
    calibration, dev = tmp_path / "train.csv", tmp_path / "dev.csv"
    calibration.write_text("text\n" + texts_file.read_text())
    dev.write_text("text,gold\na good film,1\na bad film,0\n")
    recipe = make_recipe(classifier, tmp_path / "out", calibration, evaluation=str(dev), label_column="gold")
    assert prepare_job(recipe, prunes=True, exports=True, measures=True).labels == (1, 0)
    alone = recipe.model_copy(update={"evaluation": None})
    with pytest.raises(CalibrationError, match=r"train.csv has no column 'gold': its columns are text"):
        prepare_job(alone, prunes=True, exports=True, measures=True)
