import math
from pathlib import Path

import pytest
import torch

from pruning import load_checkpoint
from pruning.calibration.batches import Batch
from pruning.errors import BudgetError
from pruning.methods.base import PruningRun
from pruning.methods.kcm2023.method import KernelisedConvexMasking
from pruning.methods.kcm2023.scores import activation_norms, combined_scores, gaussian_kernel, representation
from pruning.settings import PruningSettings

SHARE = 2 * 48 * 2048 / (2 * 48 * 2048 + 2 * 4 * 40960)  # of the FFNs: 32 wide, 48 neurons, heads of 8, 16 tokens


def test_the_kernel_by_hand() -> None:
    kernel = gaussian_kernel(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]).double(), width=5.0)
    far = math.exp(-0.5)  # 25 / 2·25
    assert torch.allclose(kernel, torch.tensor([[1, far, 1], [far, 1, far], [1, far, 1]]).double())


def test_units_that_nothing_resembles_stand_for_themselves_and_equals_share() -> None:
    kernel = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).double()
    assert torch.allclose(representation(kernel, 1e-9), torch.tensor([0.5, 0.5, 1.0]).double(), atol=1e-6)
    assert representation(torch.eye(4).double(), 1e-9).tolist() == pytest.approx([1.0] * 4)


def test_the_first_update_by_hand() -> None:
    # from shares of ½: KC is ½·(1 + k) everywhere, so C_ii becomes ½·√(1 / ½(1 + k)) and stays there at once
    k = 0.28
    kernel = torch.tensor([[1.0, k], [k, 1.0]]).double()
    assert float(representation(kernel, convergence=1e9)[0]) == pytest.approx(0.5 * math.sqrt(2 / (1 + k)))  # 0.625


def test_a_unit_in_the_middle_of_others_is_worth_less_than_those_around_it() -> None:
    filters = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).double()
    scores = representation(gaussian_kernel(filters))
    assert float(scores[0]) < float(scores[1:].min())
    assert torch.allclose(scores[1:], scores[1].expand(4))


def test_activation_norms_by_hand() -> None:
    features = torch.tensor([[[3.0, 1.0], [4.0, 0.0]], [[2.0, 5.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1], [1, 0]])
    assert activation_norms(features, mask).tolist() == [5 + 2, 1 + 5]


def test_scores_are_relative_to_their_sublayer() -> None:
    assert combined_scores(torch.tensor([1.0, 3.0]), torch.tensor([6.0, 2.0])).tolist() == [0.75, 0.75]
    assert combined_scores(torch.tensor([10.0, 30.0]), torch.tensor([0.6, 0.2])).tolist() == pytest.approx([0.75, 0.75])
    assert combined_scores(torch.tensor([1.0, 2.0]), torch.zeros(2)).tolist() == [0, 0]


def test_heads_stay_and_silent_neurons_go(classifier: Path, batches: tuple[Batch, ...]) -> None:
    adapter = load_checkpoint(classifier).open()
    silent = [4, 9, 33]
    layer = adapter.encoder.encoder.layer[1]
    with torch.no_grad():
        layer.intermediate.dense.weight[silent] = 0
        layer.intermediate.dense.bias[silent] = 0
    settings = PruningSettings(flops_reduction=SHARE * 3 / 96, sequence_length=16)
    layers = KernelisedConvexMasking().prune(PruningRun(adapter, batches, settings))
    assert [len(x.heads) for x in layers] == [4, 4]
    assert layers[1].neurons == tuple(x for x in range(48) if x not in silent)


def test_one_of_two_equal_neurons_goes_before_single_ones(classifier: Path, batches: tuple[Batch, ...]) -> None:
    adapter = load_checkpoint(classifier).open()
    for sublayer in adapter.sublayers[1::2]:  # all neurons as active as each other, and apart
        first = sublayer.module.intermediate.dense
        with torch.no_grad():
            first.weight.copy_(5 * torch.nn.functional.normalize(first.weight, dim=1))
            first.weight[7] = first.weight[20]
            first.bias.fill_(0.1)
    settings = PruningSettings(flops_reduction=SHARE * 0.1, sequence_length=16)

    class EquallyActive(KernelisedConvexMasking):
        def _activation_norms(self, run: PruningRun, work: object) -> dict[int, torch.Tensor]:
            return {number: torch.ones(48, dtype=torch.float64) for number in (1, 3)}

    layers = EquallyActive().prune(PruningRun(adapter, batches, settings))
    for layer in layers:
        assert 7 not in layer.neurons
        assert 20 not in layer.neurons


def test_a_budget_beyond_the_ffns_is_refused(classifier: Path, batches: tuple[Batch, ...]) -> None:
    method, adapter = KernelisedConvexMasking(), load_checkpoint(classifier).open()
    within = PruningSettings(flops_reduction=SHARE - 1e-9, sequence_length=16)
    assert sum(len(x.neurons) for x in method.prune(PruningRun(adapter, batches, within))) == 0
    beyond = PruningSettings(flops_reduction=SHARE + 1e-3, sequence_length=16)
    with pytest.raises(BudgetError, match=r"removes FFN neurons only, which are 37\.5% .* at most 0\.375, or choose"):
        method.prune(PruningRun(load_checkpoint(classifier).open(), batches, beyond))
