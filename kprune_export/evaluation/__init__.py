"""Everything that depends on a task outside of pruning: one module and one class for each task."""

from kprune_export.evaluation.answer_span import AnswerEvaluation
from kprune_export.evaluation.base import Evaluation
from kprune_export.evaluation.embedding import EmbeddingEvaluation
from kprune_export.evaluation.masked_words import MaskedWordEvaluation
from kprune_export.evaluation.multi_label import MultiLabelEvaluation
from kprune_export.evaluation.regression import RegressionEvaluation
from kprune_export.evaluation.reranking import RerankingEvaluation
from kprune_export.evaluation.single_label import SingleLabelEvaluation
from kprune_export.evaluation.token_features import TokenFeatureEvaluation
from kprune_export.evaluation.token_labels import TokenLabelEvaluation
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

EVALUATIONS: dict[str, type[Evaluation]] = {
    SingleLabel.name: SingleLabelEvaluation,
    MultiLabel.name: MultiLabelEvaluation,
    Regression.name: RegressionEvaluation,
    Reranking.name: RerankingEvaluation,
    SentenceEmbedding.name: EmbeddingEvaluation,
    TokenLabels.name: TokenLabelEvaluation,
    TokenFeatures.name: TokenFeatureEvaluation,
    MaskedLanguageModelling.name: MaskedWordEvaluation,
    AnswerSpan.name: AnswerEvaluation,
}
"""By the tasks' names."""


def evaluation_of(task: Task) -> type[Evaluation]:
    """Return the class that holds what depends on a task.

    Raises:
        LookupError: the task was added to `pruning.tasks`, and not to `EVALUATIONS`.

    """
    try:
        return EVALUATIONS[task.name]
    except KeyError:
        raise LookupError(f"EVALUATIONS has no class for the task {task.name!r}: add one.") from None
