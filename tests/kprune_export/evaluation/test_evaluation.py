"""What is kept of token outputs, and how tokens meet words and answers; a real tokenizer that splits words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kprune_export.errors import LabelError
from kprune_export.evaluation import EVALUATIONS, evaluation_of
from kprune_export.evaluation.alignment import check_fast, first_tokens
from kprune_export.evaluation.base import Evaluation, TaskLabels
from pruning import load_checkpoint
from pruning.calibration.batches import encode
from pruning.calibration.examples import Example
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.tasks import SingleLabel

MakeCheckpoint = Callable[..., Path]
SPLIT = ["film", "##s", "good", "a", "the", "is", "what", "paris", ",", "?", "in"]


def with_tokenizer(folder: Path) -> EncoderCheckpoint:
    """Give a checkpoint a tokenizer that splits words: films is film and ##s."""
    from transformers import BertTokenizerFast

    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *SPLIT]))
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=12).save_pretrained(folder)
    return load_checkpoint(folder)


@pytest.fixture(scope="module")
def tagger(make_checkpoint: MakeCheckpoint) -> EncoderCheckpoint:
    return with_tokenizer(make_checkpoint(head="ForTokenClassification", labels=("O", "B-X", "I-X")))


@pytest.fixture(scope="module")
def reader(make_checkpoint: MakeCheckpoint) -> EncoderCheckpoint:
    return with_tokenizer(make_checkpoint(head="ForQuestionAnswering"))


def words(*tokens: str, label: Any = None) -> Example:
    return Example(" ".join(tokens), None, label, tokens)


