"""From an encoder's outputs to answers, inside Triton's Python backend; needs numpy.

Labels come with scores, the best first: the softmax of a single-label classifier, the sigmoid of a multi-label one.
Embeddings come with length 1.
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
        self._input = config["input"][0]["name"]
        self._activation = parameters["activation"]
        self._labels = np.array([label.encode() for label in json.loads(parameters["labels"])], dtype=np.object_)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request."""
        values = [pb_utils.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        return [pb_utils.InferenceResponse(self._answer(value.astype(np.float32))) for value in values]

    def _answer(self, values: Any) -> list[Any]:
        if self._activation == "normalise":
            length = np.linalg.norm(values, axis=-1, keepdims=True)
            return [pb_utils.Tensor("embedding", values / np.maximum(length, 1e-12))]
        if self._activation == "softmax":
            powers = np.exp(values - values.max(axis=-1, keepdims=True))
            scores = powers / powers.sum(axis=-1, keepdims=True)
        else:
            scores = 0.5 * (1 + np.tanh(0.5 * values))  # the sigmoid, without overflow
        order = np.argsort(-scores, axis=-1, kind="stable")
        best = np.ascontiguousarray(np.take_along_axis(scores, order, axis=-1))
        return [pb_utils.Tensor("labels", self._labels[order]), pb_utils.Tensor("scores", best)]
