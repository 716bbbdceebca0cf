import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.methods.selection import select_units


def kept(scores: list[list[float]], costs: list[int], budget: int) -> list[list[int]]:
    return [x.tolist() for x in select_units([torch.tensor(s) for s in scores], costs, budget)]


def test_the_lowest_scores_go() -> None:
    assert kept([[5.0, 1.0], [4.0, 2.0, 3.0]], [10, 10], 30) == [[0], [0, 2]]


def test_cheaper_units_use_what_an_expensive_one_leaves() -> None:
    # heads of 30 and neurons of 10 under 45: one head, one neuron, and 5 that nothing fits into
    assert kept([[9.0, 8.0], [7.0, 1.0]], [30, 10], 45) == [[0], [0]]


def test_an_expensive_unit_replaces_cheap_ones_rather_than_leaving_much_unused() -> None:
    # after all three neurons, 25 of 55 are left: the head of 30 goes in, the lowest neuron goes out
    assert kept([[1.0], [9.0, 8.0, 7.0]], [30, 10], 55) == [[0], [0, 1]]


def test_ties_are_settled_by_position() -> None:
    assert kept([[1.0, 1.0], [1.0, 1.0]], [1, 1], 3) == [[0, 1], [0]]


def test_everything_fits() -> None:
    assert kept([[1.0], [2.0, 3.0]], [10, 1], 12) == [[0], [0, 1]]


@settings(max_examples=200)
@given(
    heads=st.lists(st.floats(0, 10), min_size=1, max_size=8),
    neurons=st.lists(st.floats(0, 10), min_size=12, max_size=40),
    ratio=st.integers(1, 12),
    share=st.floats(0.01, 1.0),
)
def test_lands_within_one_neuron_of_the_budget(
    heads: list[float], neurons: list[float], ratio: int, share: float
) -> None:
    cost_head, cost_neuron = 7 * ratio + 3, 7
    total = len(heads) * cost_head + len(neurons) * cost_neuron
    budget = int(share * total)
    found = kept([heads, neurons], [cost_head, cost_neuron], budget)
    cost = len(found[0]) * cost_head + len(found[1]) * cost_neuron
    assert budget - cost_neuron < cost <= budget
