"""Retrieval with embeddings: which documents a query finds, and how that changes when a model is pruned.

Every figure is given for two ways to deploy a pruned embedder: with all documents embedded again by the pruned model,
and with pruned queries against the vectors that the dense model has stored. The second is named ``index_…``: it says
whether an existing index can stay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporters.errors import MeasurementError
from exporters.runners.base import Array
from kprune_export.evaluation.fidelity import FidelityMeasure, mean_cosine, row_cosines, unit_rows
from kprune_export.evaluation.metrics import TaskMetric

TOP = 10
"""How many of the nearest documents count."""
INDEX = "index_"
"""What the names of figures for pruned queries against the dense model's stored vectors begin with."""
METRICS = (f"ndcg_at_{TOP}", f"mrr_at_{TOP}", f"recall_at_{TOP}")
"""The names of the metrics against known relevant documents, the most usual one first."""
_BLOCK_VALUES = 2**22

Found = NDArray[np.int64]
"""The documents that queries find, nearest first, as places in a search's documents: (queries, top)."""


@dataclass(frozen=True)
class Search:
    """What is looked for, and among what. Texts are numbered by their rows in arrays of embeddings.

    Attributes:
        queries: the rows of the queries, (queries,).
        documents: the rows of the documents, (documents,), each once.
        relevant: for each query, the gain of each relevant document by its row, above 0; None where it is not known.
            A query's own text is none.

    """

    queries: NDArray[np.int64]
    documents: NDArray[np.int64]
    relevant: tuple[Mapping[int, float], ...] | None = None

    @classmethod
    def among(cls, texts: int) -> "Search":
        """Return the search for each of some texts among all the others."""
        return cls(np.arange(texts), np.arange(texts))

    @property
    def top(self) -> int:
        """How many documents each query finds: `TOP`, or fewer where there are fewer besides the query's own text."""
        return min(TOP, len(self.documents) - int(np.isin(self.queries, self.documents).any()))


def find(search: Search, queries: NDArray[np.float64], documents: NDArray[np.float64]) -> Found:
    """Return the documents nearest to each query by cosine; of equally near ones the first.

    A query's own text is left out where it is among the documents.

    Args:
        search: what is looked for.
        queries: the embeddings of all texts by the model that embeds the queries, rows of length 1: (texts, d).
        documents: the same by the model that has embedded the documents.

    """
    vectors = documents[search.documents].T
    found = np.empty((len(search.queries), search.top), dtype=np.int64)
    size = max(1, _BLOCK_VALUES // len(search.documents))
    for start in range(0, len(search.queries), size):
        block = slice(start, start + size)
        rows = search.queries[block]
        similarity = queries[rows] @ vectors
        similarity[search.documents[None, :] == rows[:, None]] = -np.inf
        found[block] = np.argsort(-similarity, axis=-1, kind="stable")[:, : search.top]
    return found


def shared(one: Found, other: Found) -> float:
    """Return the mean share of each query's documents that are in both lists."""
    pairs = zip(one.tolist(), other.tolist(), strict=True)
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in pairs]))


def scores(search: Search, found: Found) -> dict[str, float]:
    """Return nDCG, MRR and recall over the first `TOP` documents, means over the queries, by the names in `METRICS`.

    The formulas are those of trec_eval, which BEIR's leaderboard uses: a document at rank r counts gain / log2(r + 1),
    relative to the best possible order; the reciprocal rank is that of the first relevant document; recall is the
    share of all relevant documents.

    Raises:
        MeasurementError: no query has a relevant document.

    """
    if not search.relevant:
        raise MeasurementError("No query has a document that is known to be relevant, so retrieval cannot be scored.")
    discounts = 1 / np.log2(np.arange(2, TOP + 2))
    ndcg, reciprocal, recall = [], [], []
    for known, places in zip(search.relevant, found, strict=True):
        gains = np.array([known.get(int(row), 0.0) for row in search.documents[places]])
        best = np.sort(list(known.values()))[::-1][:TOP]
        ndcg.append(float(gains @ discounts[: len(gains)] / (best @ discounts[: len(best)])))
        hits = np.flatnonzero(gains)
        reciprocal.append(1 / (hits[0] + 1) if len(hits) else 0.0)
        recall.append(len(hits) / len(known))
    return dict(zip(METRICS, (float(np.mean(values)) for values in (ndcg, reciprocal, recall)), strict=True))


