from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning import load_checkpoint
from pruning.calibration.batches import Batch
from pruning.flops import UnitCosts
from pruning.methods.base import PruningRun
from pruning.methods.disk_store import Spill
from pruning.methods.kwon2022.fisher import fisher_block, fisher_diagonal, mask_gradients, text_gradients
from pruning.methods.kwon2022.method import FisherMasks
from pruning.methods.kwon2022.search import rearrange, search_masks
from pruning.methods.placement import CPU
from pruning.settings import PruningSettings


def test_mask_gradients_by_hand() -> None:
    features = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]])
    gradient = torch.tensor([[[1.0, 0.0, 2.0, 0.0], [0.0, 1.0, 0.0, -1.0]]])
    assert mask_gradients(features, gradient, 2).tolist() == [[1 + 6, 6 - 8]]
    assert mask_gradients(features, gradient, 1).tolist() == [[1, 6, 6, -8]]


def test_fisher_by_hand() -> None:
    gradients = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    assert fisher_block(gradients).tolist() == [[10, -1], [-1, 5]]
    assert fisher_diagonal(gradients).tolist() == [10, 5]


def test_gradients_are_those_of_explicit_masks(classifier: Path, batches: tuple[Batch, ...]) -> None:
    adapter = load_checkpoint(classifier).open()
    found = text_gradients(adapter, batches[:2], CPU, Spill(), lambda _: None)
    expected: list[list[torch.Tensor]] = [[] for _ in adapter.sublayers]
    for batch in batches[:2]:
        context = adapter.context(batch.attention_mask, batch.counted)
        masks = [torch.ones(len(batch.rows), x.units, requires_grad=True) for x in adapter.sublayers]
        hidden = adapter.embed(batch.inputs)
        for sublayer, mask in zip(adapter.sublayers, masks, strict=True):
            features = sublayer.features(hidden, context) * mask.repeat_interleave(sublayer.unit_size, 1)[:, None]
            hidden = sublayer.finish(hidden + sublayer.projection(features))
        generator = torch.Generator().manual_seed(batch.rows[0])
        adapter.sampled_likelihood(adapter.output(hidden, context), context, generator).backward()
        for gradients, mask in zip(expected, masks, strict=True):
            assert mask.grad is not None
            gradients.append(mask.grad)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, torch.cat(theirs), rtol=1e-3, atol=1e-5)
        assert float(ours.abs().max()) > 0


def search(heads: list[float], neurons: list[float], head: int, neuron: int, budget: int) -> list[list[int]]:
    return [
        x.tolist() for x in search_masks(torch.tensor(heads), torch.tensor(neurons), UnitCosts(head, neuron), budget)
    ]


def test_the_search_weighs_a_head_against_the_neurons_that_it_costs() -> None:
    # 60 pays for two heads of 30, a head and three neurons of 10, or all four neurons (and 20 unspent)
    assert search([5.0, 9.0], [1.0, 4.0, 3.0, 2.0], 30, 10, 60) == [[1], [1, 2, 3]]  # 5 + 1 lost
    assert search([8.0, 9.0], [1.0, 2.0, 1.5, 2.0], 30, 10, 60) == [[0, 1], []]  # 6.5 lost; one head: 8 + 1
    assert search([1.0, 2.0], [9.0, 9.0, 9.0, 9.0, 9.0, 9.0], 30, 10, 60) == [[], [0, 1, 2, 3, 4, 5]]


def test_flops_are_not_left_over_because_all_neurons_stay() -> None:
    # without heads all three neurons stay and 25 of 55 would be left; with one head two neurons stay, and 5
    assert search([1.0], [5.0, 9.0, 7.0], 30, 10, 55) == [[0], [1, 2]]


def test_a_budget_for_everything_keeps_everything() -> None:
    assert search([0.0], [0.0] * 6, 24, 7, 73) == [[0], [0, 1, 2, 3, 4, 5]]


