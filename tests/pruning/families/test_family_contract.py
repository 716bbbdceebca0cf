"""What every model family has to keep: one suite, run on a tiny model of each family and task.

A new family adds its builders to `CASES` and passes.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import MAX_TOKENS, TINY_FAMILIES, plan_by_hand
from torch import Tensor

from pruning import PruningSettings, load_checkpoint, load_pruned, prune_checkpoint, save_pruned
from pruning.calibration.examples import Example
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.errors import UnsupportedModelError
from pruning.families import FAMILIES, family_of
from pruning.families.base import EncoderAdapter
from pruning.plan import LayerPlan, PruningPlan
from pruning.serving import ServingModule
from pruning.tasks import SentenceEmbedding

MakeCheckpoint = Callable[..., Path]

CASES: dict[str, dict[str, Any]] = {
    "bert classifier": {"labels": ("a", "b", "c")},
    "bert multi-label": {"problem_type": "multi_label_classification"},
    "bert regression": {"labels": ("score",), "problem_type": "regression"},
    "bert reranker": {"labels": ("score",)},
    "bert CLS embedder": {"pooling": "cls", "normalize": False},
    "bert tokens": {"head": "ForTokenClassification", "labels": ("O", "B-X", "I-X")},
    "bert answers": {"head": "ForQuestionAnswering"},
    "bert masked": {"head": "ForMaskedLM"},
    "bert odd heads": {
        "num_attention_heads": 3,
        "hidden_size": 33,
        "intermediate_size": 47,
        "num_hidden_layers": 3,
    },
    "electra with wide embeddings": {"family": "electra", "embedding_size": 32},
    "deberta-v2 with keys of its own for positions": {
        "family": "deberta-v2",
        "share_att_key": False,
        "norm_rel_ebd": "none",
        "type_vocab_size": 2,
        "position_biased_input": True,
    },
    "deberta-v2 with absolute positions alone": {
        "family": "deberta-v2",
        "relative_attention": False,
        "position_biased_input": True,
    },
    "modernbert with biases and mean pooling": {
        "family": "modernbert",
        "attention_bias": True,
        "mlp_bias": True,
        "norm_bias": True,
        "classifier_pooling": "mean",
    },
    "modernbert with global attention alone": {"family": "modernbert", "global_attn_every_n_layers": 1},
    "mpnet odd heads": {
        "family": "mpnet",
        "num_attention_heads": 3,
        "hidden_size": 33,
        "intermediate_size": 47,
        "num_hidden_layers": 3,
    },
    "roberta with token types": {"family": "roberta", "type_vocab_size": 2},
}
for family in TINY_FAMILIES:
    CASES[f"{family} classifier"] = {"family": family}
    CASES[f"{family} embedder"] = {"family": family, "pooling": "mean"}
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


def inputs(checkpoint: EncoderCheckpoint, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, checkpoint.model.config.vocab_size, (3, 11), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    mask[2, 1:] = 0
    types = checkpoint.family.token_types(checkpoint.model.config)
    given = {
        "input_ids": ids.masked_fill(mask == 0, checkpoint.tokenizer.pad_token_id),
        "attention_mask": mask,
        "token_type_ids": (torch.arange(11) > 5).long().expand(3, 11) % types,
    }
    return {name: given[name] for name in checkpoint.inputs}


def run(checkpoint: EncoderCheckpoint) -> Tensor:
    with torch.no_grad():
        return stacked(ServingModule(checkpoint)(**inputs(checkpoint)))


def stacked(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    return outputs if isinstance(outputs, Tensor) else torch.stack(outputs, dim=-1)


def run_model(checkpoint: EncoderCheckpoint, model: Any = None) -> Tensor:
    """Run a transformers model by its own forward pass."""
    given = inputs(checkpoint)
    with torch.no_grad():
        outputs = (model or checkpoint.model)(**given)
        if isinstance(checkpoint.task, SentenceEmbedding):
            pooled: Tensor = checkpoint.head(outputs.last_hidden_state, given["attention_mask"])
            return pooled
        named = tuple(outputs[output.name] for output in checkpoint.task.outputs)
        return named[0] if len(named) == 1 else stacked(named)


def tuned(adapter: EncoderAdapter, plan: PruningPlan) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """Return kept units and random projection weights for every sublayer, as tuning might give them."""
    generator = torch.Generator().manual_seed(1)
    result = []
    for sublayer in adapter.sublayers:
        layer = plan.layers[sublayer.layer]
        kept = torch.tensor(layer.heads if sublayer.kind == "attention" else layer.neurons, dtype=torch.long)
        d = sublayer.projection.out_features
        weight = torch.randn(d, len(kept) * sublayer.unit_size, generator=generator, dtype=torch.float64) / 6
        bias = torch.randn(d, generator=generator, dtype=torch.float64) / 6
        result.append((kept, weight, bias if sublayer.bias is not None else None))
    return result


def test_every_family_has_a_case() -> None:
    assert set(TINY_FAMILIES) == set(FAMILIES)


def test_the_adapter_is_the_model(folder: Path) -> None:
    checkpoint = load_checkpoint(folder)
    plain = type(checkpoint.model).from_pretrained(folder, dtype=torch.float64)
    assert torch.allclose(run(checkpoint), run_model(checkpoint, plain), atol=1e-12)
    one = {name: tensor[:1] for name, tensor in inputs(checkpoint).items()}  # nothing is padded: no mask is built
    with torch.no_grad():
        alone = stacked(checkpoint.head(checkpoint.open().encode(one), one["attention_mask"]))
    assert torch.allclose(alone, run(checkpoint)[:1], atol=1e-12)


def test_sliced_equals_masked_dense(folder: Path, layers: tuple[LayerPlan, ...], tmp_path: Path) -> None:
    dense, sliced = load_checkpoint(folder), load_checkpoint(folder)
    plan = plan_by_hand(dense, layers)
    weights = tuned(dense.open(), plan)
    for sublayer, (kept, weight, bias) in zip(dense.open().sublayers, weights, strict=True):
        full = torch.zeros_like(sublayer.projection.weight)
        full[:, sublayer.columns(kept)] = weight  # a masked unit's columns are zero
        sublayer.projection.weight.data = full
        if bias is not None:
            sublayer.projection.bias.data = bias
    for sublayer, (kept, weight, bias) in zip(sliced.open().sublayers, weights, strict=True):
        sublayer.shrink(kept, weight, bias)
    expected = run(dense)
    assert (run(sliced) - expected).abs().max() < 1e-10
    assert (run_model(sliced) - expected).abs().max() < 1e-10

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
        sublayer.shrink(torch.arange(sublayer.units), projection.weight.data, projection.bias)
    assert torch.equal(run(checkpoint), before)


def test_load_pruned_gives_the_ordinary_class(folder: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(folder)
    plan = plan_by_hand(checkpoint, (LayerPlan(heads=(0,), neurons=(1, 2)), LayerPlan(heads=(), neurons=())))
    checkpoint.open().apply_widths(plan)
    expected = run(checkpoint)
    save_pruned(checkpoint, plan, tmp_path / "pruned")
    model = load_pruned(tmp_path / "pruned")
    assert isinstance(model, type(checkpoint.model))
    assert type(model).__name__ == type(checkpoint.model).__name__
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
    whole = plan_by_hand(checkpoint, ()).layers[0]
    plan = plan_by_hand(checkpoint, (LayerPlan(heads=(), neurons=whole.neurons),))  # all sizes but one sublayer's fit
    checkpoint.open().apply_widths(plan)
    save_pruned(checkpoint, plan, tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        dense_class.from_pretrained(tmp_path)


def test_dtype_of_the_file_is_kept(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(make_checkpoint(dtype=torch.float16))
    assert checkpoint.model.dtype is torch.float32
    plan = plan_by_hand(checkpoint, (LayerPlan(heads=(0,), neurons=(1, 2)),))
    checkpoint.open().apply_widths(plan)
    save_pruned(checkpoint, plan, tmp_path)
    assert load_pruned(tmp_path).dtype is torch.float16


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_it_prunes(family: str, make_checkpoint: MakeCheckpoint, make_sentences: Callable[..., list[str]]) -> None:
    dense = load_checkpoint(make_checkpoint(family=family, num_hidden_layers=3, dtype=torch.float64))
    cut, tuned_too = load_checkpoint(dense.folder.path), load_checkpoint(dense.folder.path)
    settings = PruningSettings(flops_reduction=0.4, sequence_length=16)
    plan = prune_checkpoint(tuned_too, [Example(text) for text in make_sentences(200)], settings)
    assert 0 <= plan.flops_reduction - 0.4 < plan.costs.neuron / plan.dense_flops
    cut.open().apply_widths(plan)  # the same units with the weights that they had
    batch = dense.batches([Example(text) for text in make_sentences(80, seed=1)])[0]
    with torch.no_grad():
        tokens = [x.open().encode(batch.inputs)[batch.attention_mask.bool()] for x in (dense, cut, tuned_too)]
    expected, untuned, found = tokens
    assert (found - expected).norm() < 0.7 * (untuned - expected).norm()


def test_what_cannot_be_pruned_says_why() -> None:
    with pytest.raises(UnsupportedModelError, match="'albert', which cannot be pruned: all its layers share one set"):
        family_of("albert")


def test_what_a_familys_units_cost(make_checkpoint: MakeCheckpoint) -> None:
    deberta = load_checkpoint(make_checkpoint(family="deberta-v2")).open().shape
    assert deberta.position_rows == 2 * (2 * 8)  # both comparisons, with 8 buckets of positions to each side
    assert load_checkpoint(make_checkpoint(family="modernbert")).open().shape.ffn_matrices == 3
    assert load_checkpoint(make_checkpoint(family="mpnet")).open().shape.unit_costs(3).neuron == 4 * 32 * 3


def test_position_limits_leave_out_what_no_token_has(make_checkpoint: MakeCheckpoint) -> None:
    for family in TINY_FAMILIES:
        checkpoint = load_checkpoint(make_checkpoint(family=family))
        assert checkpoint.max_positions == MAX_TOKENS
        longest = torch.full((1, checkpoint.max_positions), 7)
        run_longest = {"input_ids": longest, "attention_mask": torch.ones_like(longest)}
        assert torch.isfinite(ServingModule(checkpoint)(**run_longest)).all()


def test_an_architecture_that_transformers_has_changed_is_refused(
    make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.bert.modeling_bert import BertLayer

    folder = make_checkpoint()
    checkpoint, forward = load_checkpoint(folder), BertLayer.forward
    whole = plan_by_hand(checkpoint, ())
    save_pruned(checkpoint, whole, folder / "pruned")
    monkeypatch.setattr(BertLayer, "forward", lambda self, hidden, *a, **k: forward(self, 1.05 * hidden, *a, **k))
    for load, path in ((load_checkpoint, folder), (load_pruned, folder / "pruned")):
        with pytest.raises(UnsupportedModelError, match=r"implements bert in another way .*hidden states differ by \d"):
            load(path)
    del checkpoint.model.bert.encoder.layer[1].attention.self.query
    with pytest.raises(UnsupportedModelError, match=r"implements bert in another way .*no attribute .query"):
        checkpoint.open()
