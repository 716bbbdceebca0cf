"""Record of a repository: written beside its models, and read when it is checked or replaced."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from exporters.documents import Document, Record
from exporters.parity.check import Tolerance
from exporters.spec import Shape
from kprune_export.bundle.layout import REPOSITORY_RECORD
from kprune_export.bundle.manifest import FileRecord
from kprune_export.errors import BundleError
from kprune_export.evaluation.serving import Activation
from kprune_export.triton.tensors import ServedTensor

MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
"""What can name a model."""

Backend = Literal["python", "onnxruntime", "tensorrt"]


class MachineConfig(Record):
    """How an encoder is served on a machine that it was timed on, where that differs from elsewhere.

    Attributes:
        name: of the configuration, ``--model-config-name``.
        machine: in words.
        preferred, delay_us, instances, threads, warmup, reasons: as those of `EncoderRecord`.

    """

    name: str
    machine: str
    preferred: tuple[int, ...]
    delay_us: int | None
    instances: int
    threads: int
    warmup: tuple[str, ...]
    reasons: tuple[str, ...]


class EncoderRecord(Record):
    """A served encoder.

    Attributes:
        name: the model's name.
        variant: the bundle's variant.
        backend: what runs it.
        file: the artefact, in the version's folder.
        inputs: its inputs, in order.
        outputs: its outputs, in order.
        max_batch: texts in the largest batch.
        min_tokens: the shortest sequence that it takes.
        max_tokens: the longest.
        preferred: the batch sizes that requests are merged to.
        delay_us: how long a request waits for others, in microseconds; None where requests are not merged.
        instances: how many copies run, on the machine or on each GPU.
        gpu: whether they run on GPUs.
        threads: threads of each copy on the CPU; 0 for the runtime's own choice.
        profiles: the engine's optimization profiles.
        warmup: the shapes that the server runs before it is ready.
        tolerance: how far its values may be off those of torch.
        reasons: why it is served so.
        configs: for the machines that it was timed on.

    """

    name: str
    variant: str
    backend: Backend
    file: str
    inputs: tuple[ServedTensor, ...]
    outputs: tuple[ServedTensor, ...]
    max_batch: int
    min_tokens: int
    max_tokens: int
    preferred: tuple[int, ...]
    delay_us: int | None
    instances: int
    gpu: bool
    threads: int
    profiles: tuple[str, ...]
    warmup: tuple[str, ...]
    tolerance: Tolerance
    reasons: tuple[str, ...]
    configs: tuple[MachineConfig, ...] = ()

    def on(self, machine: MachineConfig) -> "EncoderRecord":
        """Return the encoder as it is served on a machine."""
        return self.model_copy(update=machine.model_dump(exclude={"name", "machine"}))

    @property
    def warmup_shapes(self) -> tuple[Shape, ...]:
        """The shapes to warm up with."""
        return tuple(Shape.parse(text) for text in self.warmup)


class TextRecord(Record):
    """What clients send texts to: a tokenizer, each encoder, and what makes answers of its outputs.

    Attributes:
        ensembles: by the encoders' names, the models that clients call.
        tokenizer: the tokenizer's name.
        answers: the name of the model that makes the answers; None where the encoder's output is the answer.
        inputs: what clients send.
        outputs: what they get.
        activation: what becomes of the encoder's output.
        max_batch: texts in a request.
        min_tokens: shorter texts are padded to this.
        max_tokens: longer ones are cut to this.
        places: where the tokenizer says that tokens are in a text, where answers are spans of it.
        read: the names of the inputs that answers are taken from.

    """

    ensembles: dict[str, str]
    tokenizer: str
    answers: str | None
    inputs: tuple[ServedTensor, ...]
    outputs: tuple[ServedTensor, ...]
    activation: Activation
    max_batch: int
    min_tokens: int
    max_tokens: int
    places: tuple[ServedTensor, ...] = ()
    read: tuple[str, ...] = ()


class RepositoryRecord(Document):
    """A repository.

    Attributes:
        task: what the model is for.
        labels: a classifier's labels, in order.
        verdict: the bundle's, when it was made.
        plan_sha256: the hash of the pruning plan.
        vocabulary: token ids are below this.
        token_types: token type ids are below this.
        pad_token_id: the id of padding.
        encoders: the encoders that are served.
        text: what clients send texts to; None where there is nothing of that.
        files: all files but this one.

    """

    noun, error = "record of a Triton repository", BundleError
    format: Literal["kprune-triton"] = "kprune-triton"
    version: Literal[1] = 1
    task: str
    labels: tuple[str, ...]
    verdict: str | None
    plan_sha256: str | None
    vocabulary: int
    token_types: int
    pad_token_id: int
    encoders: tuple[EncoderRecord, ...]
    text: TextRecord | None
    files: tuple[FileRecord, ...]

    @model_validator(mode="after")
    def _has_folders_for_models(self) -> Self:
        for name in self.models:
            if not re.fullmatch(MODEL_NAME, name):
                raise ValueError(f"{name!r} cannot name a model, whose folder is in the repository")
        return self

    @property
    def models(self) -> tuple[str, ...]:
        """The names of all models, which are those of the folders."""
        names = [encoder.name for encoder in self.encoders]
        if self.text:
            names += [self.text.tokenizer, *([self.text.answers] if self.text.answers else [])]
            names += self.text.ensembles.values()
        return tuple(names)

    @classmethod
    def of_repository(cls, repository: Path) -> Self:
        """Read a repository's record.

        Raises:
            BundleError: there is none, or it is not valid.

        """
        path = repository / REPOSITORY_RECORD
        if not path.is_file():
            raise BundleError(
                f"{repository} is not a finished repository of this program: it has no {REPOSITORY_RECORD}: make one "
                "with kprune-export triton."
            )
        return cls.read(path)
