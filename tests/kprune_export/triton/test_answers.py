"""Which answers are right and which are wrong, by hand."""

from typing import Any

import numpy as np
import pytest

from exporters.parity.check import Tolerance
from kprune_export.triton.answers import AnswerText, ExpectedAnswers, ExpectedEntities, TokenText
from kprune_export.triton.instance_groups import Places

TIGHT, LOOSE = Tolerance(absolute=1e-6, relative=0), Tolerance(absolute=0.2, relative=0)
BIO = ("O", "B-PER", "I-PER")
TEXT = "Ann Lee, Bob"
PLACES = Places(TEXT, (1, 2, 3, 4, 5), ((0, 3), (4, 6), (6, 7), (7, 8), (9, 12)), (0, 1, 1, 2, 3))


def entities(*rows: tuple[str, float, int, int]) -> dict[str, Any]:
    columns = list(zip(*rows, strict=True))
    labels = np.array([[x.encode() for x in columns[0]]], dtype=np.object_)
    return {"labels": labels} | {
        name: np.array([column]) for name, column in zip(("scores", "starts", "ends"), columns[1:], strict=True)
    }


def test_places_follow_words_and_part_them_at_marks() -> None:
    # [CLS] ▁Ann ▁Le e , ▁Bob: a tokenizer that parts at spaces only, and counts them to the next word
    offsets = [(0, 0), (0, 3), (3, 6), (6, 7), (7, 8), (8, 12)]
    belongs = [False, True, True, True, True, True]
    assert Places.of(TEXT, offsets, belongs, [None, 0, 1, 1, 1, 2]) == PLACES
    assert PLACES.word_spans() == {1: (0, 3), 2: (4, 7), 4: (7, 8), 5: (9, 12)}
    # bytes of one character, and an accent that is a character of its own
    text = "🙂 e\u0301a"
    found = Places.of(text, [(0, 1), (0, 1), (2, 3), (3, 4), (4, 5)], [True] * 5, [0, 0, 1, 1, 1])
    assert found.words == (0, 0, 1, 1, 1)


def test_entities_are_right_within_the_tolerance() -> None:
    logits = np.log(np.array([[1, 1, 1], [2, 7, 1], [1, 1, 8], [8, 1, 1], [8, 1, 1], [3, 6.9, 0.1]]) / 10)
    expected = ExpectedEntities((TokenText(PLACES, logits),), BIO, merges=True)
    right = entities(("PER", 0.75, 0, 7), ("PER", 0.69, 9, 12), ("", 0, -1, -1))
    checked = expected.check(right, TIGHT)
    assert (checked.problem, checked.error) == (None, pytest.approx(0, abs=1e-9))
    for wrong, problem in (
        (entities(("PER", 0.75, 0, 7)), "the probability of O for the word 4"),
        (entities(("PER", 0.7, 0, 3), ("PER", 0.1, 4, 7), ("PER", 0.69, 9, 12)), "the probability of B-PER"),
        (entities(("PER", 0.75, 0, 6), ("PER", 0.69, 9, 12)), "PER from 0 to 6 is not at the words that follow"),
        (entities(("PER", 0.69, 9, 12), ("PER", 0.75, 0, 7)), "PER from 0 to 7 is not at the words that follow"),
        (entities(("LOC", 0.75, 0, 7), ("PER", 0.69, 9, 12)), "there is no LOC among the model's labels"),
        (entities(("PER", 0.7, 0, 7), ("PER", 0.69, 9, 12)), "the score of PER from 0 to 7 is off by 5.00e-02"),
        (entities(("PER", 0.75, 0, 7), ("PER", 0.69, 9, 12), ("", 0, -1, 3)), "rows are not filled up"),
    ):
        found = expected.check(wrong, TIGHT).problem
        assert found is not None
        assert problem in found
    assert expected.check(entities(("PER", 0.75, 0, 7)), Tolerance(absolute=0.4, relative=0)).problem is None


def test_labelled_words_are_all_there() -> None:
    logits = np.log(np.array([[1, 1, 1], [1, 1, 8], [1, 8, 1], [1, 1, 8], [8, 1, 1], [1, 8, 1]]) / 10)
    expected = ExpectedEntities((TokenText(PLACES, logits),), ("a", "b", "c"), merges=False)
    rows = [("c", 0.8, 0, 3), ("b", 0.8, 4, 7), ("a", 0.8, 7, 8), ("b", 0.8, 9, 12)]
    assert expected.check(entities(*rows), TIGHT).problem is None
    assert expected.check(entities(*rows[:3]), TIGHT).problem == "there are 3 words, not 4"
    assert expected.check(entities(*rows[1:]), TIGHT).problem == "b from 4 to 7 is not the word 1"


def test_answers_are_right_within_the_tolerance() -> None:
    start, end = np.array([0.0, 3, 1, 0, 0, 2.9]), np.array([0.0, 0, 1, 3, 0, 2.9])
    expected = ExpectedAnswers((AnswerText(PLACES, start, end),))

    def problem_of(tolerance: Tolerance, answer: str, score: float, first: int, last: int) -> str | None:
        found = {"score": np.array([[score]]), "start": np.array([[first]]), "end": np.array([[last]])}
        return expected.check({"answer": np.array([[answer.encode()]], dtype=np.object_), **found}, tolerance).problem

    chances = [float(np.exp(x.max()) / np.exp(x).sum()) for x in (start, end)]
    assert problem_of(TIGHT, "Ann Lee", chances[0] * chances[1], 0, 7) is None
    assert "the score of the answer" in str(problem_of(TIGHT, "Ann Lee", 0.1, 0, 7))
    bob = float(np.exp(2.9) / np.exp(start).sum() * np.exp(2.9) / np.exp(end).sum())
    assert "the sum of the answer's logits is off by 2.00e-01" in str(problem_of(TIGHT, "Bob", bob, 9, 12))
    assert problem_of(LOOSE, "Bob", bob, 9, 12) is None
    assert problem_of(TIGHT, "Ann", chances[0] * chances[1], 0, 7) == "the answer is not what stands from 0 to 7"
    assert "of the context go from 9 to 7" in str(problem_of(TIGHT, "", 0.5, 9, 7))
    assert problem_of(TIGHT, "", 0.0, -1, -1) is not None
    nowhere = ExpectedAnswers((AnswerText(Places("", (), (), ()), start, end),))
    empty = {"answer": np.array([[b""]], dtype=np.object_), "score": np.array([[0.0]])}
    none = empty | {"start": np.array([[-1]]), "end": np.array([[-1]])}
    assert nowhere.check(none, TIGHT).problem is None
