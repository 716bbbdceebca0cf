"""Tasks of models: one small class for each task that pruning can preserve."""

from pruning.tasks.base import Output, Task
from pruning.tasks.text import MultiLabel, Regression, Reranking, SentenceEmbedding, SingleLabel
from pruning.tasks.token import AnswerSpan, MaskedLanguageModelling, TokenFeatures, TokenLabels

__all__ = [
    "AnswerSpan",
    "MaskedLanguageModelling",
    "MultiLabel",
    "Output",
    "Regression",
    "Reranking",
    "SentenceEmbedding",
    "SingleLabel",
    "Task",
    "TokenFeatures",
    "TokenLabels",
]
