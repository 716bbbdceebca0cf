"""What embeddings find: searches, metrics by hand and beside scikit-learn's, and a model that only seems near."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from exporters.errors import MeasurementError
from kprune_export.evaluation import retrieval_metrics as retrieval
from kprune_export.evaluation.retrieval_metrics import (
    METRICS,
    Rankings,
    Search,
    embedding_fidelity,
    find,
    retrieval_figures,
    scores,
    shared,
)


def directions(*degrees: float) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def search(queries: list[int], documents: list[int], relevant: tuple[dict[int, float], ...] | None = None) -> Search:
    return Search(np.array(queries), np.array(documents), relevant)


def test_a_query_finds_what_is_near_but_not_itself() -> None:
    vectors = directions(0, 1, 5, 90, 2)
    asked = search([0, 3], [0, 1, 2, 4])
    assert asked.top == 3  # text 0 is left out for itself
    assert asked.documents[find(asked, vectors, vectors)].tolist() == [[1, 4, 2], [2, 4, 1]]
    other = search([3], [0, 1, 2, 4])
    assert other.top == 4
    assert other.documents[find(other, vectors, vectors)].tolist() == [[2, 4, 1, 0]]
    assert find(search([3], [0, 1]), vectors, np.zeros((5, 2))).tolist() == [[0, 1]]  # equally near: the first


def test_searches_are_the_same_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = retrieval.unit_rows(np.random.default_rng(0).normal(size=(60, 8)))
    whole = find(Search.among(60), vectors, vectors)
    assert whole.shape == (60, 10)
    monkeypatch.setattr(retrieval, "_BLOCK_VALUES", 130)
    assert np.array_equal(find(Search.among(60), vectors, vectors), whole)


def test_metrics_by_hand() -> None:
    asked = search([0, 1], [2, 3, 4, 5], ({3: 2.0, 5: 1.0}, {2: 1.0}))
    found = np.array([[0, 1, 2, 3], [3, 2, 1, 0]])  # places: documents 2 3 4 5, and 5 4 3 2
    values = scores(asked, found)
    first = (2 / np.log2(3) + 1 / np.log2(5)) / (2 / np.log2(2) + 1 / np.log2(3))
    assert values["ndcg_at_10"] == pytest.approx((first + 1 / np.log2(5)) / 2)
    assert values["mrr_at_10"] == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert values["recall_at_10"] == 1.0
    values = scores(asked, found[:, :2])
    assert values["recall_at_10"] == pytest.approx((1 / 2 + 0) / 2)
    assert values["mrr_at_10"] == pytest.approx((1 / 2 + 0) / 2)
    with pytest.raises(MeasurementError, match="No query has a document that is known to be relevant"):
        scores(search([0], [1]), np.array([[0]]))


def test_ndcg_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    vectors = retrieval.unit_rows(random.normal(size=(50, 6)))
    queries, documents = list(range(10)), list(range(10, 50))
    relevant = tuple(
        {int(x): float(random.integers(1, 4)) for x in random.choice(documents, 14, False)} for _ in queries
    )
    asked = search(queries, documents, relevant)
    gains = np.array([[known.get(x, 0.0) for x in documents] for known in relevant])
    expected = ndcg_score(gains, vectors[:10] @ vectors[10:].T, k=10)
    assert scores(asked, find(asked, vectors, vectors))["ndcg_at_10"] == pytest.approx(expected)


def test_overlap_and_both_ways_to_deploy() -> None:
    """All pruned vectors are turned by 90 degrees: found among themselves as ever, but not in the stored index."""
    dense = directions(*range(0, 88, 4))
    turned = directions(*range(90, 178, 4))
    rankings = Rankings.of(Search.among(22), dense, turned)
    again, kept = rankings.overlaps()
    assert (again.name, again.value) == ("top_10_overlap", 1.0)
    assert (kept.name, kept.value < 0.6) == ("index_top_10_overlap", True)
    assert shared(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 2, 9], [7, 8, 9]])) == pytest.approx(1 / 3)
    assert rankings.metrics() == ()


def test_metrics_of_both_ways_to_deploy() -> None:
    dense = directions(0, 30, 10, 40, 80)
    pruned = directions(40, 80, 50, 90, 120)  # turned by 40 degrees or so
    rankings = Rankings.of(search([0, 1], [2, 3, 4], ({2: 1.0}, {3: 1.0})), dense, pruned)
    metrics = {x.name: x for x in rankings.metrics()}
    assert list(metrics) == [*METRICS, *(f"index_{name}" for name in METRICS)]
    assert metrics["mrr_at_10"].dense == metrics["mrr_at_10"].pruned == metrics["index_mrr_at_10"].dense == 1.0
    assert metrics["index_mrr_at_10"].pruned == pytest.approx((1 / 2 + 1 / 2) / 2)  # 40 is at 3; 80 at 4
    assert metrics["mrr_at_10"].examples == 2
    figures = retrieval_figures(rankings.overlaps(), rankings.metrics())
    assert list(figures) == ["top_3_overlap", "index_top_3_overlap", *metrics]


def test_embeddings_by_hand() -> None:
    dense = np.eye(4, dtype=np.float32)[:3]
    pruned = dense.copy()
    pruned[2] = [0, 0, 3, 3]  # 45 degrees off
    cosine, overlap, kept, skill = embedding_fidelity(dense, pruned)
    assert cosine.value == pytest.approx((1 + 1 + 2**-0.5) / 3)
    assert overlap.name == "top_2_overlap"  # three texts have two others each
    assert overlap.value == kept.value == 1.0
    constant = 3**-0.5  # the length of the mean of three unit axes
    assert skill.value == pytest.approx((cosine.value - constant) / (1 - constant))


def test_neighbours_that_change_are_counted() -> None:
    dense = directions(*range(0, 120, 10))
    shuffled = dense[::-1].copy()
    shuffled[[0, 5]] = shuffled[[5, 0]]
    _, same, _, _ = embedding_fidelity(dense, dense)
    _, other, _, _ = embedding_fidelity(dense, shuffled)
    assert same.value == 1.0
    assert other.name == "top_10_overlap"
    assert 0.8 < other.value < 1.0


def test_one_vector_for_every_text_has_no_skill() -> None:
    """In a narrow cone a constant has a mean cosine of 0.99 to the dense vectors."""
    random = np.random.default_rng(0)
    dense = np.array([10.0, 0, 0]) + random.normal(size=(50, 3))
    constant = np.tile(retrieval.unit_rows(dense).mean(0), (50, 1))
    cosine, _, _, skill = embedding_fidelity(dense, constant)
    assert cosine.value > 0.98
    assert skill.value == pytest.approx(0.0, abs=1e-12)
    assert embedding_fidelity(dense, dense)[-1].value == pytest.approx(1.0)
    assert embedding_fidelity(constant, constant)[-1].value == 0.0  # the dense model tells no text from another
    assert len(embedding_fidelity(dense[:1], dense[:1])) == 2  # a single text has no others
