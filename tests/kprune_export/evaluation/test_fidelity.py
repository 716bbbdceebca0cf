import math

import ml_dtypes
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from exporters.errors import MeasurementError
from kprune_export.evaluation import fidelity
from kprune_export.evaluation.fidelity import (
    class_fidelity,
    classifier_fidelity,
    compare_classes,
    kappa,
    mean_cosine,
    multi_label_fidelity,
    rank_agreement,
    regression_fidelity,
    reranking_fidelity,
    row_cosines,
)
from kprune_export.evaluation.metrics import accuracy, cosine_of_pairs, micro_f1, spearman
from kprune_export.evaluation.retrieval_metrics import embedding_fidelity


def test_classifier_by_hand() -> None:
    dense = np.array([[0.0, 0.0], [2.0, 0.0]], dtype=np.float32)
    pruned = np.array([[math.log(3), 0.0], [0.0, 1.0]], dtype=np.float32)
    agreement, kl, kappa = classifier_fidelity(dense, pruned)
    assert agreement.value == 0.5
    assert kappa.value == 0.0  # half is what chance gives: dense always chooses 0, pruned every other time
    first = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    p = math.exp(2) / (math.exp(2) + 1)
    q = 1 / (1 + math.e)
    second = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert kl.value == pytest.approx((first + second) / 2, rel=1e-6)
    assert (agreement.higher_is_better, kl.higher_is_better) == (True, False)


def test_multi_label_by_hand() -> None:
    dense = np.array([[1.0, -1.0], [1.0, 1.0]], dtype=np.float32)
    pruned = np.array([[1.0, 1.0], [1.0, 1.0]], dtype=np.float32)
    agreement, kl, kappa = multi_label_fidelity(dense, pruned)
    assert agreement.value == 0.75
    assert kappa.value == 0.0  # three of four are on for dense, all for pruned: chance agrees in three of four too
    p, q = 1 / (1 + math.e), 1 / (1 + math.exp(-1))
    assert kl.value == pytest.approx((p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))) / 2, rel=1e-6)


def test_regression_by_hand() -> None:
    dense = np.array([[0.0], [2.0], [4.0]], dtype=np.float32)
    r2, order = regression_fidelity(dense, np.array([[1.0], [0.5], [4.0]], dtype=np.float32))
    assert r2.value == pytest.approx(1 - (1 + 2.25) / 8)
    assert order.value == pytest.approx(0.5)  # ranks (1, 2, 3) and (2, 1, 3): 1 - 6·2/(3·8)
    assert len(regression_fidelity(np.eye(2), np.eye(2))) == 1  # several numbers have no order
    order, r2 = reranking_fidelity(dense, 10 * dense)
    assert (order.name, order.value) == ("rank_agreement", pytest.approx(1))
    assert (r2.name, r2.value) == ("r2", pytest.approx(1 - 81 * 20 / 8))
    with pytest.raises(MeasurementError, match="the same output for every held-out text"):
        regression_fidelity(np.ones((3, 1)), np.ones((3, 1)))


def test_agreement_above_chance() -> None:
    """As scikit-learn has it; agreement of nine in ten says nothing where nine in ten are one class."""
    dense, pruned = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 2, 2, 1])
    assert kappa(dense, pruned).value == pytest.approx((4 / 6 - 1 / 3) / (1 - 1 / 3))
    random = np.random.default_rng(0)
    dense, pruned = random.integers(0, 50, 400), random.integers(0, 3, 400)
    pruned = np.where(random.random(400) < 0.7, dense, pruned)
    assert kappa(dense, pruned).value == pytest.approx(cohen_kappa_score(dense, pruned))
    skewed = np.array([1] * 9 + [0])
    assert kappa(skewed, np.ones(10, dtype=int)).value == 0.0
    assert kappa(np.ones(5, dtype=int), np.ones(5, dtype=int)).value == 0.0  # nothing to tell apart
    assert kappa(skewed, skewed).value == 1.0


