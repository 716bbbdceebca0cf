import pytest
import torch

from pruning.errors import SolveError
from pruning.kprune.tuning import NormalEquations

torch.manual_seed(0)
FEATURES = torch.randn(60, 5, dtype=torch.float64)
WEIGHT = torch.randn(3, 5, dtype=torch.float64)
BIAS = torch.randn(3, dtype=torch.float64)
OLD = torch.zeros(3, 5, dtype=torch.float64)


def equations(features: torch.Tensor, target: torch.Tensor, batch: int = 1000) -> NormalEquations:
    made = NormalEquations(features.shape[1], target.shape[1])
    for start in range(0, len(features), batch):
        made.add(features[start : start + batch], target[start : start + batch])
    return made


def test_recovers_what_generated_the_targets() -> None:
    weight, bias = equations(FEATURES, FEATURES @ WEIGHT.T + BIAS).solve(OLD, torch.zeros(3), 0.0)
    assert torch.allclose(weight, WEIGHT, atol=1e-12)
    assert torch.allclose(bias, BIAS, atol=1e-12)


def test_is_the_least_squares_solution() -> None:
    target = torch.randn(60, 3, dtype=torch.float64)
    weight, bias = equations(FEATURES, target).solve(OLD, torch.zeros(3), 0.0)
    rows = torch.cat((FEATURES, torch.ones(60, 1, dtype=torch.float64)), 1)
    expected = torch.linalg.lstsq(rows, target).solution
    assert torch.allclose(torch.cat((weight.T, bias[None])), expected, atol=1e-12)


def test_batches_add_up() -> None:
    target = FEATURES @ WEIGHT.T
    whole, parts = equations(FEATURES, target), equations(FEATURES, target, batch=7)
    assert torch.allclose(whole.gram, parts.gram)
    assert torch.allclose(whole.cross, parts.cross)
    assert whole.tokens == parts.tokens == 60


def test_ridge_by_hand_and_toward_the_old_weight() -> None:
    # one feature, centred so that the bias does not interact: Σz² = 2, Σz·t = 4, ρ = ridge·Σz²
    features = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    target = torch.tensor([[2.0], [-2.0]], dtype=torch.float64)
    old = torch.tensor([[10.0]], dtype=torch.float64)
    weight, _ = equations(features, target).solve(old, torch.zeros(1), ridge=0.5)
    assert weight.item() == pytest.approx((4 + 0.5 * 2 * 10) / (2 + 0.5 * 2))
    heavy, _ = equations(features, target).solve(old, torch.zeros(1), ridge=1e9)
    assert heavy.item() == pytest.approx(10.0)


def test_directions_without_data_stay_as_they_were() -> None:
    features = FEATURES.clone()
    features[:, 2] = 0
    old = torch.randn(3, 5, dtype=torch.float64)
    weight, _ = equations(features, features @ WEIGHT.T).solve(old, torch.zeros(3), 1e-8)
    assert torch.allclose(weight[:, 2], old[:, 2])
    assert torch.allclose(weight[:, [0, 1, 3, 4]], WEIGHT[:, [0, 1, 3, 4]], atol=1e-5)


def test_without_units_the_bias_is_the_mean_target() -> None:
    target = torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=torch.float64)
    weight, bias = equations(torch.zeros(2, 0), target).solve(torch.zeros(2, 0), torch.zeros(2), 1e-4)
    assert weight.shape == (2, 0)
    assert bias.tolist() == pytest.approx([2.0, 4.0])


def test_a_singular_problem_without_ridge_is_an_error() -> None:
    twice = torch.cat((FEATURES[:, :1], FEATURES[:, :1]), 1)
    with pytest.raises(SolveError, match="2 features over 60 tokens has no single finite solution"):
        equations(twice, twice).solve(torch.zeros(2, 2), torch.zeros(2), 0.0)


def test_values_that_are_not_finite_are_an_error() -> None:
    features = FEATURES.clone()
    features[0, 0] = float("nan")
    with pytest.raises(SolveError):
        equations(features, FEATURES @ WEIGHT.T).solve(OLD, torch.zeros(3), 1e-4)
