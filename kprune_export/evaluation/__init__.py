"""How each task's dense and pruned models are compared, and scored where labels are given."""

from kprune_export.evaluation.base import Evaluation
from kprune_export.evaluation.spans import AnswerEvaluation
from kprune_export.evaluation.text import (
    EmbeddingEvaluation,
    MultiLabelEvaluation,
    RegressionEvaluation,
    RerankingEvaluation,
    SingleLabelEvaluation,
)
from kprune_export.evaluation.token import MaskedWordEvaluation, TokenFeatureEvaluation, TokenLabelEvaluation
from pruning.tasks import TaskKind

EVALUATIONS: dict[TaskKind, type[Evaluation]] = {
    TaskKind.SINGLE_LABEL: SingleLabelEvaluation,
    TaskKind.MULTI_LABEL: MultiLabelEvaluation,
    TaskKind.REGRESSION: RegressionEvaluation,
    TaskKind.RERANKING: RerankingEvaluation,
    TaskKind.EMBEDDING: EmbeddingEvaluation,
    TaskKind.TOKEN_LABELS: TokenLabelEvaluation,
    TaskKind.TOKEN_FEATURES: TokenFeatureEvaluation,
    TaskKind.MASKED_LM: MaskedWordEvaluation,
    TaskKind.ANSWER_SPAN: AnswerEvaluation,
}
