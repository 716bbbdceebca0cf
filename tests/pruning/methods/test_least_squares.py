import pytest
import torch

from pruning.errors import SolveError
from pruning.methods.least_squares import RIDGES, NormalEquations, chosen_ridge

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
    assert bias is not None
    assert torch.allclose(bias, BIAS, atol=1e-12)


def test_is_the_least_squares_solution() -> None:
    target = torch.randn(60, 3, dtype=torch.float64)
    weight, bias = equations(FEATURES, target).solve(OLD, torch.zeros(3), 0.0)
    rows = torch.cat((FEATURES, torch.ones(60, 1, dtype=torch.float64)), 1)
    assert bias is not None
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
    assert bias is not None
    assert bias.tolist() == pytest.approx([2.0, 4.0])


def test_without_a_bias_the_fit_goes_through_the_origin() -> None:
    # Σz² = 1 + 4 = 5, Σz·t = 3 + 2·5 = 13, where a line with a bias would fit both points
    features = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    made = NormalEquations(1, 1, bias=False)
    made.add(features, torch.tensor([[3.0], [5.0]], dtype=torch.float64))
    weight, bias = made.solve(torch.zeros(1, 1), None, 0.0)
    assert weight.item() == pytest.approx(13 / 5)
    assert bias is None
    ridged, _ = made.solve(torch.tensor([[2.0]]), None, 0.1)  # ρ = 0.1·5
    assert ridged.item() == pytest.approx((13 + 0.5 * 2) / 5.5)


def test_without_units_and_bias_nothing_is_left_to_solve() -> None:
    made = NormalEquations(0, 2, bias=False)
    made.add(torch.zeros(3, 0), torch.ones(3, 2))
    weight, bias = made.solve(torch.zeros(2, 0), None, 1e-4)
    assert weight.shape == (2, 0)
    assert bias is None
    with pytest.raises(ValueError, match="with a bias and solved without"):
        NormalEquations(1, 1).solve(torch.zeros(1, 1), None, 0.0)


def test_a_singular_problem_without_ridge_is_an_error() -> None:
    twice = torch.cat((FEATURES[:, :1], FEATURES[:, :1]), 1)
    with pytest.raises(SolveError, match="2 features over 60 tokens has no single solution with a ridge of 0"):
        equations(twice, twice).solve(torch.zeros(2, 2), torch.zeros(2), 0.0)


def test_values_that_are_not_finite_are_an_error() -> None:
    features = FEATURES.clone()
    features[0, 0] = float("nan")
    with pytest.raises(SolveError):
        equations(features, FEATURES @ WEIGHT.T).solve(OLD, torch.zeros(3), 1e-4)


def test_a_ridge_draws_each_column_by_its_own_energy() -> None:
    # one column ten times larger and its old weight ten times smaller: the same problem in other units
    target = torch.randn(60, 3, dtype=torch.float64)
    old = torch.randn(3, 5, dtype=torch.float64)
    scale = torch.tensor([1.0, 10.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    plain, _ = equations(FEATURES, target).solve(old, torch.zeros(3), 0.3)
    scaled, _ = equations(FEATURES * scale, target).solve(old / scale, torch.zeros(3), 0.3)
    assert torch.allclose(scaled * scale, plain, atol=1e-10)


def test_squared_error_is_the_residual_but_for_the_targets_own_size() -> None:
    target = torch.randn(60, 3, dtype=torch.float64)
    residual = target - FEATURES @ WEIGHT.T - BIAS
    expected = float(residual.square().sum() - target.square().sum())
    assert equations(FEATURES, target).squared_error(WEIGHT, BIAS) == pytest.approx(expected)


def test_parts_add_up_and_columns_are_taken() -> None:
    target = torch.randn(60, 3, dtype=torch.float64)
    columns = torch.tensor([0, 3])
    problem = equations(FEATURES[:20], target[:20])
    problem += equations(FEATURES[20:], target[20:])
    both = problem.of_columns(columns)
    expected = equations(FEATURES[:, columns], target)
    assert torch.allclose(both.gram, expected.gram)
    assert torch.allclose(both.cross, expected.cross)
    assert (both.columns, both.tokens) == (2, 60)
    problem -= equations(FEATURES[20:], target[20:])
    assert torch.allclose(problem.cross, equations(FEATURES[:20], target[:20]).cross)
    assert problem.tokens == 20


def test_the_ridge_that_is_chosen_does_best_on_the_other_fold() -> None:
    # targets that are the old weights' plus noise: the more a fold is drawn to them, the better for the other
    noise = 5 * torch.randn(60, 3, dtype=torch.float64)
    folds = [equations(FEATURES[i::2], (FEATURES @ WEIGHT.T + noise)[i::2]) for i in (0, 1)]
    assert chosen_ridge(folds, WEIGHT, torch.zeros(3)) == max(RIDGES)
    # targets that the features explain exactly and old weights that are wrong: not drawn at all
    exact = [equations(FEATURES[i::2], (FEATURES @ WEIGHT.T)[i::2]) for i in (0, 1)]
    assert chosen_ridge(exact, -WEIGHT, torch.zeros(3)) == min(RIDGES)
    assert chosen_ridge(folds[:1], WEIGHT, torch.zeros(3)) == max(RIDGES)


def test_products_in_float32_are_as_good_as_the_ridge_needs() -> None:
    features = torch.randn(4000, 64, dtype=torch.float64)
    single, double = equations(features.float(), features.float(), 128), equations(features, features, 128)
    assert float((single.gram - double.gram).norm() / double.gram.norm()) < 1e-5


def test_features_that_are_all_silent_keep_their_weights() -> None:
    silent = equations(torch.zeros(60, 5, dtype=torch.float64), torch.ones(60, 3, dtype=torch.float64))
    weight, bias = silent.solve(OLD, torch.zeros(3), 1e-2)
    assert torch.allclose(weight, OLD.double())
    assert bias is not None
    assert bias.tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_values_that_overflow_are_named_as_such() -> None:
    large = torch.full((60, 2), 1e30)
    with pytest.raises(SolveError, match="NaN or infinite: the model's activations are too large"):
        equations(large, large).solve(torch.zeros(2, 2), torch.zeros(2), 0.1)