def test_what_cannot_be_compared() -> None:
    with pytest.raises(MeasurementError, match="cannot be compared"):
        classifier_fidelity(np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(MeasurementError, match="NaN or infinite"):
        classifier_fidelity(np.ones((2, 2)), np.full((2, 2), np.nan))


def test_metrics_by_hand() -> None:
    dense, pruned = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    metric = accuracy(dense, pruned, [0, 1])
    assert (metric.dense, metric.pruned, metric.examples) == (1.0, 0.5, 2)
    # 3 true labels, 2 predicted of which 1 right: precision 1/2, recall 1/3, F1 2/5
    logits = np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert micro_f1(logits, logits, [[1, 1], [1, 0]]).pruned == pytest.approx(2 / 5)
    with pytest.raises(MeasurementError, match="do not fit"):
        micro_f1(logits, logits, [[1], [1]])
    ranks = spearman(np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.0, 2.0]), [10, 20, 30])
    assert (ranks.dense, ranks.pruned) == (pytest.approx(1.0), pytest.approx(-0.5))
    assert spearman(np.ones(3), np.arange(3.0), [1, 2, 3]).dense == 0.0
    with pytest.raises(MeasurementError, match="rank correlation has no meaning"):
        spearman(np.ones(3), np.ones(3), [1, 1, 1])
    assert cosine_of_pairs(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]])).item() == pytest.approx(24 / 25)


def test_wide_classes_are_compared_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    dense, pruned = (random.normal(size=(23, 7)).astype(np.float32) for _ in range(2))
    whole = compare_classes(dense, pruned)
    monkeypatch.setattr(fidelity, "_BLOCK_VALUES", 30)
    in_blocks = compare_classes(dense, pruned)
    assert np.array_equal(whole.dense, in_blocks.dense)
    assert np.array_equal(whole.pruned, in_blocks.pruned)
    assert np.allclose(whole.kl, in_blocks.kl, rtol=1e-12)
    agreement, kl, _ = class_fidelity(whole, "token")
    assert agreement.value == pytest.approx(np.mean(dense.argmax(-1) == pruned.argmax(-1)))
    assert kl.value == pytest.approx(whole.kl.mean())
    assert "tokens" in agreement.description


def test_row_cosines_by_hand() -> None:
    cosines = row_cosines(np.array([[1.0, 0.0], [2.0, 2.0]]), np.array([[0.0, 3.0], [1.0, 1.0]]))
    assert cosines.tolist() == pytest.approx([0.0, 1.0])
    assert mean_cosine(cosines, "two things").value == pytest.approx(0.5)


def test_rank_agreement_ignores_scale_and_is_zero_for_a_constant() -> None:
    dense = np.array([0.1, 0.2, 0.3, 0.4])
    assert rank_agreement(dense, np.exp(5 * dense)).value == pytest.approx(1.0)
    assert rank_agreement(dense, -dense).value == pytest.approx(-1.0)
    assert rank_agreement(dense, np.ones(4)).value == 0.0


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_sixteen_bits_are_computed_with_as_more(dtype: type) -> None:
    """Runners give the model's own dtype; figures are those of the same numbers in float64."""
    random = np.random.default_rng(0)
    dense = (300 * random.normal(size=(40, 6))).astype(dtype)  # squares overflow float16
    pruned = (dense.astype(np.float64) + random.normal(size=(40, 6))).astype(dtype)
    wide = dense.astype(np.float64), pruned.astype(np.float64)
    for compare in (classifier_fidelity, multi_label_fidelity, regression_fidelity, embedding_fidelity):
        assert compare(dense, pruned) == compare(*wide)
    assert reranking_fidelity(dense[:, :1], pruned[:, :1]) == reranking_fidelity(wide[0][:, :1], wide[1][:, :1])
    assert np.array_equal(cosine_of_pairs(dense, pruned), cosine_of_pairs(*wide))
    labels = [i % 6 for i in range(40)]
    assert accuracy(dense, pruned, labels) == accuracy(*wide, labels)
    assert spearman(dense[:, 0], pruned[:, 0], labels) == spearman(wide[0][:, 0], wide[1][:, 0], labels)
