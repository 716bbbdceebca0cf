from itertools import combinations

import pytest
import torch

from pruning.errors import SolveError
from pruning.methods.kprune.elimination import eliminate, elimination_scores
from pruning.methods.least_squares import NormalEquations

GENERATOR = torch.Generator().manual_seed(1)
FEATURES = torch.randn(50, 6, dtype=torch.float64, generator=GENERATOR)
FEATURES[:, 4] += 0.9 * FEATURES[:, 0]
TARGET = FEATURES @ torch.randn(6, 3, dtype=torch.float64, generator=GENERATOR) + 0.3
TARGET += 0.1 * torch.randn(50, 3, dtype=torch.float64, generator=GENERATOR)
OLD = torch.zeros(3, 6, dtype=torch.float64)


def problem(bias: bool = True) -> NormalEquations:
    made = NormalEquations(6, 3, bias)
    made.add(FEATURES, TARGET)
    return made


def error_without(columns: set[int]) -> float:
    """The squared error of least squares, solved from scratch by torch, over the columns that are left."""
    left = [i for i in range(6) if i not in columns]
    rows = torch.cat((FEATURES[:, left], torch.ones(50, 1, dtype=torch.float64)), 1)
    return float((TARGET - rows @ torch.linalg.lstsq(rows, TARGET).solution).square().sum())


@pytest.mark.parametrize("unit_size", [1, 2, 3])
def test_scores_are_the_error_that_solving_again_finds(unit_size: int) -> None:
    gram, cross = problem().gram, problem().cross
    inverse = torch.linalg.inv(gram)
    scores = elimination_scores(inverse[:6, :6], (inverse @ cross)[:6], unit_size)
    expected = [
        error_without(set(range(unit * unit_size, (unit + 1) * unit_size))) - error_without(set())
        for unit in range(6 // unit_size)
    ]
    assert scores.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("unit_size", [1, 2])
def test_every_width_has_the_least_squares_solution_of_its_columns(unit_size: int) -> None:
    widths = list(range(6 // unit_size, -1, -1))
    for width, cut in zip(widths, eliminate(problem(), OLD, 0.0, unit_size, widths), strict=True):
        assert len(cut.kept) == width
        columns = (cut.kept[:, None] * unit_size + torch.arange(unit_size)).flatten()
        rows = torch.cat((FEATURES[:, columns], torch.ones(50, 1, dtype=torch.float64)), 1)
        solution = torch.linalg.lstsq(rows, TARGET).solution
        assert torch.allclose(torch.cat((cut.weight, cut.bias)), solution, atol=1e-10)


def test_greedy_elimination_goes_where_each_step_costs_least() -> None:
    gone: set[int] = set()
    for cut in eliminate(problem(), OLD, 0.0, 1, [5, 4, 3]):
        best = min((i for i in range(6) if i not in gone), key=lambda i: error_without(gone | {i}))
        gone.add(best)
        assert set(range(6)) - set(cut.kept.tolist()) == gone


def test_a_metric_counts_only_the_directions_that_it_sees() -> None:
    # the metric sees the first output alone, so elimination must be the one for that output by itself
    metric = torch.zeros(3, 3, dtype=torch.float64)
    metric[0, 0] = 1
    seen = NormalEquations(6, 1)
    seen.add(FEATURES, TARGET[:, :1])
    widths = [5, 4, 3, 2, 1]
    with_metric = eliminate(problem(), OLD, 0.0, 1, widths, metric)
    alone = eliminate(seen, OLD[:1], 0.0, 1, widths)
    assert [x.kept.tolist() for x in with_metric] == [x.kept.tolist() for x in alone]


def test_best_pair_is_found_where_columns_are_orthogonal() -> None:
    """With orthogonal features the greedy choice is the best of all subsets."""
    features = torch.linalg.qr(FEATURES).Q
    made = NormalEquations(6, 3, bias=False)
    made.add(features, TARGET)
    weight = features.T @ TARGET
    best = max(combinations(range(6), 2), key=lambda pair: float(weight[list(pair)].square().sum()))
    (cut,) = eliminate(made, OLD, 0.0, 1, [2])
    assert tuple(cut.kept.tolist()) == best
    assert cut.bias.shape == (0, 3)


def test_a_singular_problem_is_an_error() -> None:
    made = NormalEquations(2, 3)
    made.add(FEATURES[:, [0, 0]], TARGET)
    with pytest.raises(SolveError, match="no single solution with a ridge of 0: .* or a ridge above 0"):
        eliminate(made, OLD[:, :2], 0.0, 1, [1])
    made.add(torch.full((1, 2), float("nan"), dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64))
    with pytest.raises(SolveError):
        eliminate(made, OLD[:, :2], 0.1, 1, [1])
