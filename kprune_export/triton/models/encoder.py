"""An encoder in ONNX Runtime, inside Triton's Python backend.

Requests that Triton hands over together may differ in length: they are padded, run as one batch, and split again.
One with more tokens than the model reads is refused: its memory would grow with their square.
Needs numpy and onnxruntime where the server's Python finds them.
https://github.com/triton-inference-server/python_backend
"""

import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before it is loaded

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Triton makes one for each instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the session; a provider that does not start is an error."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        self._pad = {"input_ids": int(parameters["pad_token_id"])}
        self._shortest, self._longest = int(parameters["min_tokens"]), int(parameters["max_tokens"])
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        self._per_token = [len(tensor["dims"]) > 0 and int(tensor["dims"][0]) == -1 for tensor in config["output"]]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"])
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # instances share the processors
        provider = parameters["provider"]
        chosen: dict[str, Any] = {}
        if provider == "CUDAExecutionProvider":
            chosen = {"device_id": args["model_instance_device_id"], "use_tf32": "0"}
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = onnxruntime.InferenceSession(str(path), options, providers=[(provider, chosen)])
        if self._session.get_providers()[0] != provider:
            raise pb_utils.TritonModelException(f"ONNX Runtime could not start {provider}.")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests: together, or, where that fails, each by itself, so that one does not fail the others."""
        feeds = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            for request in requests
        ]
        problems = [self._problem(one) for one in feeds]
        sound = [one for one, problem in zip(feeds, problems, strict=True) if problem is None]
        try:
            answers = iter(self._run(sound) if sound else [])
        except Exception:
            answers = iter([self._alone(one) for one in sound])
        return [next(answers) if problem is None else _refusal(problem) for problem in problems]

    def _problem(self, feeds: dict[str, Any]) -> Any:
        """Say why a request cannot be answered; None where it can be tried."""
        shapes = {array.shape for array in feeds.values()}
        if len(shapes) > 1:
            return f"The inputs differ in their shapes: {', '.join(map(str, sorted(shapes)))}."
        tokens = feeds["input_ids"].shape[1]
        if not self._shortest <= tokens <= self._longest:
            return f"The model reads {self._shortest} to {self._longest} tokens, but {tokens} were sent."
        return None

    def _alone(self, feeds: dict[str, Any]) -> Any:
        try:
            return self._run([feeds])[0]
        except Exception as error:
            return _refusal(str(error))

    def _run(self, feeds: list[dict[str, Any]]) -> list[Any]:
        longest = max(one["input_ids"].shape[1] for one in feeds)
        joined = {
            name: np.concatenate([_padded(one[name], longest, self._pad.get(name, 0)) for one in feeds])
            for name in self._inputs
        }
        values = self._session.run(self._outputs, joined)
        responses, start = [], 0
        for one in feeds:
            rows, tokens = one["input_ids"].shape
            tensors = []
            for name, value, per_token in zip(self._outputs, values, self._per_token, strict=True):
                part = value[start : start + rows]
                tensors.append(pb_utils.Tensor(name, np.ascontiguousarray(part[:, :tokens] if per_token else part)))
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
            start += rows
        return responses


def _refusal(problem: str) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(problem))


def _padded(array: Any, tokens: int, value: int) -> Any:
    return np.pad(array, ((0, 0), (0, tokens - array.shape[1])), constant_values=value)
