"""Sentence embedding: one vector for each text."""

from collections.abc import Sequence
from functools import cached_property

from kprune_export.errors import LabelError
from kprune_export.evaluation.base import VECTOR_LIMITS, TaskLabels
from kprune_export.evaluation.fidelity import FidelityMeasure
from kprune_export.evaluation.metrics import TaskMetric, cosine_of_pairs, spearman
from kprune_export.evaluation.reading import labels_of, number
from kprune_export.evaluation.retrieval_metrics import INDEX, Rankings, Search, embedding_fidelity, is_overlap
from kprune_export.evaluation.serving import TextServing
from kprune_export.evaluation.snippets import SENTENCE_CARD_SNIPPET, SENTENCE_SNIPPET, CardWords, outputs_snippet
from kprune_export.evaluation.text_rows import TextEvaluation
from pruning.calibration.examples import Example
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.tasks import Task

OVERLAP_LIMIT = 0.5
"""The default limit of both overlaps: below it most of the nearest documents change."""


class EmbeddingEvaluation(TextEvaluation):
    """Mean cosine and what searches find; with relevant documents nDCG, MRR and recall, with scored pairs Spearman's.

    Without a retrieval data set every text is looked for among all the others.
    """

    searches = True
    limits = VECTOR_LIMITS
    pipeline_tag = "feature-extraction"
    card_metrics = ("spearmanr",)

    @classmethod
    def default_limit(cls, measure: str) -> float | None:
        """Return also the limit of overlaps, whose names depend on how many documents are searched."""
        overlap = is_overlap(measure.removeprefix(INDEX))
        return OVERLAP_LIMIT if overlap else super().default_limit(measure)

    @classmethod
    def card(cls, checkpoint: EncoderCheckpoint) -> CardWords:
        """Return the words for sentence-transformers where the checkpoint declares its pooling, else for transformers.

        Only then does the hub's page show what the model is for: an encoder alone has vectors for tokens.
        """
        if not (checkpoint.folder.path / "modules.json").is_file():
            return super().card(checkpoint)
        return CardWords("sentence-transformers", "sentence-similarity", SENTENCE_CARD_SNIPPET)

    @classmethod
    def usage(cls, pooling: str | None) -> str:
        """Return a call of sentence-transformers, which knows no pooler: that is read of the model's outputs."""
        if pooling == "pooler":
            return outputs_snippet(cls.example_texts, "pooler_output")
        return SENTENCE_SNIPPET

    @classmethod
    def serving(cls, labels: Sequence[str]) -> TextServing:  # noqa: ARG003 - as declared
        """Return the vector of a text with length 1."""
        return TextServing("normalise", pair=None)

    @classmethod
    def read_labels(cls, task: Task, examples: Sequence[Example]) -> TaskLabels:  # noqa: ARG003 - any number fits
        """Read the scores of pairs."""
        labels = labels_of(examples)
        if any(example.pair is None for example in examples):
            raise LabelError(
                "A sentence embedder's metric needs pairs of texts with a score, or queries with relevant documents, "
                "but single texts were given."
            )
        return tuple(number(label) for label in labels)

    def fidelity(self) -> tuple[FidelityMeasure, ...]:
        """Compare the embeddings."""
        return embedding_fidelity(self.dense, self.pruned, self._rankings)

    def metrics(self) -> tuple[TaskMetric, ...]:
        """Score searches and pairs, where there is something to score them by; searches first."""
        found = self._rankings.metrics() if self._rankings else ()
        if found and len(set(self.labels or ())) < 2:  # all pairs are relevant: nothing to correlate with
            return found
        return (*found, *super().metrics())

    @property
    def documents(self) -> int | None:
        """How many documents are searched."""
        return len(self.retrieval.documents if self.retrieval else self.texts)

    @cached_property
    def _rankings(self) -> Rankings | None:
        if len(self.texts) < 2:
            return None
        search = self.retrieval.search(self._row) if self.retrieval else Search.among(len(self.texts))
        return Rankings.of(search, self.dense, self.pruned)

    @cached_property
    def _row(self) -> dict[str, int]:
        return {example.text: place for place, example in enumerate(self.texts)}

    def _metric(self, labels: TaskLabels) -> TaskMetric:
        first = [self._row[example.text] for example in self.examples]
        second = [self._row[example.pair or ""] for example in self.examples]
        scores = [cosine_of_pairs(x[first], x[second]) for x in (self.dense, self.pruned)]
        return spearman(scores[0], scores[1], labels)
