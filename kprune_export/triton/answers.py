"""Checks of a server's answers against the reference's: within the tolerance of a model's outputs, decisions included.

Where two labels or spans are as good as each other, within the tolerance, either is right: rounding may turn them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from exporters.parity.check import Tolerance
from exporters.rounding import apart
from exporters.runners.base import Array
from kprune_export.evaluation.span_metrics import LONGEST_ANSWER_TOKENS
from kprune_export.triton.instance_groups import Places

Found = Mapping[str, Array | None]


@dataclass(frozen=True)
class AnswerCheck:
    """What is wrong with an answer, if anything; its largest error, and what is accepted there."""

    problem: str | None
    error: float
    tolerance: float

    @classmethod
    def of(cls, what: str, error: float, tolerance: float) -> "AnswerCheck":
        """Check a difference."""
        shown, accepted = apart(error, tolerance)
        problem = None if error <= tolerance else f"{what} is off by {shown}, more than {accepted}"
        return cls(problem, error if np.isfinite(error) else 0.0, tolerance)


def worst_of(checks: list[AnswerCheck]) -> AnswerCheck:
    """Return the first problem, with the largest error."""
    problem = next((x.problem for x in checks if x.problem), None)
    worst = max(checks, key=lambda x: x.error)
    return AnswerCheck(problem, worst.error, worst.tolerance)


class Expected(ABC):
    """What has to come back of a request."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """The outputs to ask for."""

    @abstractmethod
    def check(self, found: Found, tolerance: Tolerance) -> AnswerCheck:
        """Check the outputs that came.

        Args:
            found: they, by their names; None where the server gave nothing.
            tolerance: how far the encoder's outputs may be off.

        """


@dataclass(frozen=True)
class ExpectedValues(Expected):
    """Numbers.

    Attributes:
        values: the reference's, by the outputs' names; scores in the order of the labels.
        labels: the model's labels, where scores come with labels, the best first.
        mask: (texts, tokens), where outputs for each token count; None where there are none.

    """

    values: Mapping[str, Array]
    labels: tuple[str, ...] = ()
    mask: Array | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Labels, and all that there are values for."""
        return (*(("labels",) if self.labels else ()), *self.values)

    def check(self, found: Found, tolerance: Tolerance) -> AnswerCheck:
        """Compare each."""
        return worst_of([self._compare(name, found, tolerance) for name in self.values])

    def _compare(self, name: str, found: Found, tolerance: Tolerance) -> AnswerCheck:
        values, expected = found[name], self.values[name]
        bound = tolerance.bound(expected)
        if values is None or values.shape != expected.shape:
            return AnswerCheck(wrong_shape(name, values, expected.shape), 0.0, bound)
        if self.labels:
            ordered = _by_label(values, found["labels"], self.labels)
            if ordered is None:
                return AnswerCheck("the answers are not all of the model's labels, the best first", 0.0, bound)
            values = ordered
        difference = np.abs(values - expected)
        if self.mask is not None:
            difference = difference[self.mask.astype(bool)]
        return AnswerCheck.of(name, float(difference.max(initial=0.0)), bound)


@dataclass(frozen=True)
class TokenText:
    """One text of a token classifier: where its tokens are, and the reference's logits, (tokens, labels)."""

    places: Places
    logits: Array


@dataclass(frozen=True)
class ExpectedEntities(Expected):
    """Words with their labels, or the entities that BIO labels mark.

    Attributes:
        texts: each text.
        labels: the model's labels, in order.
        merges: whether words are put together to entities.

    """

    texts: tuple[TokenText, ...]
    labels: tuple[str, ...]
    merges: bool

    @property
    def outputs(self) -> tuple[str, ...]:
        """Labels, scores and spans."""
        return ("labels", "scores", "starts", "ends")

    def check(self, found: Found, tolerance: Tolerance) -> AnswerCheck:
        """Check each text."""
        arrays = [found[name] for name in self.outputs]
        for name, array in zip(self.outputs, arrays, strict=True):
            if array is None or array.ndim != 2 or len(array) != len(self.texts) or not array.shape[1]:
                return AnswerCheck(wrong_shape(name, array, (len(self.texts), "items")), 0.0, 0.0)
        checks = []
        for text, *columns in zip(self.texts, *(x for x in arrays if x is not None), strict=True):
            items = list(zip((bytes(x).decode() for x in columns[0]), *columns[1:], strict=True))
            count = next((place for place, item in enumerate(items) if item[2] < 0), len(items))
            if any(label or start != -1 or end != -1 for label, _, start, end in items[count:]):
                checks.append(AnswerCheck("rows are not filled up with empty labels and -1", 0.0, 0.0))
            checks += self._check_text(text, items[:count], tolerance)
        return worst_of(checks or [AnswerCheck(None, 0.0, 0.0)])

    def _check_text(
        self, text: TokenText, items: list[tuple[str, float, int, int]], tolerance: Tolerance
    ) -> list[AnswerCheck]:
        spans = text.places.word_spans()
        starts, ends = ([span[side] for span in spans.values()] for side in (0, 1))
        bound = tolerance.bound(text.logits)
        chances = softmax(text.logits[list(spans)].astype(np.float64), axis=-1)
        possible: list[tuple[str, ...]] = [("O",)] * len(spans) if self.merges else []
        checked, reached, kind = [], 0, ""
        for label, score, start, end in items:
            if start not in starts[reached:] or end not in ends[reached:] or ends.index(end) < starts.index(start):
                return [AnswerCheck(f"{label} from {start} to {end} is not at the words that follow", 0.0, bound)]
            first, after = starts.index(start), ends.index(end) + 1
            if not self.merges and (first, after) != (reached, reached + 1):
                return [AnswerCheck(f"{label} from {start} to {end} is not the word {reached + 1}", 0.0, bound)]
            begins = (f"B-{label}",) if kind == label and first == reached else (f"B-{label}", f"I-{label}")
            of_words = [begins, *[(f"I-{label}",)] * (after - first - 1)] if self.merges else [(label,)]
            if any(set(self.labels).isdisjoint(x) for x in of_words):
                return [AnswerCheck(f"there is no {label} among the model's labels", 0.0, bound)]
            possible[first:after] = of_words
            mean = np.mean([self._chance(chances[x], possible[x]) for x in range(first, after)])
            checked.append(
                AnswerCheck.of(f"the score of {label} from {start} to {end}", abs(float(mean - score)), bound)
            )
            reached, kind = after, label
        if len(possible) != len(spans):
            return [AnswerCheck(f"there are {len(possible)} words, not {len(spans)}", 0.0, bound)]
        for word, labels in enumerate(possible):
            short = float(chances[word].max() - self._chance(chances[word], labels))
            checked.append(AnswerCheck.of(f"the probability of {labels[0]} for the word {word + 1}", short, bound))
        return checked

    def _chance(self, chances: Array, labels: tuple[str, ...]) -> float:
        """Return the largest probability among labels, as far as the model has them."""
        return max((float(chances[self.labels.index(x)]) for x in labels if x in self.labels), default=-np.inf)


