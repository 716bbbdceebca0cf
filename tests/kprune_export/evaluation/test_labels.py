import math

import pytest

from kprune_export.errors import LabelError
from kprune_export.evaluation.labels import task_labels
from kprune_export.evaluation.reading import read_classes
from pruning.calibration.examples import Example, Label
from pruning.calibration.values import IGNORED, NamedClass
from pruning.tasks import MultiLabel, Regression, SentenceEmbedding, SingleLabel, Task, TokenLabels

CLASSES = SingleLabel(("negative", "Positive"))
MANY = MultiLabel(("a", "b"))
SCORE = Regression(("score",))
EMBEDDING = SentenceEmbedding()
WORDS = TokenLabels(("O", "B-X"))


def labelled(*labels: Label | None, pair: str | None = None) -> list[Example]:
    return [Example("x", pair, label) for label in labels]


@pytest.mark.parametrize(
    ("task", "examples", "expected"),
    [
        (CLASSES, labelled(0, 1.0, "positive", "NEGATIVE"), (0, 1, 1, 0)),
        (MANY, labelled((0.0, 1.0), (1.0, 1.0)), ((0.0, 1.0), (1.0, 1.0))),
        (SCORE, labelled(1, 2.5), (1.0, 2.5)),
        (EMBEDDING, labelled(3, 4.5, pair="y"), (3.0, 4.5)),
    ],
)
def test_labels_take_the_tasks_form(task: Task, examples: list[Example], expected: object) -> None:
    assert task_labels(task, examples, required=True) == expected


@pytest.mark.parametrize(
    ("task", "examples", "problem"),
    [
        (CLASSES, labelled(0, None), "1 of 2 evaluation examples have no label"),
        (CLASSES, labelled(2), "label 2 is none of the model's: negative, Positive"),
        (CLASSES, labelled(-1), "label -1 is none"),
        (CLASSES, labelled(0.5), "label 0.5 is none"),
        (CLASSES, labelled("neutral"), "label 'neutral' is none"),
        (MANY, labelled((1.0,)), "is not a list of 0 and 1"),
        (MANY, labelled((1.0, 0.3)), "is not a list of 0 and 1"),
        (CLASSES, labelled(math.nan), "label nan is none"),
        (CLASSES, labelled(math.inf), "label inf is none"),
        (MANY, labelled((1.0, math.nan)), "is not a list of 0 and 1"),
        (SCORE, labelled("high"), "is not a number"),
        (SCORE, labelled(math.inf), "label inf is not a finite number"),
        (WORDS, [Example("a b", None, (0.0, math.nan), ("a", "b"))], "label nan is none"),
        (EMBEDDING, labelled(1), "needs pairs of texts with a score"),
    ],
)
def test_labels_that_do_not_fit(
    task: Task, examples: list[Example], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(LabelError, match=problem):
        task_labels(task, examples, required=True)
    assert task_labels(task, examples, required=False) is None
    assert problem[:10] in caplog.text or examples[0].label is None or len(examples) > 1


def test_no_labels_are_no_cause_for_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert task_labels(CLASSES, labelled(None, None), required=False) is None
    assert not caplog.text


NER = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
NER_OF_THE_DATA = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def named(names: tuple[str, ...], *numbers: int) -> tuple[NamedClass, ...]:
    return tuple(NamedClass(number, names[number]) for number in numbers)


@pytest.mark.parametrize(
    ("names", "labels", "indices", "assumed"),
    [
        (NER, named(NER_OF_THE_DATA, 0, 1, 2, 3, 4), (4, 1, 3, 0, 2), False),
        (("NEUTRAL", "Not-Entailed", "ok"), named(("not entailed", "neutral"), 0, 1), (1, 0), False),
        (("LABEL_0", "LABEL_1"), named(("b", "a"), 0, 1), (0, 1), True),  # nobody has named the model's classes
        (("a", "b"), named(("0", "1"), 0, 1), (0, 1), True),
        (("LABEL_0", "LABEL_1"), named(("LABEL_1", "LABEL_0"), 0, 1), (1, 0), True),
        (("a", "b"), ("LABEL_1", "label_0", "B"), (1, 0, 1), True),
        (("a", "b"), (1, 0.0), (1, 0), True),
        (("a", "A", "b"), ("A", "a", "B"), (1, 0, 2), False),  # names that differ in their case alone
        (("1", "2", "3"), (1, 3, 2), (0, 2, 1), False),  # numbers that are the names of the classes
        (("1", "2", "3"), (0, 1, 2), (0, 1, 2), True),  # numbers that cannot be
        (("-1", "0", "1"), (1, -1, 0), (2, 0, 1), False),
    ],
)
def test_classes_are_matched_by_name(
    names: tuple[str, ...], labels: tuple[Label, ...], indices: tuple[int, ...], assumed: bool
) -> None:
    found = read_classes(names, labels)
    assert (found.indices, found.order_assumed) == (indices, assumed)


@pytest.mark.parametrize("label", [NamedClass(0, "negativo"), "negativo", "LABEL_7", 2, NamedClass(5, "LABEL_5")])
def test_classes_that_the_model_does_not_have(label: Label) -> None:
    with pytest.raises(LabelError, match="none of the model's: negative, positive"):
        read_classes(("negative", "positive"), [label])


def test_names_take_the_tasks_form() -> None:
    tags = [Example("a b", None, (*named(NER_OF_THE_DATA, 1), IGNORED), ("a", "b"))]
    assert task_labels(TokenLabels(NER), tags, required=True) == ((1, IGNORED),)
    emotions = [Example("x", None, named(("b", "a"), 0)), Example("y", None, ()), Example("z", None, ("A", "b"))]
    assert task_labels(MANY, emotions, required=True) == ((0.0, 1.0), (0.0, 0.0), (1.0, 1.0))
    assert task_labels(SCORE, labelled(NamedClass(0, "4.5")), required=True) == (4.5,)
