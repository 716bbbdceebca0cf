"""Labels in another order than the model's: matched by the data set's names, or noticed by what the metric comes to."""

import json
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest

from kprune_export.bundle.manifest import Manifest
from kprune_export.bundle.variant_report import Reports
from kprune_export.errors import ExitCode
from kprune_export.evaluation.fidelity import FidelityReport
from kprune_export.evaluation.metrics import accuracy, micro_f1
from kprune_export.evaluation.token_metrics import entity_f1, token_accuracy
from pruning import load_checkpoint
from pruning.calibration.examples import Example

Cli = Callable[..., int]
MODEL = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
DATA = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
"""The order that data sets have them in, where models are often saved with sorted names."""


def test_answers_that_have_nothing_to_do_with_the_labels_are_at_chance() -> None:
    generator = np.random.default_rng(1)
    right = generator.integers(0, 3, 300)
    good = np.eye(3)[np.where(generator.random(300) < 0.8, right, (right + 1) % 3)]
    noise = np.eye(3)[generator.integers(0, 3, 300)]
    metric = accuracy(good, noise, right.tolist())
    assert metric.chance is not None
    assert 1 / 3 < metric.chance < 0.45 < metric.dense
    assert not metric.at_chance
    assert accuracy(noise, good, right.tolist()).at_chance
    assert accuracy(good, good, ((right + 1) % 3).tolist()).at_chance  # labels in another order
    assert not micro_f1(good - 0.5, noise, np.eye(3)[right].tolist()).at_chance
    assert micro_f1(noise - 0.5, good, np.eye(3)[right].tolist()).at_chance
    assert not accuracy(np.eye(2)[[1, 1]], np.eye(2)[[1, 1]], [1, 1]).at_chance  # all right, whatever the order


def test_entities_at_chance() -> None:
    generator = np.random.default_rng(2)
    texts = [[MODEL[i] for i in generator.choice(5, 12, p=[0.1, 0.1, 0.1, 0.1, 0.6])] for _ in range(60)]
    other = [[DATA[MODEL.index(label)] for label in labels] for labels in texts]
    assert not entity_f1(texts, other, texts).at_chance
    flat, moved = ([label for labels in side for label in labels] for side in (texts, other))
    mixed = generator.permutation(flat).tolist()
    assert entity_f1([mixed[12 * n : 12 * (n + 1)] for n in range(60)], texts, texts).at_chance
    assert token_accuracy(mixed, flat, flat).at_chance
    assert token_accuracy(flat, moved, flat).other_order is None
    assert token_accuracy(moved, flat, flat).other_order == 1


def test_another_order_of_the_classes_is_noticed_where_some_keep_their_place() -> None:
    """What is better than chance may still be counted in another order."""
    generator = np.random.default_rng(3)
    right = generator.integers(0, 4, 400)
    answers = np.where(generator.random(400) < 0.9, right, generator.integers(0, 4, 400))
    swapped = np.array([0, 1, 3, 2])[right]
    metric = accuracy(np.eye(4)[answers], np.eye(4)[answers], swapped.tolist())
    assert not metric.at_chance
    assert metric.other_order == pytest.approx(float((answers == right).mean()))
    assert metric.note == ""  # where the labels are known to be named so, the model is what is wrong
    doubtful = metric.model_copy(update={"order_assumed": True})
    assert doubtful.order_doubtful
    assert "numbers without names, and may count the classes in another order" in doubtful.note
    assert accuracy(np.eye(4)[answers], np.eye(4)[answers], right.tolist()).other_order is None
    few = accuracy(np.eye(2)[[0, 1, 0]], np.eye(2)[[0, 1, 0]], [1, 0, 1])
    assert few.other_order is None  # three labels tell nothing of the kind
    many = np.eye(4)[answers]
    assert micro_f1(many - 0.5, many - 0.5, np.eye(4)[swapped].tolist()).other_order is not None
    assert micro_f1(many - 0.5, many - 0.5, np.eye(4)[right].tolist()).other_order is None


@pytest.fixture(scope="module")
def tagged(
    make_checkpoint: Callable[..., Path],
    make_sentences: Callable[..., list[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path, Path]:
    """A tagger, and a data set whose labels are what it says: once with its classes' names, once as bare numbers."""
    model = make_checkpoint(head="ForTokenClassification", labels=MODEL)
    checkpoint = load_checkpoint(model)
    texts = sorted(set(make_sentences(60, seed=3)))
    (batch,) = checkpoint.batches([Example(text) for text in texts], batch_size=len(texts))
    logits = checkpoint.model(**{name: batch.inputs[name] for name in checkpoint.inputs}).logits
    said = dict(zip(batch.rows, logits.argmax(-1).tolist(), strict=True))
    rows = [text.split() for text in texts]
    tags = [[DATA.index(MODEL[x]) for x in said[n][1 : len(words) + 1]] for n, words in enumerate(rows)]
    assert len({tag for row in tags for tag in row}) > 2
    folder = tmp_path_factory.mktemp("tagged")
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=list(DATA))),
        }
    )
    named, bare = folder / "named.parquet", folder / "bare.jsonl"
    datasets.Dataset.from_dict({"tokens": rows, "ner_tags": tags}, features=features).to_parquet(named)
    lines = (json.dumps({"tokens": words, "ner_tags": row}) for words, row in zip(rows, tags, strict=True))
    bare.write_text("\n".join(lines))
    return model, named, bare


def test_a_data_set_s_classes_are_the_model_s_by_name(
    cli: Cli, tagged: tuple[Path, Path, Path], texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, named, bare = tagged
    output = tmp_path / "out"
    quick = ("--shapes", "1x8", "--timing-seconds", 0.1, "--threads", 2)
    build = ("prune-and-build", model, "-o", output, "--calibration", texts_file, "--evaluation", named, *quick)
    assert cli(*build, "--samples", 150, "--sequence-length", 16, "--min-metric", 0.01, "--flops-reduction", 0.2) == 0
    (report,) = Reports[FidelityReport].read(output / "fidelity.json").variants.values()
    assert report.metric is not None
    assert (report.metric.name, report.metric.dense, report.metric.order_assumed) == ("entity_f1", 1.0, False)
    capsys.readouterr()
    again = ("validate", output, "--evaluation", bare, *quick, "--min-metric", 0.01, "-o", tmp_path / "again")
    assert cli(*again) == ExitCode.INCONCLUSIVE
    shown = " ".join(capsys.readouterr().out.split())
    assert "inconclusive: what was measured does not decide 1 of 1 gates" in shown
    (report,) = Reports[FidelityReport].read(tmp_path / "again" / "fidelity.json").variants.values()
    assert report.metric is not None
    assert report.metric.order_assumed
    assert report.metric.other_order == 1
    (gate,) = Manifest.of_bundle(tmp_path / "again").gates
    assert (gate.name, gate.inconclusive, gate.broken) == ("min_metric", True, False)
    assert "the labels are numbers without names, and may count the classes in another order" in gate.detail
