"""A checkpoint's tokenizer, inside Triton's Python backend: texts in, token ids out, padded on the right.

Of a text, only as many characters are read as its tokens can need: one of megabytes takes no longer than another.

Where the answers are spans of a text, it returns which characters each token covers, without spaces, and the number
of its word; -1 for tokens that belong to none. A word is one of the tokenizer's, split at punctuation and symbols.

Needs numpy and tokenizers where the server's Python finds them.
https://huggingface.co/docs/tokenizers/api/tokenizer
"""

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import triton_python_backend_utils as pb_utils

CHARACTERS_PER_TOKEN = 64
"""Characters that are read for each token of the longest sequence; in prose a token has about five."""
FEWEST_CHARACTERS = 4096
"""Characters that are read in any case."""


class TritonPythonModel:
    """Triton makes one for each instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the tokenizer beside this file."""
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        self._pad_token_id, self._shortest = int(parameters["pad_token_id"]), int(parameters["min_tokens"])
        self._sequence = int(parameters["sequence"])
        path = Path(args["model_repository"]) / args["model_version"] / "tokenizer.json"
        self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        longest = int(parameters["max_tokens"])
        self._tokenizer.enable_truncation(longest)
        self._characters = max(FEWEST_CHARACTERS, CHARACTERS_PER_TOKEN * longest)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request by itself, so that short texts are not padded to another request's length."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        columns = [pb_utils.get_input_tensor_by_name(request, name).as_numpy()[:, 0] for name in self._inputs]
        try:
            texts = [[bytes(text).decode()[: self._characters] for text in column] for column in columns]
        except UnicodeDecodeError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"A text is not UTF-8: {error}."))
        pairs = list(zip(*texts, strict=True))
        encoded = self._tokenizer.encode_batch(pairs if len(texts) == 2 else texts[0])
        tokens = max(self._shortest, *(len(one.ids) for one in encoded))
        arrays = {
            "input_ids": _padded([one.ids for one in encoded], tokens, self._pad_token_id),
            "attention_mask": _padded([one.attention_mask for one in encoded], tokens, 0),
            "token_type_ids": _padded([one.type_ids for one in encoded], tokens, 0),
        }
        if "words" in self._outputs:
            arrays |= _places(encoded, texts[self._sequence], self._sequence, tokens)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, arrays[name]) for name in self._outputs])


def _places(encoded: list[Any], texts: list[str], sequence: int, tokens: int) -> dict[str, Any]:
    spans = np.zeros((len(texts), tokens, 2), dtype=np.int32)
    words = np.full((len(texts), tokens), -1, dtype=np.int32)
    for row, (one, text) in enumerate(zip(encoded, texts, strict=True)):
        number, before, reached = -1, None, 0
        for place, (start, end) in enumerate(one.offsets):
            covered = text[start:end]
            if one.sequence_ids[place] != sequence or not covered.strip():
                continue
            start += len(covered) - len(covered.lstrip())
            end = start + len(covered.strip())
            goes_on = one.word_ids[place] == before and (start < reached or not _parts(text[start - 1 : start + 1]))
            number += not goes_on
            before, reached = one.word_ids[place], end
            spans[row, place], words[row, place] = (start, end), number
    return {"spans": spans, "words": words}


def _parts(characters: str) -> bool:
    return any(unicodedata.category(character)[0] in "PS" for character in characters)


def _padded(rows: list[list[int]], tokens: int, value: int) -> Any:
    return np.array([row + [value] * (tokens - len(row)) for row in rows], dtype=np.int64)
