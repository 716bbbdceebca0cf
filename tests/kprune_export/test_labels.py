import math

import pytest

from kprune_export.errors import LabelError
from kprune_export.evaluation.labels import task_labels
from pruning.calibration.examples import Example, Label
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
