"""The requests of a check, of mixed lengths, and what has to come back."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exporters.inputs import Padding, synthetic_inputs
from exporters.runners.base import Array, Runner
from exporters.runners.onnxruntime_runner import OnnxRuntimeRunner
from exporters.runners.torch_runner import TorchRunner
from exporters.spec import ModelSpec, Shape
from kprune_export.bundle.layout import CHECKPOINT
from kprune_export.errors import BundleError
from kprune_export.model_export import model_spec
from kprune_export.triton.answers import Expected, ExpectedValues
from kprune_export.triton.config import VERSION
from kprune_export.triton.encoders import GRAPH_FILE
from kprune_export.triton.instance_groups import NOWHERE, Places, places_of
from kprune_export.triton.postprocessing import POSTPROCESSINGS
from kprune_export.triton.repository_record import EncoderRecord, RepositoryRecord, TextRecord
from kprune_export.triton.tensors import per_token
from kprune_export.triton.text import TOKENIZER, read_tokenizer
from pruning.calibration.batches import encode
from pruning.calibration.examples import Example
from pruning.checkpoint.load import EncoderCheckpoint, load_checkpoint
from pruning.serving import ServingModule

LONGEST = 256
"""Tokens in the longest sequence that is sent, where a model reads longer ones."""
LARGEST = 8
"""Texts in the largest request, where a model takes more."""


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        inputs: what is sent.
        expected: what has to come back.
        texts: texts in it.

    """

    inputs: Mapping[str, Array]
    expected: Expected
    texts: int


@dataclass(frozen=True)
class ReadText:
    """A text, or a pair, as a model reads it.

    Attributes:
        inputs: the model's inputs, (1, tokens) each.
        places: where the tokens of the text, or of the second one of a pair, are.

    """

    inputs: Mapping[str, Array]
    places: Places


class Reference:
    """The pruned model in torch, where its bundle is given; else the served ONNX file in ONNX Runtime.

    Raises:
        BundleError: the bundle is of another model, or there is neither a bundle nor an ONNX file.

    """

    def __init__(self, repository: Path, record: RepositoryRecord, bundle: Path | None) -> None:
        self._repository, self._record = repository, record
        self._checkpoint: EncoderCheckpoint | None = None
        self.name = "the served file in ONNX Runtime"
        if bundle is not None:
            self._checkpoint = load_checkpoint(bundle / CHECKPOINT)
            plan = self._checkpoint.plan
            if plan is None or plan.sha256 != record.plan_sha256:
                raise BundleError(f"{repository} was not made from {bundle}: they hold differently pruned models.")
            self.name = "the pruned checkpoint in torch"

    def runner(self, encoder: EncoderRecord) -> Runner:
        """Return what gives an encoder's outputs here."""
        if self._checkpoint is not None:
            return TorchRunner(ServingModule(self._checkpoint).eval(), model_spec(self._checkpoint, {}))
        path = self._repository / encoder.name / VERSION / GRAPH_FILE
        if encoder.backend == "tensorrt":
            raise BundleError(f"{encoder.name} is an engine, which needs its bundle to compare with: give --bundle.")
        return OnnxRuntimeRunner(path)

    def read(self, example: Example, text: TextRecord) -> ReadText:
        """Return what one text is to a model: as transformers reads it where there is a bundle."""
        answered, sequence = (example.text, 0) if example.pair is None else (example.pair, 1)
        if self._checkpoint is not None:
            encoded = encode(self._checkpoint.tokenizer, [example], text.max_tokens)
            columns = {name: encoded[name][0] for name in self._checkpoint.inputs}
            found = encoded.encodings[0]
        else:
            path = self._repository / text.tokenizer / VERSION / TOKENIZER
            found = read_tokenizer(path, text.max_tokens).encode(example.text, example.pair)
            every = {"input_ids": found.ids, "attention_mask": found.attention_mask, "token_type_ids": found.type_ids}
            columns = {x.name: every[x.name] for x in self._record.encoders[0].inputs}
        inputs = {name: np.asarray([values], dtype=np.int64) for name, values in columns.items()}
        return ReadText(inputs, places_of(found, answered, sequence) if text.places else NOWHERE)


def input_spec(record: RepositoryRecord, encoder: EncoderRecord) -> ModelSpec:
    """Return what an encoder of a repository may be sent."""
    return ModelSpec(
        inputs=tuple(x.name for x in encoder.inputs),
        outputs=(),
        max_positions=encoder.max_tokens,
        vocabulary=record.vocabulary,
        token_types=record.token_types,
        pad_token_id=record.pad_token_id,
        attention_layers=0,
    )


def encoder_requests(
    record: RepositoryRecord, encoder: EncoderRecord, reference: Reference, count: int, seed: int = 0
) -> list[Request]:
    """Make requests with token ids, of mixed batches and lengths, and what the reference gives for them."""
    spec = input_spec(record, encoder)
    chance = random.Random(seed)  # noqa: S311 - a sample, not a secret
    shapes = [
        Shape(
            chance.randint(1, min(LARGEST, encoder.max_batch)),
            chance.randint(encoder.min_tokens, min(LONGEST, encoder.max_tokens)),
        )
        for _ in range(count)
    ]
    with reference.runner(encoder) as runner:
        requests = []
        for number, shape in enumerate(shapes):
            inputs = synthetic_inputs(spec, shape, Padding.RIGHT, seed + number)
            mask = inputs["attention_mask"] if all(map(per_token, encoder.outputs)) else None
            requests.append(Request(inputs, ExpectedValues(runner.run(inputs), mask=mask), shape.batch))
        return requests


def text_requests(
    record: RepositoryRecord,
    encoder: EncoderRecord,
    reference: Reference,
    examples: Sequence[Example],
    count: int,
    seed: int = 0,
) -> list[Request]:
    """Make requests with texts, and the answers to them; each text runs alone in the reference.

    Raises:
        BundleError: the repository takes no texts.

    """
    text = record.text
    if text is None:
        raise BundleError("The repository has no model that takes texts.")
    chance = random.Random(seed)  # noqa: S311 - as above
    pairs = len(text.inputs) == 2
    postprocessing = POSTPROCESSINGS[text.activation]
    requests = []
    with reference.runner(encoder) as runner:
        for _ in range(count):
            picked = chance.choices(examples, k=chance.randint(1, min(LARGEST, text.max_batch)))
            asked = [Example(x.text, (x.pair or chance.choice(examples).text) if pairs else None) for x in picked]
            read = [reference.read(x, text) for x in asked]
            values = [runner.run(x.inputs) for x in read]
            columns: list[list[str | None]] = [[x.text for x in asked], [x.pair for x in asked]]
            inputs = {
                tensor.name: np.array([[str(x).encode()] for x in column], dtype=np.object_)
                for tensor, column in zip(text.inputs, columns, strict=False)
            }
            expected = postprocessing.expected(values, [x.places for x in read], record.labels)
            requests.append(Request(inputs, expected, len(asked)))
    return requests
