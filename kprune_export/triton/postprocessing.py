"""Postprocessing of an encoder's outputs on a server: one class for each activation of `TextServing`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from exporters.runners.base import Array
from kprune_export.evaluation.serving import Activation
from kprune_export.triton.answers import (
    AnswerText,
    Expected,
    ExpectedAnswers,
    ExpectedEntities,
    ExpectedValues,
    TokenText,
)
from kprune_export.triton.instance_groups import Places
from kprune_export.triton.tensors import STRING, ServedTensor

TOKEN_PLACES = (
    ServedTensor(name="spans", dtype="int32", dims=(-1, 2)),
    ServedTensor(name="words", dtype="int32", dims=(-1,)),
)
"""The tokenizer's outputs that say where in a text each token is, and to which word it belongs."""


class Postprocessing(ABC):
    """One way to turn an encoder's outputs into answers.

    Attributes:
        model_file: the file in ``models/`` that does it on the server; None where outputs are the answers.
        places: the outputs of the tokenizer that it reads.
        reads_text: whether it reads the second text of a pair itself.

    """

    model_file: ClassVar[str | None] = "answers.py"
    places: ClassVar[tuple[ServedTensor, ...]] = ()
    reads_text: ClassVar[bool] = False

    @abstractmethod
    def outputs(self, encoder: Sequence[ServedTensor]) -> tuple[ServedTensor, ...]:
        """Return what clients get, for an encoder with these outputs."""

    @abstractmethod
    def expected(
        self, values: Sequence[Mapping[str, Array]], places: Sequence[Places], labels: tuple[str, ...]
    ) -> Expected:
        """Return what has to come back for texts.

        Args:
            values: the encoder's outputs by name for each text, (1, …).
            places: where the tokens of each text are.
            labels: the model's labels, in order.

        """


class Unchanged(Postprocessing):
    """Scores as they are."""

    model_file = None

    def outputs(self, encoder: Sequence[ServedTensor]) -> tuple[ServedTensor, ...]:
        """Return ``scores``, of the encoder's shape and type."""
        (output,) = encoder
        return (output.model_copy(update={"name": "scores"}),)

    def expected(
        self,
        values: Sequence[Mapping[str, Array]],
        places: Sequence[Places],  # noqa: ARG002 - as declared
        labels: tuple[str, ...],  # noqa: ARG002 - as declared
    ) -> Expected:
        """Return the encoder's own output."""
        return ExpectedValues({"scores": _joined(values)})


class UnitVector(Postprocessing):
    """A vector of length 1."""

    def outputs(self, encoder: Sequence[ServedTensor]) -> tuple[ServedTensor, ...]:
        """Return ``embedding``, (texts, d)."""
        (output,) = encoder
        return (output.model_copy(update={"name": "embedding", "dtype": "float32"}),)

    def expected(
        self,
        values: Sequence[Mapping[str, Array]],
        places: Sequence[Places],  # noqa: ARG002 - as declared
        labels: tuple[str, ...],  # noqa: ARG002 - as declared
    ) -> Expected:
        """Return the output divided by its length."""
        wide = _joined(values).astype(np.float64)
        lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
        return ExpectedValues({"embedding": wide / np.maximum(lengths, 1e-12)})


class LabelScores(Postprocessing):
    """Labels with their scores, the best first."""

    @abstractmethod
    def scores(self, logits: NDArray[np.float64]) -> Array:
        """Return the scores of logits, (texts, labels)."""

    def outputs(self, encoder: Sequence[ServedTensor]) -> tuple[ServedTensor, ...]:
        """Return ``labels`` and ``scores``, (texts, labels)."""
        (output,) = encoder
        fields = (("labels", STRING), ("scores", "float32"))
        return tuple(ServedTensor(name=name, dtype=dtype, dims=output.dims) for name, dtype in fields)

    def expected(
        self,
        values: Sequence[Mapping[str, Array]],
        places: Sequence[Places],  # noqa: ARG002 - as declared
        labels: tuple[str, ...],
    ) -> Expected:
        """Return the scores in the order of the labels."""
        return ExpectedValues({"scores": self.scores(_joined(values).astype(np.float64))}, labels)


class ClassScores(LabelScores):
    """The probabilities of classes that exclude each other."""

    def scores(self, logits: NDArray[np.float64]) -> Array:
        """Return the softmax."""
        scores: Array = softmax(logits, axis=-1)
        return scores


class IndependentScores(LabelScores):
    """The probabilities of labels that are on or off independently."""

    def scores(self, logits: NDArray[np.float64]) -> Array:
        """Return the sigmoid."""
        scores: Array = expit(logits)
        return scores


class LabelledWords(Postprocessing):
    """The words of a text with their labels and places."""

    model_file = "entities.py"
    places = TOKEN_PLACES
    merges: ClassVar[bool] = False
    """Whether words are put together to the entities that BIO labels mark."""

    def outputs(self, encoder: Sequence[ServedTensor]) -> tuple[ServedTensor, ...]:  # noqa: ARG002 - as declared
        """Return ``labels``, ``scores``, ``starts`` and ``ends``, (texts, items) each."""
        fields = (("labels", STRING), ("scores", "float32"), ("starts", "int32"), ("ends", "int32"))
        return tuple(ServedTensor(name=name, dtype=dtype, dims=(-1,)) for name, dtype in fields)

    def expected(
        self, values: Sequence[Mapping[str, Array]], places: Sequence[Places], labels: tuple[str, ...]
    ) -> Expected:
        """Return each text's logits with the places of its tokens."""
        pairs = zip(places, values, strict=True)
        tokens = tuple(TokenText(place, _first(outputs)[0]) for place, outputs in pairs)
        return ExpectedEntities(tokens, labels, merges=self.merges)


class Entities(LabelledWords):
    """The entities of a text with their types and places."""

    merges = True


class AnswerInContext(Postprocessing):
    """The answer to a question: a span of the context."""

    model_file = "spans.py"
    places = TOKEN_PLACES
    reads_text = True

    def outputs(self, encoder: Sequence[ServedTensor]) -> tuple[ServedTensor, ...]:  # noqa: ARG002 - as declared
        """Return ``answer``, ``score``, ``start`` and ``end``, (texts, 1) each."""
        fields = (("answer", STRING), ("score", "float32"), ("start", "int32"), ("end", "int32"))
        return tuple(ServedTensor(name=name, dtype=dtype, dims=(1,)) for name, dtype in fields)

    def expected(
        self,
        values: Sequence[Mapping[str, Array]],
        places: Sequence[Places],
        labels: tuple[str, ...],  # noqa: ARG002 - as declared
    ) -> Expected:
        """Return the logits of both ends of an answer in each text, with the places of its tokens."""
        both = zip(places, values, strict=True)
        return ExpectedAnswers(tuple(AnswerText(x, y["start_logits"][0], y["end_logits"][0]) for x, y in both))


POSTPROCESSINGS: dict[Activation, Postprocessing] = {
    "softmax": ClassScores(),
    "sigmoid": IndependentScores(),
    "normalise": UnitVector(),
    "none": Unchanged(),
    "entities": Entities(),
    "words": LabelledWords(),
    "span": AnswerInContext(),
}


def _first(outputs: Mapping[str, Array]) -> Array:
    """Return the first output of an encoder; those that this is called for have no other."""
    return next(iter(outputs.values()))


def _joined(values: Sequence[Mapping[str, Array]]) -> Array:
    """Return the outputs of all texts as one array."""
    return np.concatenate([_first(outputs) for outputs in values])
