from collections.abc import Callable
from pathlib import Path

import torch

from pruning import load_checkpoint
from pruning.methods.base import PruningRun
from pruning.methods.baselines import Magnitude, Random, weight_energy
from pruning.methods.unit_weights import incoming_weights, outgoing_weights
from pruning.plan import LayerPlan
from pruning.settings import PruningSettings


def test_weight_energy_by_hand() -> None:
    incoming = torch.tensor([[1.0, 2.0], [0.0, -3.0]])
    outgoing = torch.tensor([[2.0], [1.0]])
    assert weight_energy(incoming, outgoing).tolist() == [1 + 4 + 4, 9 + 1]


def test_a_head_has_its_rows_of_three_matrices_and_its_columns_of_one(classifier: Path) -> None:
    adapter = load_checkpoint(classifier).open()
    attention = adapter.sublayers[0]
    bert = adapter.encoder.encoder.layer[0].attention
    rows = slice(16, 24)  # the third of four heads of size 8
    energy = sum(
        float(layer.weight[rows].double().square().sum()) for layer in (bert.self.query, bert.self.key, bert.self.value)
    )
    assert abs(float(incoming_weights(attention)[2].double().square().sum()) - energy) < 1e-9
    columns = bert.output.dense.weight[:, rows].double().square().sum()
    assert abs(float(outgoing_weights(attention)[2].double().square().sum()) - float(columns)) < 1e-9


def test_fused_linears_have_several_rows_for_a_unit(make_checkpoint: Callable[..., Path]) -> None:
    adapter = load_checkpoint(make_checkpoint(family="modernbert")).open()
    attention, ffn = adapter.sublayers[:2]
    wide = attention.module.attn.Wqkv.weight  # query, key and value of all heads, one under the other
    rows = [row for part in range(3) for row in range(part * 32 + 8, part * 32 + 16)]
    assert torch.equal(incoming_weights(attention)[1].sort().values, wide[rows].flatten().sort().values)
    gated = ffn.module.mlp.Wi.weight
    assert torch.equal(incoming_weights(ffn)[5], torch.cat((gated[5], gated[5 + ffn.units])))


def pruned(folder: Path, method: Magnitude | Random, reduction: float, seed: int = 0) -> tuple[LayerPlan, ...]:
    settings = PruningSettings(flops_reduction=reduction, sequence_length=16, seed=seed)
    return method.prune(PruningRun(load_checkpoint(folder).open(), (), settings))


def test_magnitude_drops_the_smallest_and_keeps_the_weights(classifier: Path) -> None:
    checkpoint = load_checkpoint(classifier)
    adapter = checkpoint.open()
    with torch.no_grad():  # every neuron is larger than every head, but for three
        for layer in adapter.encoder.encoder.layer:
            layer.output.dense.weight.mul_(100)
        for neuron in (5, 7, 40):
            adapter.encoder.encoder.layer[1].intermediate.dense.weight[neuron] = 0
            adapter.encoder.encoder.layer[1].output.dense.weight[:, neuron] = 0
    before = adapter.encoder.encoder.layer[1].output.dense.weight.clone()
    dense_flops, neuron = 2 * (4 * 40960 + 48 * 2048), 2048  # heads of size 8, 32 wide, 16 tokens
    settings = PruningSettings(flops_reduction=3 * neuron / dense_flops, sequence_length=16)
    layers = Magnitude().prune(PruningRun(adapter, (), settings))
    assert layers[1].neurons == tuple(x for x in range(48) if x not in (5, 7, 40))
    assert [len(x.heads) for x in layers] == [4, 4]
    assert torch.equal(adapter.encoder.encoder.layer[1].output.dense.weight, before[:, list(layers[1].neurons)])


def test_the_seed_decides_the_lot(classifier: Path) -> None:
    first, same, other = (pruned(classifier, Random(), 0.5, seed) for seed in (0, 0, 1))
    assert first == same
    assert first != other
