import pytest

from pruning.errors import BudgetError
from pruning.flops import budget_flops, unit_costs


def test_unit_costs_by_hand() -> None:
    # d = 4, d_h = 2, s = 3: a head has 4 matrices of 4x2 on 3 tokens (8·4·2·3 = 192) and two products
    # of 3x3 with 2 features (4·9·2 = 72); a neuron has a row and a column of 4 on 3 tokens (4·4·3 = 48).
    assert unit_costs(4, 2, 2, 3) == type(unit_costs(4, 2, 2, 3))(head=264, neuron=48)
    assert unit_costs(4, 2, 3, 3).neuron == 72
    assert unit_costs(4, 2, 2, 3, position_rows=10).head == 264 + 2 * 10 * 2 * 3


@pytest.mark.parametrize(
    ("dense", "reduction", "budget"), [(1000, 0.7, 300), (1000, 0.1, 900), (10, 0.55, 4), (3, 0.999, 0)]
)
def test_budget_is_exact(dense: int, reduction: float, budget: int) -> None:
    assert budget_flops(dense, reduction) == budget


@pytest.mark.parametrize("reduction", [0.0, 1.0, -0.5, 1.5, float("nan"), float("inf")])
def test_budget_refuses_what_is_no_share(reduction: float) -> None:
    with pytest.raises(BudgetError, match="above 0 and below 1"):
        budget_flops(100, reduction)
