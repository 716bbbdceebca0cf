"""Serving of texts: how outputs become a task's answers."""

from dataclasses import dataclass
from typing import Literal

Activation = Literal["softmax", "sigmoid", "normalise", "none", "entities", "words", "span"]
"""What is computed from an encoder's outputs: the scores of labels, a vector of length 1, nothing; labelled entities or
words of the text; the answer to a question."""


@dataclass(frozen=True)
class TextServing:
    """Texts in, answers out.

    Attributes:
        activation: what is computed from the encoder's outputs.
        single: the names of the inputs where clients send single texts; None where the task reads only pairs.
        pair: the names of the inputs where clients send pairs; None where the task reads one text at a time.

    """

    activation: Activation
    single: tuple[str, ...] | None = ("text",)
    pair: tuple[str, ...] | None = ("text", "text_pair")

    def inputs(self, pairs: bool) -> tuple[str, ...]:
        """Return the names of the inputs.

        Args:
            pairs: whether clients are to send pairs; a task on pairs reads them in any case.

        Raises:
            ValueError: the task reads one text at a time.

        """
        names = self.pair if pairs or self.single is None else self.single
        if names is None:
            raise ValueError("the task reads one text at a time")
        return names
