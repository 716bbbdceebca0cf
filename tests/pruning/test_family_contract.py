"""What every model family has to keep: one suite, run on a tiny model of each family and task.

A new family adds its builders to `CASES` and passes.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pruning import load_checkpoint, load_pruned, save_pruned
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.families import FAMILIES
from pruning.families.base import EncoderAdapter
from pruning.plan import CalibrationRecord, LayerPlan, MethodRecord, PruningPlan
from pruning.serving import ServingModule

MakeCheckpoint = Callable[..., Path]

CASES = {
    "bert-classifier": {"labels": ("a", "b", "c")},
    "bert-multi-label": {"problem_type": "multi_label_classification"},
    "bert-regression": {"labels": ("score",)},
    "bert-mean-embedder": {"pooling": "mean"},
    "bert-cls-embedder": {"pooling": "cls", "normalize": False},
    "bert-odd-heads": {
        "num_attention_heads": 3,
        "hidden_size": 33,
        "intermediate_size": 47,
        "num_hidden_layers": 3,
    },
}
PLANS = {
    "heterogeneous": (((0, 2), tuple(range(0, 40, 3))), ((1,), tuple(range(5, 30)))),
    "emptied attention": (((), (0, 7, 9)), ((0, 1, 2), tuple(range(47)))),
    "emptied FFN": (((2,), ()), ((1, 2), (4,))),
    "all but one neuron emptied": (((), ()), ((), (3,))),
}


@pytest.fixture(params=CASES, scope="module")
def folder(request: pytest.FixtureRequest, make_checkpoint: MakeCheckpoint) -> Path:
    return make_checkpoint(dtype=torch.float64, **CASES[request.param])


@pytest.fixture(params=PLANS)
def layers(request: pytest.FixtureRequest) -> tuple[LayerPlan, ...]:
    return tuple(LayerPlan(heads=heads, neurons=neurons) for heads, neurons in PLANS[request.param])


def plan_for(checkpoint: EncoderCheckpoint, layers: tuple[LayerPlan, ...]) -> PruningPlan:
    shape = checkpoint.open().shape
    whole = LayerPlan(heads=tuple(range(shape.heads)), neurons=tuple(range(shape.neurons)))
    return PruningPlan(
        family=checkpoint.family.name,
        shape=shape,
        sequence_length=16,
        requested_reduction=0.5,
        source_sha256=checkpoint.folder.weights_sha256(),
        method=MethodRecord(name="by hand", parameters={}),
        calibration=CalibrationRecord(texts=1, tokens=1, sha256="0" * 64, seed=0),
        layers=layers + (whole,) * (shape.layers - len(layers)),
    )


def inputs(checkpoint: EncoderCheckpoint, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, checkpoint.model.config.vocab_size, (3, 11), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    mask[2, 1:] = 0
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": (torch.arange(11) > 5).long().expand(3, 11),
    }


def run(checkpoint: EncoderCheckpoint) -> Tensor:
    with torch.no_grad():
        output: Tensor = ServingModule(checkpoint)(**inputs(checkpoint))
    return output


def run_sublayers(checkpoint: EncoderCheckpoint) -> Tensor:
    adapter, given = checkpoint.open(), inputs(checkpoint)
    with torch.no_grad():
        context = adapter.context(given["attention_mask"])
        hidden = adapter.embed(given)
        for sublayer in adapter.sublayers:
            hidden = sublayer.forward(hidden, context)
        return adapter.output(hidden, context)


def tuned(adapter: EncoderAdapter, plan: PruningPlan) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return kept units and random projection weights for every sublayer, as tuning might give them."""
    generator = torch.Generator().manual_seed(1)
    result = []
    for sublayer in adapter.sublayers:
        layer = plan.layers[sublayer.layer]
        kept = torch.tensor(layer.heads if sublayer.kind == "attention" else layer.neurons, dtype=torch.long)
        d = sublayer.projection.out_features
        weight = torch.randn(d, len(kept) * sublayer.unit_size, generator=generator, dtype=torch.float64) / 6
        result.append((kept, weight, torch.randn(d, generator=generator, dtype=torch.float64) / 6))
    return result


def test_every_family_has_a_case() -> None:
    assert {name.split("-")[0] for name in CASES} == set(FAMILIES)