@settings(max_examples=100)
@given(
    heads=st.lists(st.integers(0, 20), min_size=1, max_size=4),
    neurons=st.lists(st.integers(0, 20), min_size=6, max_size=8),
    budget=st.integers(7, 100),
)
def test_no_other_choice_that_spends_the_budget_loses_less(heads: list[int], neurons: list[int], budget: int) -> None:
    costs = UnitCosts(24, 7)
    kept_heads, kept_neurons = search([float(x) for x in heads], [float(x) for x in neurons], 24, 7, budget)
    spent = len(kept_heads) * costs.head + len(kept_neurons) * costs.neuron
    everything = len(heads) * costs.head + len(neurons) * costs.neuron
    assert spent <= budget
    assert budget - spent < costs.neuron or spent == everything
    worth = sum(heads[i] for i in kept_heads) + sum(neurons[i] for i in kept_neurons)
    for n in range(len(heads) + 1):
        for k in range(len(neurons) + 1):
            cost = n * costs.head + k * costs.neuron
            if budget - costs.neuron < cost <= budget:
                assert sum(sorted(heads)[len(heads) - n :]) + sum(sorted(neurons)[len(neurons) - k :]) <= worth


def test_two_units_that_stand_in_for_each_other_are_not_both_removed() -> None:
    # units 0 and 1 do the same: removing both costs 1 + 1 + 2·1 = 4, removing 1 and 2 only 1 + 1.5
    information = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.5, 0.0], [0.0, 0.0, 0.0, 9.0]])
    assert rearrange(information.double(), torch.tensor([2, 3])).tolist() == [0, 3]
    assert rearrange(torch.eye(4).double(), torch.tensor([2, 3])).tolist() == [2, 3]  # nothing is better
    assert rearrange(information, torch.tensor([], dtype=torch.long)).tolist() == []
    assert rearrange(information, torch.arange(4)).tolist() == [0, 1, 2, 3]


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), units=st.integers(2, 7), share=st.floats(0.1, 0.9))
def test_rearranging_never_costs_more(seed: int, units: int, share: float) -> None:
    rows = torch.randn(5, units, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    information = rows.T @ rows
    kept = information.diagonal().argsort(descending=True)[: max(1, int(share * units))]
    new = rearrange(information, kept)
    assert new.tolist() == sorted(set(new.tolist()))
    assert len(new) == len(kept)

    def lost(kept: torch.Tensor) -> float:
        gone = torch.ones(units, dtype=torch.float64)
        gone[kept] = 0
        return float(gone @ information @ gone)

    assert lost(new) <= lost(kept) + 1e-9


def test_units_that_do_nothing_go_first(classifier: Path, batches: tuple[Batch, ...]) -> None:
    adapter = load_checkpoint(classifier).open()
    idle = [3, 11, 30]
    with torch.no_grad():
        adapter.encoder.encoder.layer[0].output.dense.weight[:, idle] = 0
    run = PruningSettings(flops_reduction=3 * 2048 / (2 * (4 * 40960 + 48 * 2048)), sequence_length=16)
    layers = FisherMasks().prune(PruningRun(adapter, batches, run))
    assert layers[0].neurons == tuple(x for x in range(48) if x not in idle)
    assert len(layers[1].neurons) == 48


@pytest.mark.parametrize("reduction", [0.3, 0.6])
def test_it_differs_from_random_and_keeps_more_of_the_information(
    reduction: float, classifier: Path, batches: tuple[Batch, ...]
) -> None:
    """Over all sublayers, the units kept hold more Fisher information for each FLOP than those that go."""
    adapter = load_checkpoint(classifier).open()
    importance = [fisher_diagonal(x) for x in text_gradients(adapter, batches, CPU, Spill(), lambda _: None)]
    settings = PruningSettings(flops_reduction=reduction, sequence_length=16)
    layers = FisherMasks().prune(PruningRun(adapter, batches, settings))
    for kind, offset in (("heads", 0), ("neurons", 1)):
        kept, gone = [], []
        for number, layer in enumerate(layers):
            for unit, value in enumerate(importance[2 * number + offset].tolist()):
                (kept if unit in getattr(layer, kind) else gone).append(value)
        if kept and gone:
            assert sum(kept) / len(kept) > sum(gone) / len(gone)