def test_words_are_found_at_their_first_token(tagger: EncoderCheckpoint) -> None:
    examples = [words("a", "films,", "", "good", "films"), words(*["films"] * 8)]
    encoded = encode(tagger.tokenizer, examples, 12)
    # [CLS] a film ##s , good film ##s [SEP]: the comma belongs to its word, an empty word has no token
    assert first_tokens(examples[0].words or (), encoded, 0) == [1, 2, None, 5, 6]
    assert first_tokens(examples[1].words or (), encoded, 1) == [1, 3, 5, 7, 9, None, None, None]  # cut at 12


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "electra", "camembert"])
def test_words_are_found_whatever_a_tokenizer_makes_of_spaces(family: str, make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = load_checkpoint(make_checkpoint(family=family, head="ForTokenClassification"))
    text = ("good", "film", "bad", "story", "a")
    encoded = encode(checkpoint.tokenizer, [words(*text)], 64)
    places = first_tokens(text, encoded, 0)
    tokens = checkpoint.tokenizer.convert_ids_to_tokens(encoded["input_ids"][0])
    assert None not in places
    assert places == sorted(set(places))  # type: ignore[type-var]
    starts = [tokens[place].lstrip("Ġ▁") for place in places if place is not None]
    assert all(start and word.startswith(start) for start, word in zip(starts, text, strict=True))


def test_a_tokenizer_that_does_not_say_where_its_tokens_are() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(LabelError, match=r"tokenizer \(Slow\) does not say where in a text its tokens are"):
        check_fast(Slow())


def run(checkpoint: EncoderCheckpoint, examples: list[Example], labels: TaskLabels | None, outputs: Any) -> Evaluation:
    """Evaluate models whose outputs a function of the row and the side (0 dense, 1 pruned) gives."""
    evaluation = evaluation_of(checkpoint.task)(checkpoint, examples, labels)
    for batch in checkpoint.batches(examples, seed=0, batch_size=2):
        width = batch.attention_mask.shape[1]
        sides = []
        for side in (0, 1):
            rows = [outputs(row, side) for row in batch.rows]
            names = [output.name for output in checkpoint.task.outputs]
            arrays = {}
            for name in names:
                values = [row[name] for row in rows]
                filled = [np.concatenate([x, np.full((width - len(x), *x.shape[1:]), np.nan)]) for x in values]
                arrays[name] = np.stack(filled).astype(np.float32)  # NaN in padding must not matter
            sides.append(arrays)
        evaluation.add(batch, *sides)
    return evaluation


def one_hot(*classes: int, count: int = 3, height: float = 4.0) -> dict[str, Any]:
    return {"logits": height * np.eye(count)[list(classes)]}


def test_token_labels_by_hand(tagger: EncoderCheckpoint) -> None:
    examples = [
        words("a", "films", "good", label=(0.0, "B-X", 2.0)),
        words("good", "a", label=(1.0, -100.0)),
        words("is", label=("o",)),
    ]
    labels = evaluation_of(tagger.task).read_labels(tagger.task, examples)
    assert labels == ((0, 1, 2), (1, -100), (0,))
    dense = [one_hot(2, 0, 1, 0, 2, 2), one_hot(2, 1, 2, 2), one_hot(2, 0, 2)]  # [CLS] a film ##s good [SEP], …
    pruned = [one_hot(0, 0, 1, 1, 0, 0), one_hot(0, 0, 2, 0), one_hot(0, 0, 0)]
    found = run(tagger, examples, labels, lambda row, side: (dense, pruned)[side][row])
    agreement, kl, kappa = found.fidelity()
    assert kappa.value < agreement.value
    assert agreement.value == pytest.approx(4 / 7)  # special tokens do not count: a, film and not ##s and not good; …
    assert kl.value > 0
    f1, accuracy = found.metrics()
    assert (f1.name, f1.dense, f1.pruned, f1.examples) == ("entity_f1", 1.0, 0.0, 2)
    assert (accuracy.name, accuracy.dense, accuracy.pruned, accuracy.examples) == ("token_accuracy", 1.0, 0.6, 5)


def test_unlabelled_tokens_have_fidelity_alone(tagger: EncoderCheckpoint) -> None:
    found = run(tagger, [Example("a films")], None, lambda row, side: one_hot(0, 1, 2 - side, 0, 0))
    assert found.fidelity()[0].value == pytest.approx(2 / 3)
    assert found.metrics() == ()


@pytest.mark.parametrize(
    ("example", "problem"),
    [
        (Example("a film", None, (0.0, 0.0)), "needs a list of words and a list with a label for each"),
        (words("a", "film", label=1), "needs a list of words and a list with a label for each"),
        (words("a", "film", label=(1.0,)), "'a film' has 2 words, but labels for 1"),
        (words("a", label=(7.0,)), "label 7.0 is none of the model's: O, B-X, I-X"),
        (words("a", label=("B-Y",)), "label 'B-Y' is none of the model's"),
        (words("a"), "1 of 1 evaluation examples have no label"),
    ],
)
def test_labels_of_words_that_do_not_fit(tagger: EncoderCheckpoint, example: Example, problem: str) -> None:
    with pytest.raises(LabelError, match=problem):
        evaluation_of(tagger.task).read_labels(tagger.task, [example])


def ends(start: int, end: int, count: int) -> dict[str, Any]:
    return {"start_logits": 5.0 * (np.arange(count) == start), "end_logits": 5.0 * (np.arange(count) == end)}


def test_answers_by_hand(reader: EncoderCheckpoint) -> None:
    # [CLS] what is ? [SEP] paris , in films [##s] [SEP]
    examples = [Example("what is?", "Paris, in films", ("films",)), Example("what", "good films", ("the good film",))]
    labels = evaluation_of(reader.task).read_labels(reader.task, examples)
    dense, pruned = [ends(8, 9, 11), ends(3, 5, 7)], [ends(5, 5, 11), ends(1, 5, 7)]
    found = run(reader, examples, labels, lambda row, side: (dense, pruned)[side][row])
    agreement, kl = found.fidelity()
    assert agreement.value == 0.5  # the second's start is in the question, so the first of the context is taken
    assert kl.value > 0
    f1, exact = found.metrics()
    assert (f1.dense, exact.dense) == (pytest.approx((1 + 0.5) / 2), 0.5)  # "films"; "good films": 1 of 2 words each
    assert (f1.pruned, exact.pruned) == (pytest.approx(0.25), 0.0)  # "Paris"; "good films" again
    same = run(reader, examples, labels, lambda row, side: dense[row]).fidelity()
    assert [x.value for x in same] == [1.0, 0.0]


def test_no_answer_can_be_right(reader: EncoderCheckpoint) -> None:
    examples = [Example("what?", "good", ()), Example("what?", "film", ("film",))]
    labels = evaluation_of(reader.task).read_labels(reader.task, examples)
    f1, _ = run(reader, examples, labels, lambda row, side: ends(0, 0, 6)).metrics()  # [CLS] what ? [SEP] good [SEP]
    assert (f1.dense, f1.pruned) == (0.5, 0.5)
    f1, _ = run(reader, examples[1:], labels[1:], lambda row, side: ends(0, 0, 6)).metrics()
    assert f1.dense == 1.0  # without such questions in the evaluation, there is always an answer


def test_answers_that_do_not_fit(reader: EncoderCheckpoint) -> None:
    read = evaluation_of(reader.task).read_labels
    assert read(reader.task, [Example("q", "c", 1066), Example("q", "c", "x")]) == (("1066",), ("x",))
    with pytest.raises(LabelError, match="is neither an answer nor a list of answers"):
        read(reader.task, [Example("q", "c", (1.0, 2.0))])


def test_masked_words_by_hand(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = load_checkpoint(make_checkpoint(head="ForMaskedLM"))
    tokenizer, examples = checkpoint.tokenizer, [Example("good film"), Example("a bad story")]
    ids = [tokenizer(example.text)["input_ids"] for example in examples]
    width = checkpoint.task.outputs[0].width

    def outputs(row: int, side: int) -> dict[str, Any]:
        """The dense model always knows; the pruned one says [PAD] for the second text."""
        return one_hot(*(ids[row] if side == 0 or row == 0 else [0] * len(ids[row])), count=width)

    found = run(checkpoint, examples, None, outputs)
    assert found.fidelity()[0].value == 0.5
    (metric,) = found.metrics()
    assert (metric.name, metric.dense, metric.pruned, metric.examples) == ("masked_accuracy", 1.0, 0.5, 2)
    p = np.exp(4) / (np.exp(4) + width - 1)
    q = 1 / (np.exp(4) + width - 1)
    assert found.fidelity()[1].value == pytest.approx((p - q) * 4 / 2, rel=1e-5)  # two of the words swap


def test_token_features_by_hand(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = load_checkpoint(make_checkpoint(head=""), pooling="none")

    def outputs(row: int, side: int) -> dict[str, Any]:
        vectors = np.eye(4)
        if side:
            vectors[3] = [1, 0, 0, 1]  # 45 degrees off
        return {"last_hidden_state": vectors}

    found = run(checkpoint, [Example("good film")], None, outputs)
    cosine, skill = found.fidelity()
    assert cosine.value == pytest.approx((3 + 2**-0.5) / 4)
    assert skill.value == pytest.approx((cosine.value - 0.5) / 0.5)  # the mean of four unit axes has a length of 1/2
    assert found.metrics() == ()
    assert torch.is_grad_enabled()


def test_a_task_that_only_pruning_knows_says_what_is_missing() -> None:
    class Unregistered(SingleLabel):
        name = "a task of a test"

    with pytest.raises(LookupError, match="EVALUATIONS has no class for the task 'a task of a test': add one"):
        evaluation_of(Unregistered())


@pytest.mark.parametrize("name", EVALUATIONS)
def test_tasks_have_all_words(name: str) -> None:
    evaluation = EVALUATIONS[name]
    assert evaluation.pipeline_tag
    compile(evaluation.usage(None), name, "exec")
    texts = eval(evaluation.example_texts)
    serving = evaluation.serving(())
    if serving is not None:
        assert len(serving.inputs(pairs=False)) == (2 if isinstance(texts[0], tuple) else 1)
