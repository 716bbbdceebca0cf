"""From a token classifier's logits to labelled spans of the text, inside Triton's Python backend; needs numpy.

A word has the label of its first token, as such models are trained. Where the labels are BIO's, words of one entity are
put together and those outside are left out: an entity begins at a B, and at an I that none of its type precedes. Its
score is the mean of its words' probabilities. A text's rows are filled up with empty labels and -1.
"""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Triton makes one for each instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read what the outputs mean."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        self._labels = json.loads(parameters["labels"])
        self._merges = parameters["activation"] == "entities"

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request."""
        responses = []
        for request in requests:
            logits, spans, words = (
                pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("logits", "spans", "words")
            )
            texts = [self._items(*text) for text in zip(logits.astype(np.float32), spans, words)]  # noqa: B905
            responses.append(pb_utils.InferenceResponse(_tensors(texts)))
        return responses

    def _items(self, logits: Any, spans: Any, words: Any) -> list[tuple[str, float, int, int]]:
        """Return label, score, start and end of each word or entity of a text."""
        tokens = np.flatnonzero(words >= 0)
        begins = np.flatnonzero(np.diff(words[tokens], prepend=-1))
        first, last = tokens[begins], tokens[np.append(begins[1:], len(tokens)) - 1] if len(tokens) else tokens
        powers = np.exp(logits[first] - logits[first].max(axis=-1, keepdims=True))
        scores = powers / powers.sum(axis=-1, keepdims=True)
        found: list[tuple[str, list[float], int, int]] = []
        before = ""
        for place, best in enumerate(scores.argmax(axis=-1)):
            mark, _, kind = self._labels[best].partition("-")
            score, start, end = float(scores[place, best]), int(spans[first[place], 0]), int(spans[last[place], 1])
            if not self._merges:
                found.append((self._labels[best], [score], start, end))
            elif mark == "I" and kind == before:
                label, inside, start, _ = found.pop()
                found.append((label, [*inside, score], start, end))
            elif kind:
                found.append((kind, [score], start, end))
            before = kind
        return [(label, sum(inside) / len(inside), start, end) for label, inside, start, end in found]


def _tensors(texts: list[list[tuple[str, float, int, int]]]) -> list[Any]:
    width = max(1, *(len(items) for items in texts))
    empty = ("", 0.0, -1, -1)
    rows = [[*items, *[empty] * (width - len(items))] for items in texts]
    labels = np.array([[item[0].encode() for item in items] for items in rows], dtype=np.object_)
    scores = np.array([[item[1] for item in items] for items in rows], dtype=np.float32)
    starts, ends = (np.array([[item[field] for item in items] for items in rows], dtype=np.int32) for field in (2, 3))
    arrays = {"labels": labels, "scores": scores, "starts": starts, "ends": ends}
    return [pb_utils.Tensor(name, array) for name, array in arrays.items()]