def test_the_adapter_is_the_model(folder: Path) -> None:
    checkpoint = load_checkpoint(folder)
    assert torch.allclose(run(checkpoint), run_sublayers(checkpoint), atol=1e-12)
    given = inputs(checkpoint)
    with torch.no_grad():
        plain = checkpoint.model(**given)
    if checkpoint.sentence_head is None:
        assert torch.allclose(plain.logits, run(checkpoint), atol=1e-12)
    else:
        pooled = checkpoint.sentence_head(plain.last_hidden_state, given["attention_mask"])
        assert torch.allclose(pooled, run(checkpoint), atol=1e-12)


def test_sliced_equals_masked_dense(folder: Path, layers: tuple[LayerPlan, ...], tmp_path: Path) -> None:
    dense, sliced = load_checkpoint(folder), load_checkpoint(folder)
    plan = plan_for(dense, layers)
    weights = tuned(dense.open(), plan)
    for sublayer, (kept, weight, bias) in zip(dense.open().sublayers, weights, strict=True):
        full = torch.zeros_like(sublayer.projection.weight)
        full[:, sublayer.columns(kept)] = weight  # a masked unit's columns are zero
        sublayer.projection.weight.data, sublayer.projection.bias.data = full, bias
    for sublayer, (kept, weight, bias) in zip(sliced.open().sublayers, weights, strict=True):
        sublayer.shrink(kept, weight, bias)
    expected = run(dense)
    assert (run(sliced) - expected).abs().max() < 1e-10
    assert (run_sublayers(sliced) - expected).abs().max() < 1e-10

    save_pruned(sliced, plan, tmp_path)
    again = load_checkpoint(tmp_path)
    assert again.plan == plan
    assert (run(again) - expected).abs().max() < 1e-10
    units = [sublayer.units for sublayer in again.open().sublayers]
    assert units == [len(kept) for kept, _, _ in weights]


def test_removing_nothing_changes_nothing(folder: Path) -> None:
    checkpoint = load_checkpoint(folder)
    before = run(checkpoint)
    for sublayer in checkpoint.open().sublayers:
        projection = copy.deepcopy(sublayer.projection)
        sublayer.shrink(torch.arange(sublayer.units), projection.weight.data, projection.bias.data)
    assert torch.equal(run(checkpoint), before)


def test_load_pruned_gives_the_ordinary_class(folder: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(folder)
    plan = plan_for(checkpoint, (LayerPlan(heads=(0,), neurons=(1, 2)), LayerPlan(heads=(), neurons=())))
    checkpoint.open().apply_widths(plan)
    expected = run(checkpoint)
    save_pruned(checkpoint, plan, tmp_path / "pruned")
    model = load_pruned(tmp_path / "pruned")
    assert type(model) is type(checkpoint.model)
    assert model.dtype is torch.float64
    trained = [p for n, p in model.named_parameters() if p.numel()]
    assert all(p.requires_grad for p in trained)
    model.save_pretrained(tmp_path / "again")  # as Trainer does; the tokenizer and the pooling stay behind
    assert torch.equal(
        torch.cat([p.flatten() for p in load_pruned(tmp_path / "again").parameters()]),
        torch.cat([p.flatten() for p in model.parameters()]),
    )
    assert (run(load_checkpoint(tmp_path / "pruned")) - expected).abs().max() < 1e-10


def test_a_pruned_checkpoint_does_not_pass_for_a_dense_one(folder: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(folder)
    dense_class = type(checkpoint.model)
    whole = plan_for(checkpoint, ()).layers[0]
    plan = plan_for(checkpoint, (LayerPlan(heads=(), neurons=whole.neurons),))  # all sizes but one sublayer's fit
    checkpoint.open().apply_widths(plan)
    save_pruned(checkpoint, plan, tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        dense_class.from_pretrained(tmp_path)


def test_dtype_of_the_file_is_kept(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(make_checkpoint(dtype=torch.float16))
    assert checkpoint.model.dtype is torch.float32
    plan = plan_for(checkpoint, (LayerPlan(heads=(0,), neurons=(1, 2)),))
    checkpoint.open().apply_widths(plan)
    save_pruned(checkpoint, plan, tmp_path)
    assert load_pruned(tmp_path).dtype is torch.float16
