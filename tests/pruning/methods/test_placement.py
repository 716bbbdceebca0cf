from pathlib import Path

import pytest
import torch

from pruning import PruningSettings, load_checkpoint, prune_checkpoint
from pruning.calibration.batches import Batch
from pruning.calibration.examples import Example
from pruning.errors import DeviceError, DeviceMissingError
from pruning.methods.boundary import HiddenStates
from pruning.methods.placement import CPU, Placement, placement_on

OFFLOADED = Placement(torch.device("cpu", 0), torch.device("cpu"))
"""Two names for one place: everything moves as it would to a GPU and back."""
IN_BF16 = Placement(torch.device("cpu"), torch.device("cpu"), torch.bfloat16)


@pytest.mark.parametrize("method", ["kprune", "kwon2022", "kcm2023"])
def test_offloading_changes_nothing(
    method: str, classifier: Path, texts: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = PruningSettings(flops_reduction=0.3, sequence_length=16, method=method)
    expected = load_checkpoint(classifier)
    plan = prune_checkpoint(expected, texts, settings)
    held, most = set[int](), 0
    place = torch.nn.Module.to

    def watched(self: torch.nn.Module, device: torch.device) -> torch.nn.Module:
        nonlocal most
        held.add(id(self)) if device == OFFLOADED.device else held.discard(id(self))
        most = max(most, len(held))
        return place(self, device)

    checkpoint = load_checkpoint(classifier)
    layers = {id(layer) for layer in checkpoint.model.bert.encoder.layer}
    monkeypatch.setattr(torch.nn.Module, "to", watched)
    assert prune_checkpoint(checkpoint, texts, settings, OFFLOADED) == plan
    assert most == 1  # never more than one layer, whatever the depth
    assert len(layers) == 2
    weights = expected.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in checkpoint.model.state_dict().items())


def test_a_layer_that_fails_does_not_stay_on_the_device(classifier: Path) -> None:
    sublayer = load_checkpoint(classifier).open().sublayers[0]
    with pytest.raises(RuntimeError, match="as if"), OFFLOADED.layer(sublayer):
        raise RuntimeError("as if the device had run out of memory")
    assert sublayer.projection.weight.device == torch.device("cpu")


def test_in_bf16_only_the_network_runs_in_bf16(classifier: Path, batches: tuple[Batch, ...]) -> None:
    adapter = load_checkpoint(classifier).open()
    exact, rough = (HiddenStates.at_embeddings(adapter, batches, x) for x in (CPU, IN_BF16))
    for sublayer in adapter.sublayers:
        assert rough.features(0, sublayer).dtype is torch.bfloat16
        for states in (exact, rough):
            states.advance(0, sublayer)
    difference = (exact.hidden[0] - rough.hidden[0]).abs().max() / exact.hidden[0].abs().max()
    assert rough.hidden[0].dtype is torch.float32
    assert 1e-5 < float(difference) < 0.03
    with IN_BF16.network():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32


@pytest.mark.parametrize(("method", "reduction"), [("kprune", 0.5), ("kwon2022", 0.5), ("kcm2023", 0.2)])
def test_a_plan_in_bf16_is_nearly_that_in_float32(
    method: str, reduction: float, classifier: Path, texts: list[Example]
) -> None:
    settings = PruningSettings(flops_reduction=reduction, sequence_length=16, method=method)
    plans = [prune_checkpoint(load_checkpoint(classifier), texts, settings, x) for x in (CPU, IN_BF16)]
    assert abs(plans[0].flops_reduction - plans[1].flops_reduction) < 0.01
    for exact, rough in zip(plans[0].layers, plans[1].layers, strict=True):
        assert len(set(exact.neurons) ^ set(rough.neurons)) <= 0.25 * 48
        assert abs(len(exact.heads) - len(rough.heads)) <= 1


def test_devices_that_are_not_there(classifier: Path, texts: list[Example]) -> None:
    assert placement_on("cpu", offload=False) == CPU
    with pytest.raises(DeviceError, match="'gpu' is not a device: use cpu, cuda, cuda:N or auto"):
        placement_on("gpu", offload=False)
    with pytest.raises(DeviceError, match="runs on cpu and cuda, not on 'meta'"):
        placement_on("meta", offload=False)
    with pytest.raises(DeviceError, match="--offload keeps one layer at a time on a GPU, but the device is the CPU"):
        placement_on("cpu", offload=True)
    with pytest.raises(DeviceMissingError, match="--device cuda:99 needs a CUDA GPU, but torch .* sees"):
        placement_on("cuda:99", offload=False)
    settings = PruningSettings(flops_reduction=0.5, method="kprune-paper")
    with pytest.raises(DeviceError, match="kprune-paper runs backward through all layers at once"):
        prune_checkpoint(load_checkpoint(classifier), texts, settings, OFFLOADED)


@pytest.mark.gpu
@pytest.mark.parametrize("offload", [False, True])
def test_on_a_gpu(offload: bool, classifier: Path, texts: list[Example]) -> None:
    settings = PruningSettings(flops_reduction=0.5, sequence_length=16)
    checkpoint = load_checkpoint(classifier)
    plan = prune_checkpoint(checkpoint, texts, settings, placement_on("cuda", offload))
    on_cpu = prune_checkpoint(load_checkpoint(classifier), texts, settings)
    assert abs(plan.flops_reduction - on_cpu.flops_reduction) < 0.01
    assert {value.device.type for value in checkpoint.model.state_dict().values()} == {"cpu"}
