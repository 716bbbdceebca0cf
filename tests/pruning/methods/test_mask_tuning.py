from pathlib import Path

import pytest
import torch
from torch import Tensor

from pruning import load_checkpoint
from pruning.calibration.batches import Batch
from pruning.errors import SolveError
from pruning.methods import mask_tuning
from pruning.methods.base import PruningRun, Work
from pruning.methods.journal import Journal
from pruning.methods.least_squares import NormalEquations
from pruning.methods.mask_tuning import mask_equations, solve_masks, tune_masks_upward
from pruning.settings import PruningSettings

SETTINGS = PruningSettings(flops_reduction=0.5, sequence_length=16)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("unit_size", [1, 2])
def test_equations_are_those_of_the_contributions_written_out(unit_size: int) -> None:
    features, target, weight = normal(9, 6), normal(9, 4, seed=1), normal(4, 6, seed=2)
    problem = NormalEquations(6, 4, bias=False)
    problem.add(features, target)
    by_unit = [
        (features[:, i : i + unit_size] @ weight[:, i : i + unit_size].T).flatten() for i in range(0, 6, unit_size)
    ]
    contributions = torch.stack(by_unit, dim=1)  # (tokens·d, units)
    matrix, right = mask_equations(problem, weight, unit_size)
    assert torch.allclose(matrix, contributions.T @ contributions)
    assert torch.allclose(right, contributions.T @ target.flatten())


def test_masks_by_hand() -> None:
    # one unit that gives 2 where 6 is wanted: (2·6 + damping²) / (2·2 + damping²)
    matrix, right = torch.tensor([[4.0]]).double(), torch.tensor([12.0]).double()
    assert float(solve_masks(matrix, right, damping=1e-9)) == pytest.approx(3.0)
    assert float(solve_masks(matrix, right, damping=1.0)) == pytest.approx(13 / 5)
    assert float(solve_masks(matrix, right, damping=1e9)) == pytest.approx(1.0)
    assert solve_masks(torch.zeros(2, 2).double(), torch.zeros(2).double()).tolist() == [1, 1]  # silent units stay
    assert solve_masks(torch.zeros(0, 0).double(), torch.zeros(0).double()).tolist() == []
    with pytest.raises(SolveError, match="2 masks has no finite solution"):
        solve_masks(torch.full((2, 2), torch.nan).double(), torch.zeros(2).double())


def everything(folder: Path) -> tuple[PruningRun, list[Tensor]]:
    adapter = load_checkpoint(folder).open()
    return PruningRun(adapter, (), SETTINGS), [torch.arange(x.units) for x in adapter.sublayers]


def test_nothing_is_scaled_where_nothing_is_removed(classifier: Path, batches: tuple[Batch, ...]) -> None:
    run, kept = everything(classifier)
    before = {name: value.clone() for name, value in run.adapter.model.state_dict().items()}
    tune_masks_upward(PruningRun(run.adapter, batches, SETTINGS), kept, Work(1, lambda _: None))
    for name, value in run.adapter.model.state_dict().items():
        assert torch.allclose(value, before[name], rtol=1e-3, atol=1e-5), name


def test_a_duplicate_takes_over_for_the_one_that_is_removed(classifier: Path, batches: tuple[Batch, ...]) -> None:
    """Of two equal neurons one is removed: the other's mask becomes 2, and the model is as before."""
    run, kept = everything(classifier)
    layer = run.adapter.encoder.encoder.layer[0]
    with torch.no_grad():
        layer.intermediate.dense.weight[1] = layer.intermediate.dense.weight[0]
        layer.intermediate.dense.bias[1] = layer.intermediate.dense.bias[0]
        layer.output.dense.weight[:, 1] = layer.output.dense.weight[:, 0]
    before = layer.output.dense.weight[:, 0].clone()
    kept[1] = kept[1][1:]
    tune_masks_upward(PruningRun(run.adapter, batches, SETTINGS), kept, Work(1, lambda _: None))
    after = layer.output.dense.weight[:, 0]
    assert torch.allclose(after, 2 * before, rtol=0.02)


@pytest.mark.parametrize("resumed", [False, True])
def test_masks_out_of_bounds_end_the_tuning_there(
    resumed: bool, classifier: Path, batches: tuple[Batch, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lowest FFN's masks are refused: it and all above keep their weights, also when a killed run resumes."""
    calls: list[int] = []

    def solve(matrix: Tensor, right: Tensor) -> Tensor:
        calls.append(len(right))
        masks = torch.full_like(right, 3.0)
        if len(calls) == 2:
            masks[0] = -10.5
        return masks

    monkeypatch.setattr(mask_tuning, "solve_masks", solve)
    journal = Journal(tmp_path, "run")
    for _ in range(2 if resumed else 1):
        run, kept = everything(classifier)
        before = [x.projection.weight.clone() for x in run.adapter.sublayers]
        tune_masks_upward(PruningRun(run.adapter, batches, SETTINGS, journal=journal), kept, Work(1, lambda _: None))
        after = [x.projection.weight for x in run.adapter.sublayers]
        assert torch.allclose(after[0], 3 * before[0])
        assert all(torch.equal(a, b) for a, b in zip(after[1:], before[1:], strict=True))
        for number in (2, 3):
            (tmp_path / f"sublayer-{number:03d}.safetensors").unlink()
    assert calls == [4, 48]
