"""Purpose of a checkpoint: from its files and, where these leave it open, from what the user chose."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from pruning.checkpoint.source import POOLING_KEY, CheckpointFolder
from pruning.errors import CheckpointError, UnsupportedModelError
from pruning.heads import ModelHead, PoolerHead, TokenHead
from pruning.pooling import SentenceHead, read_sentence_head
from pruning.tasks import (
    AnswerSpan,
    MaskedLanguageModelling,
    MultiLabel,
    Regression,
    Reranking,
    SentenceEmbedding,
    SingleLabel,
    Task,
    TokenFeatures,
    TokenLabels,
)

POOLINGS = ("mean", "cls", "pooler", "none")
"""What ``--pooling`` can choose for an encoder without a head."""
_CLASSIFIER = "ForSequenceClassification"
_SINGLE_LABEL = "single_label_classification"
_PRETRAINED = ("ForMaskedLM", "ForPreTraining")
"""Heads of pre-training, which are left out where ``--pooling`` asks for the encoder alone."""


def _text_task(config: Any) -> Task:
    labels = _labels(config)
    if config.problem_type == "multi_label_classification":
        return MultiLabel(labels)
    if config.problem_type == "regression":
        return Regression(labels)
    if config.problem_type not in (None, _SINGLE_LABEL):
        raise UnsupportedModelError(
            f"config.json says that problem_type is {config.problem_type!r}, which is none that transformers knows: "
            f"set {_SINGLE_LABEL}, multi_label_classification or regression, whichever the model was fine-tuned for."
        )
    if config.problem_type is None and len(labels) == 1:
        return Reranking(labels)
    return SingleLabel(labels)


def _span_task(config: Any) -> Task:
    if config.num_labels != 2:
        raise UnsupportedModelError(
            f"The checkpoint answers questions with {config.num_labels} numbers a token, where two are expected: how "
            "well the answer begins there, and how well it ends."
        )
    return AnswerSpan()


@dataclass(frozen=True)
class SupportedHead:
    """A kind of transformers' model classes that can be pruned.

    Attributes:
        mapping: the name of transformers' mapping from configurations to the classes.
        task: returns the task of a model with a configuration.

    """

    mapping: str
    task: Callable[[Any], Task]


HEADS: dict[str, SupportedHead] = {
    _CLASSIFIER: SupportedHead("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING", _text_task),
    "ForTokenClassification": SupportedHead(
        "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING", lambda config: TokenLabels(_labels(config))
    ),
    "ForQuestionAnswering": SupportedHead("MODEL_FOR_QUESTION_ANSWERING_MAPPING", _span_task),
    "ForMaskedLM": SupportedHead(
        "MODEL_FOR_MASKED_LM_MAPPING", lambda config: MaskedLanguageModelling(width=config.vocab_size)
    ),
}
"""The supported heads, by the endings of the names of their classes."""


@dataclass(frozen=True)
class Purpose:
    """What a checkpoint is for, known before its weights are loaded.

    Attributes:
        ending: the ending of its architecture's name, a key of the supported heads; empty for an encoder alone.
        pooling: what was chosen for an encoder that declares no pooling itself, out of `POOLINGS`.
        sentence_head: the pooling, where there is one.
        max_tokens: the length that texts are cut to, where the checkpoint declares one.

    """

    ending: str
    pooling: str | None = None
    sentence_head: SentenceHead | None = None
    max_tokens: int | None = None

    def task(self, config: Any) -> Task:
        """Return the task of a model with this configuration.

        Raises:
            UnsupportedModelError: its head has not the outputs that the task needs.

        """
        if self.ending:
            return HEADS[self.ending].task(config)
        if self.pooling == "none":
            return TokenFeatures(width=config.hidden_size)
        modes = 1 if self.sentence_head is None else len(self.sentence_head.modes)
        return SentenceEmbedding(width=modes * config.hidden_size)

    def head(self, model: Any) -> nn.Module:
        """Return what turns the top's hidden states of a model into its task's outputs.

        Raises:
            UnsupportedModelError: the model has no pooler, and was to be read by it.

        """
        if self.ending:
            return ModelHead(model, tuple(output.name for output in self.task(model.config).outputs))
        if self.pooling == "none":
            return TokenHead()
        return PoolerHead(model) if self.sentence_head is None else self.sentence_head


def find_purpose(folder: CheckpointFolder, pooling: str | None = None) -> Purpose:
    """Find out what a checkpoint is for.

    Args:
        folder: the checkpoint.
        pooling: what the user chose, out of `POOLINGS`; None for nothing. A pruned checkpoint remembers it.

    Raises:
        CheckpointError: a file is damaged, or the choice contradicts what the checkpoint declares.
        UnsupportedModelError: the task is not supported, or left open.

    """
    named = folder.architecture or folder.model_type
    remembered = folder.config.get(POOLING_KEY)
    if remembered is not None:
        if remembered not in POOLINGS or pooling not in (None, remembered):
            raise CheckpointError(
                f"The pruned checkpoint {folder.path} was made with --pooling {remembered}, which "
                f"{'is not known here' if remembered not in POOLINGS else f'--pooling {pooling} cannot change'}."
            )
        return _pooled(str(remembered))
    declared = None if folder.architecture.endswith(_CLASSIFIER) else read_sentence_head(folder.path)
    ending = head_ending(folder.architecture)
    if pooling is not None:
        if declared or (ending and ending not in _PRETRAINED):
            what = "declares its pooling in modules.json" if declared else f"has a head of its own ({named})"
            raise CheckpointError(
                f"The checkpoint {folder.path} {what}, so --pooling {pooling} cannot be chosen for it: leave it out."
            )
        return _pooled(pooling)
    if declared:
        head, limit = declared
        return Purpose("", sentence_head=head, max_tokens=limit)
    if ending:
        return Purpose(ending)
    if "For" in folder.architecture:
        raise UnsupportedModelError(
            f"The checkpoint {folder.path} is a {named}, whose outputs pruning cannot preserve: supported are "
            f"{', '.join('…' + ending for ending in HEADS)}, sentence-transformers checkpoints, and bare encoders with "
            f"--pooling {', '.join(POOLINGS[:-1])} or {POOLINGS[-1]}."
        )
    raise UnsupportedModelError(
        f"The checkpoint {folder.path} is a {named} without a head, and has no modules.json that says what becomes of "
        f"its tokens' vectors: choose with --pooling {', '.join(POOLINGS[:-1])} or {POOLINGS[-1]}."
    )


def head_ending(architecture: str) -> str:
    """Return the ending of an architecture's name that names its head; empty where no supported one does."""
    return next((ending for ending in HEADS if architecture.endswith(ending)), "")


def model_class(ending: str, config: Any) -> Any:
    """Return transformers' class for a configuration: with the head that an ending names, or the encoder alone."""
    import transformers

    mapping = getattr(transformers, HEADS[ending].mapping if ending else "MODEL_MAPPING")
    return mapping[type(config)]


def model_classes(config: Any) -> dict[str, Any]:
    """Return all of transformers' classes for a configuration that are supported, by the endings of their names."""
    found = {}
    for ending in ("", *HEADS):
        with contextlib.suppress(KeyError):  # the architecture has no such head
            found[ending] = model_class(ending, config)
    return found


def _pooled(pooling: str) -> Purpose:
    head = SentenceHead((pooling,), normalize=False) if pooling in ("mean", "cls") else None
    return Purpose("", pooling=pooling, sentence_head=head)


def _labels(config: Any) -> tuple[str, ...]:
    return tuple(str(config.id2label[i]) for i in range(config.num_labels))
