"""From the logits of a question-answering model to the answer, inside Triton's Python backend; needs numpy.

The answer is the span of at most 30 tokens of the context whose start and end have the largest sum. Its score is the
product of both probabilities among the context's tokens and the first token, by which models say that there is none.
"""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

LONGEST_TOKENS = 30


class TritonPythonModel:
    """Triton makes one for each instance."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request."""
        names = ("start_logits", "end_logits", "spans", "words", "context")
        responses = []
        for request in requests:
            columns = [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in names]
            rows = [_answer(*text) for text in zip(*columns)]  # noqa: B905 - they have the same batch
            arrays = {
                "answer": np.array([[row[0].encode()] for row in rows], dtype=np.object_),
                "score": np.array([[row[1]] for row in rows], dtype=np.float32),
                "start": np.array([[row[2]] for row in rows], dtype=np.int32),
                "end": np.array([[row[3]] for row in rows], dtype=np.int32),
            }
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor(name, x) for name, x in arrays.items()]))
        return responses


def _answer(starts: Any, ends: Any, spans: Any, words: Any, context: Any) -> tuple[str, float, int, int]:
    """Return answer, score, start and end; an empty answer and -1 where no token of the context was left."""
    inside = np.flatnonzero(words >= 0)
    if not len(inside):
        return "", 0.0, -1, -1
    starts, ends = (x.astype(np.float32) for x in (starts, ends))
    best, first, last = -np.inf, 0, 0
    for further in range(min(LONGEST_TOKENS, len(inside))):
        sums = starts[inside[: len(inside) - further]] + ends[inside[further:]]
        place = int(sums.argmax())
        if sums[place] > best:
            best, first, last = sums[place], inside[place], inside[place + further]
    start, end = int(spans[first, 0]), int(spans[last, 1])
    places = np.append(inside, 0)
    score = _share(starts, first, places) * _share(ends, last, places)
    return bytes(context[0]).decode()[start:end], score, start, end


def _share(logits: Any, place: int, places: Any) -> float:
    highest = logits[places].max()
    return float(np.exp(logits[place] - highest) / np.exp(logits[places] - highest).sum())
