"""Spans of text as answers to questions: which one a model chooses, how that compares, and whether it is right."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from exporters.errors import MeasurementError
from exporters.runners.base import Array
from kprune_export.evaluation.fidelity import FidelityMeasure
from kprune_export.evaluation.metrics import TaskMetric

LONGEST_ANSWER_TOKENS = 30
NO_ANSWER = (0, 0)
"""The span at the first token, [CLS], by which models say that a text holds no answer."""
Span = tuple[int, int]
"""The first and the last token."""


@dataclass(frozen=True)
class SpanLogits:
    """One text's outputs without padding.

    Attributes:
        start: how well the answer begins at each token, (tokens,).
        end: how well it ends there, (tokens,).

    """

    start: Array
    end: Array


def best_span(logits: SpanLogits, context: NDArray[np.bool_], allow_none: bool) -> Span:
    """Return the span of at most 30 tokens whose start and end have the largest sum.

    Args:
        logits: the text's outputs.
        context: where the tokens of the context are, (tokens,); an answer lies within them.
        allow_none: whether `NO_ANSWER` is an answer too.

    """
    tokens = len(context)
    distance = np.arange(tokens)[None, :] - np.arange(tokens)[:, None]
    possible = context[:, None] & context[None, :] & (distance >= 0) & (distance < LONGEST_ANSWER_TOKENS)
    if allow_none or not possible.any():
        possible[NO_ANSWER] = True
    score = np.where(possible, logits.start[:, None].astype(np.float64) + logits.end[None, :], -np.inf)
    first, last = np.unravel_index(int(score.argmax()), score.shape)
    return int(first), int(last)


def span_fidelity(
    dense: Sequence[SpanLogits], pruned: Sequence[SpanLogits], spans: Sequence[tuple[Span, Span]]
) -> tuple[FidelityMeasure, ...]:
    """Compare both models' answers: agreement of the spans, and KL(dense ‖ pruned) of start and end.

    Args:
        dense: each text's outputs.
        pruned: the same.
        spans: the spans that dense and pruned choose for each text.

    """
    if not dense or any(not np.isfinite(x).all() for side in (dense, pruned) for y in side for x in (y.start, y.end)):
        raise MeasurementError("An output is NaN or infinite, or there is none, so fidelity cannot be measured.")
    kl = [_kl(a.start, b.start) + _kl(a.end, b.end) for a, b in zip(dense, pruned, strict=True)]
    return (
        FidelityMeasure(
            name="span_agreement",
            value=float(np.mean([a == b for a, b in spans])),
            higher_is_better=True,
            description="share of questions that get the same span of text as an answer",
        ),
        FidelityMeasure(
            name="mean_kl_nats",
            value=float(np.mean(kl)),
            higher_is_better=False,
            description="mean over questions of KL(dense ‖ pruned) of start and end, summed, in nats",
        ),
    )


def answer_metrics(
    dense: Sequence[str], pruned: Sequence[str], right: Sequence[Sequence[str]]
) -> tuple[TaskMetric, TaskMetric]:
    """Return SQuAD's F1 and exact match of answers against those that are right, the best of which counts.

    Answers are compared without case, punctuation, articles and superfluous spaces (Rajpurkar et al., 2016,
    section 6.1). No right answers mean that the empty answer is right (Rajpurkar, Jia and Liang, 2018).
    """
    wanted = [answers or ("",) for answers in right]

    def metric(name: str, score: Callable[[str, str], float]) -> TaskMetric:
        means = [
            float(np.mean([max(score(given, x) for x in answers) for given, answers in zip(side, wanted, strict=True)]))
            for side in (dense, pruned)
        ]
        return TaskMetric(name=name, dense=means[0], pruned=means[1], examples=len(wanted))

    return metric("answer_f1", answer_f1), metric("exact_match", exact_match)


def exact_match(given: str, right: str) -> float:
    """Return 1 if two answers are the same once normalised, else 0."""
    return float(_words(given) == _words(right))


def answer_f1(given: str, right: str) -> float:
    """Return the F1 of the words that two answers share once normalised; two empty answers agree."""
    a, b = _words(given), _words(right)
    if not a or not b:
        return float(a == b)
    shared = (Counter(a) & Counter(b)).total()
    return 2 * shared / (len(a) + len(b))


def _words(answer: str) -> list[str]:
    bare = "".join(x for x in answer.lower() if x not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def _kl(dense: Array, pruned: Array) -> float:
    log_dense, log_pruned = (log_softmax(x.astype(np.float64)) for x in (dense, pruned))
    return float((np.exp(log_dense) * (log_dense - log_pruned)).sum())
