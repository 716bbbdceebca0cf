"""Reranking by a cross-encoder: one score for each pair of texts."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from kprune_export.evaluation.fidelity import FidelityMeasure, reranking_fidelity
from kprune_export.evaluation.regression import RegressionEvaluation
from kprune_export.evaluation.serving import TextServing
from kprune_export.evaluation.snippets import pipeline_snippet


class RerankingEvaluation(RegressionEvaluation):
    """Rank agreement, and R²; Spearman's rank correlation with the labels."""

    # about as close as an R² of 0.9, which is the square of a correlation
    limits: ClassVar[Mapping[str, float]] = {"rank_agreement": 0.95}
    pipeline_tag = "text-ranking"
    example_texts = '[("a query", "a passage")]'

    @classmethod
    def usage(cls, pooling: str | None) -> str:  # noqa: ARG003 - as declared
        """Return a call of transformers' pipeline with a pair."""
        pair = '{"text": "a query", "text_pair": "a passage"}'
        return pipeline_snippet("text-classification", f'{pair}, function_to_apply="none"')

    @classmethod
    def serving(cls, labels: Sequence[str]) -> TextServing:  # noqa: ARG003 - as declared
        """Return the score of a pair as it is."""
        return TextServing("none", single=None)

    def fidelity(self) -> tuple[FidelityMeasure, ...]:
        """Compare the scores."""
        return reranking_fidelity(self.dense, self.pruned)