@dataclass(frozen=True)
class AnswerText:
    """One question's context: where its tokens are, and the reference's logits, (tokens,) each."""

    places: Places
    start: Array
    end: Array


@dataclass(frozen=True)
class ExpectedAnswers(Expected):
    """Answers to questions."""

    texts: tuple[AnswerText, ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The answer, its score, and where it is."""
        return ("answer", "score", "start", "end")

    def check(self, found: Found, tolerance: Tolerance) -> AnswerCheck:
        """Check each answer."""
        arrays = [found[name] for name in self.outputs]
        for name, array in zip(self.outputs, arrays, strict=True):
            if array is None or array.shape != (len(self.texts), 1):
                return AnswerCheck(wrong_shape(name, array, (len(self.texts), 1)), 0.0, 0.0)
        answers, *numbers = (x[:, 0].tolist() for x in arrays if x is not None)
        rows = zip(self.texts, answers, *numbers, strict=True)
        return worst_of([_check_answer(text, bytes(answer), tuple(row), tolerance) for text, answer, *row in rows])


def _check_answer(text: AnswerText, answer: bytes, place: tuple[float, int, int], tolerance: Tolerance) -> AnswerCheck:
    """Check an answer, given with its score, start and end."""
    score, start, end = place
    places, bound = text.places, max(tolerance.bound(text.start), tolerance.bound(text.end))
    if not places.tokens:
        right = (answer, start, end) == (b"", -1, -1)
        return AnswerCheck(None if right else "there is an answer without a context", 0.0, bound)
    if answer.decode() != places.text[start:end]:
        return AnswerCheck(f"the answer is not what stands from {start} to {end}", 0.0, bound)
    tokens = np.array(places.tokens)
    sums = text.start[tokens][:, None].astype(np.float64) + text.end[tokens][None, :]
    sums[~np.triu(np.tri(len(tokens), k=LONGEST_ANSWER_TOKENS - 1, dtype=bool))] = -np.inf
    meant = np.outer([x[0] == start for x in places.spans], [x[1] == end for x in places.spans])
    if not np.isfinite(sums[meant]).any():
        return AnswerCheck(f"no {LONGEST_ANSWER_TOKENS} tokens of the context go from {start} to {end}", 0.0, bound)
    first, last = np.unravel_index(np.where(meant, sums, -np.inf).argmax(), sums.shape)
    counted = np.append(tokens, 0)  # the first token says that there is no answer
    chance = (
        softmax(text.start[counted].astype(np.float64))[first] * softmax(text.end[counted].astype(np.float64))[last]
    )
    short = float(sums.max() - sums[first, last])
    return worst_of(
        [
            AnswerCheck.of("the score of the answer", abs(float(chance - score)), bound),
            AnswerCheck.of("the sum of the answer's logits", short, 4 * bound),  # two logits of two answers
        ]
    )


def wrong_shape(name: str, values: Array | None, expected: tuple[object, ...]) -> str:
    """Say that an output has another shape."""
    shape = None if values is None else values.shape
    hint = "" if shape and 0 not in shape else " (with numpy 2 some servers' Python backends give nothing)"
    return f"{name} has the shape {shape}, not {expected}{hint}"


def _by_label(scores: Array, names: Array | None, labels: tuple[str, ...]) -> Array | None:
    """Return scores in the order of the labels; None where they are not those, or not the best first."""
    if names is None or names.shape != scores.shape or (np.diff(scores, axis=-1) > 0).any():
        return None
    texts = [[bytes(name).decode() for name in row] for row in names]
    if any(sorted(row) != sorted(labels) for row in texts):
        return None
    return np.array([[row[names.index(label)] for label in labels] for row, names in zip(scores, texts, strict=True)])