@dataclass(frozen=True)
class Rankings:
    """What a search finds before and after pruning.

    Attributes:
        dense: with the dense model.
        pruned: with the pruned model, by which the documents have been embedded again.
        index: with pruned queries against the dense model's stored vectors.

    """

    search: Search
    dense: Found
    pruned: Found
    index: Found

    @classmethod
    def of(cls, search: Search, dense: Array, pruned: Array) -> "Rankings":
        """Search with the embeddings of all texts by both models, (texts, d)."""
        before, after = unit_rows(dense), unit_rows(pruned)
        return cls(search, find(search, before, before), find(search, after, after), find(search, after, before))

    def overlaps(self) -> tuple[FidelityMeasure, FidelityMeasure]:
        """Compare what is found with what the dense model finds, for both ways to deploy."""
        top, size = self.search.top, f"{len(self.search.documents)} documents"
        return (
            FidelityMeasure(
                name=f"top_{top}_overlap",
                value=shared(self.dense, self.pruned),
                higher_is_better=True,
                description=f"share of each query's {top} nearest of {size} that stay once all are embedded again",
            ),
            FidelityMeasure(
                name=f"{INDEX}top_{top}_overlap",
                value=shared(self.dense, self.index),
                higher_is_better=True,
                description=f"the same with pruned queries against the dense model's stored vectors of {size}",
            ),
        )

    def metrics(self) -> tuple[TaskMetric, ...]:
        """Score what is found, for both ways to deploy; empty where no relevant documents are known."""
        if self.search.relevant is None:
            return ()
        dense, pruned, index = (scores(self.search, found) for found in (self.dense, self.pruned, self.index))
        return tuple(
            TaskMetric(name=f"{prefix}{name}", dense=dense[name], pruned=side[name], examples=len(self.search.queries))
            for prefix, side in (("", pruned), (INDEX, index))
            for name in METRICS
        )


def embedding_fidelity(dense: Array, pruned: Array, rankings: Rankings | None = None) -> tuple[FidelityMeasure, ...]:
    """Compare embeddings, (texts, d): mean cosine, what searches find, and whether one vector would do as well.

    Args:
        dense: by the dense model.
        pruned: by the pruned model.
        rankings: what a search finds with them; each text among all the others unless given.

    """
    cosines = row_cosines(dense, pruned)
    if rankings is None and len(dense) > 1:
        rankings = Rankings.of(Search.among(len(dense)), dense, pruned)
    return (
        mean_cosine(cosines, "a text's dense and pruned embedding"),
        *(rankings.overlaps() if rankings else ()),
        cosine_skill(float(cosines.mean()), unit_rows(dense).sum(0), len(dense)),
    )


def cosine_skill(cosine: float, total: NDArray[np.float64], vectors: int) -> FidelityMeasure:
    """Compare a mean cosine with the best that one vector for every text could have.

    Vectors of an encoder often point into a narrow cone, so that a mean cosine of 0.9 may say nothing. The best single
    vector is the mean direction; its mean cosine to unit vectors is the length of their mean.

    Args:
        cosine: the mean cosine between dense and pruned vectors.
        total: the sum of the dense vectors, each of length 1: (d,).
        vectors: how many these are.

    """
    constant = float(np.linalg.norm(total)) / vectors
    skill = (cosine - constant) / (1 - constant) if constant < 1 - 1e-9 else 0.0
    return FidelityMeasure(
        name="cosine_skill",
        value=skill,
        higher_is_better=True,
        description=f"mean cosine above that of one vector for every text ({constant:.4f}): 0 is no better, 1 the same",
    )


def is_overlap(name: str) -> bool:
    """Whether a measure's name is that of an overlap of what searches find."""
    return name.startswith("top_") and name.endswith("_overlap")


def retrieval_figures(measures: Sequence[FidelityMeasure], metrics: Sequence[TaskMetric]) -> dict[str, float]:
    """Return the pruned model's figures of retrieval by name: overlaps, and metrics where there are some."""
    found = {x.name: x.value for x in measures if is_overlap(x.name.removeprefix(INDEX))}
    return found | {x.name: x.pruned for x in metrics if x.name.removeprefix(INDEX) in METRICS}
