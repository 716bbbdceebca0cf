import math

import numpy as np
import pytest

from exporters.errors import MeasurementError
from kprune_export.evaluation.span_metrics import (
    LONGEST_ANSWER_TOKENS,
    NO_ANSWER,
    SpanLogits,
    answer_f1,
    answer_metrics,
    best_span,
    exact_match,
    span_fidelity,
)

CONTEXT = np.array([False, False, True, True, True, False])


def logits(start: list[float], end: list[float]) -> SpanLogits:
    return SpanLogits(np.array(start, dtype=np.float32), np.array(end, dtype=np.float32))


def test_the_best_span_lies_in_the_context_and_does_not_end_before_it_begins() -> None:
    found = best_span(logits([9, 0, 1, 0, 5, 9], [9, 0, 4, 2, 3, 9]), CONTEXT, allow_none=False)
    assert found == (4, 4)  # 5 + 3; 5 + 4 would end before it begins
    assert best_span(logits([0, 0, 3, 0, 1, 0], [0, 0, 0, 0, 4, 0]), CONTEXT, allow_none=False) == (2, 4)


def test_no_answer_is_the_first_token_where_it_is_allowed() -> None:
    unsure = logits([5, 0, 1, 1, 1, 0], [5, 0, 1, 1, 1, 0])
    assert best_span(unsure, CONTEXT, allow_none=True) == NO_ANSWER
    assert best_span(unsure, CONTEXT, allow_none=False) == (2, 2)
    assert best_span(unsure, np.zeros(6, dtype=bool), allow_none=False) == NO_ANSWER  # the context was cut off


def test_answers_have_a_greatest_length() -> None:
    start, end = np.zeros(80), np.zeros(80)
    start[10], end[60], end[11 + LONGEST_ANSWER_TOKENS - 2] = 9, 9, 1
    found = best_span(SpanLogits(start, end), np.ones(80, dtype=bool), allow_none=False)
    assert found == (10, 10 + LONGEST_ANSWER_TOKENS - 1)


def test_fidelity_by_hand() -> None:
    # first text: starts (3/4, 1/4) against (1/2, 1/2), equal ends; second text: all equal
    dense = [logits([math.log(3), 0], [0, 0]), logits([1, 2], [3, 4])]
    pruned = [logits([0, 0], [7, 7]), logits([1, 2], [3, 4])]
    agreement, kl = span_fidelity(dense, pruned, [((0, 1), (0, 0)), ((1, 1), (1, 1))])
    assert (agreement.name, agreement.value) == ("span_agreement", 0.5)
    assert kl.value == pytest.approx((0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2, rel=1e-6)
    with pytest.raises(MeasurementError, match="NaN or infinite"):
        span_fidelity([logits([math.nan], [0])], [logits([0], [0])], [((0, 0), (0, 0))])


@pytest.mark.parametrize(
    ("given", "right", "f1", "exact"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0, 1.0),
        ("an old tower", "the tower", 2 / 3, 0.0),  # 1 of 2 words, 1 of 1
        ("a tower a tower", "tower", 2 / 3, 0.0),
        ("Paris", "London", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ("", "London", 0.0, 0.0),
        ("the", "", 1.0, 1.0),  # nothing is left of an article
    ],
)
def test_answers_are_compared_as_squad_does(given: str, right: str, f1: float, exact: float) -> None:
    assert answer_f1(given, right) == pytest.approx(f1)
    assert exact_match(given, right) == exact


def test_the_best_of_several_right_answers_counts_and_none_may_be_right() -> None:
    f1, exact = answer_metrics(["old tower", ""], ["Rome", "Rome"], [("tower", "Old tower"), ()])
    assert (f1.dense, f1.pruned, exact.dense, exact.pruned, f1.examples) == (1.0, 0.0, 1.0, 0.0, 2)
    assert (f1.name, exact.name) == ("answer_f1", "exact_match")
