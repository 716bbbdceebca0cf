"""Heads run alone, on the hidden states of an encoder that they know nothing of."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from tiny_models import TINY_FAMILIES, plan_by_hand
from torch import nn

from pruning import load_checkpoint, load_pruned, save_pruned
from pruning.errors import CheckpointError, UnsupportedModelError
from pruning.heads import ModelHead, PoolerHead
from pruning.plan import LayerPlan
from pruning.serving import ServingModule
from pruning.tasks import SentenceEmbedding, Task, TokenFeatures

MakeCheckpoint = Callable[..., Path]
SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 30,
}
FAMILIES = {
    "Bert": transformers.BertConfig(**SIZES),
    "Roberta": transformers.RobertaConfig(**SIZES),
    "DistilBert": transformers.DistilBertConfig(vocab_size=40, dim=16, n_layers=1, n_heads=2, hidden_dim=20),
    "Electra": transformers.ElectraConfig(embedding_size=16, **SIZES),
    "MPNet": transformers.MPNetConfig(**SIZES),
    "DebertaV2": transformers.DebertaV2Config(pos_att_type=["p2c", "c2p"], relative_attention=True, **SIZES),
    "ModernBert": transformers.ModernBertConfig(**SIZES, pad_token_id=0, classifier_pooling="mean"),
}
HEADS = {
    "ForSequenceClassification": ("logits",),
    "ForTokenClassification": ("logits",),
    "ForQuestionAnswering": ("start_logits", "end_logits"),
    "ForMaskedLM": ("logits",),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_alone_is_the_models_own(family: str, head: str) -> None:
    """Of every family, supported yet or not: the mechanism knows none of them."""
    torch.manual_seed(0)
    model = getattr(transformers, family + head)(FAMILIES[family]).eval()
    names = set(model.state_dict())
    ids = torch.randint(5, 40, (3, 9))
    mask = (torch.arange(9) < torch.tensor([[9], [4], [1]])).long()
    alone = ModelHead(model, HEADS[head])
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask)
        found = alone(model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state, mask)
    values = found if isinstance(found, tuple) else (found,)
    for name, value in zip(HEADS[head], values, strict=True):
        assert torch.allclose(value, expected[name], atol=1e-6), name
    assert set(model.state_dict()) == names  # the model is as it was
    assert not any(isinstance(module, ModelHead) for module in model.modules())


def test_heads_follow_the_model_that_they_were_taken_from(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = load_checkpoint(make_checkpoint(head="ForTokenClassification"))
    hidden = torch.randn(1, 4, 32)
    checkpoint.model.classifier.weight.data.zero_()
    checkpoint.model.classifier.bias.data.fill_(3.0)
    assert checkpoint.head(hidden, None).unique().tolist() == [3.0]


@pytest.mark.parametrize(
    ("pooling", "kind", "name"),
    [
        ("mean", SentenceEmbedding, "sentence_embedding"),
        ("cls", SentenceEmbedding, "sentence_embedding"),
        ("pooler", SentenceEmbedding, "sentence_embedding"),
        ("none", TokenFeatures, "last_hidden_state"),
    ],
)
def test_poolings_that_can_be_chosen(
    make_checkpoint: MakeCheckpoint, pooling: str, kind: type[Task], name: str
) -> None:
    checkpoint = load_checkpoint(make_checkpoint(head=""), pooling=pooling)
    assert (type(checkpoint.task), checkpoint.task.outputs[0].name, checkpoint.pooling) == (kind, name, pooling)
    ids = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]])
    mask = (ids != 0).long()
    with torch.no_grad():
        outputs = checkpoint.model(input_ids=ids, attention_mask=mask)
        found = checkpoint.head(outputs.last_hidden_state, mask)
    tokens = outputs.last_hidden_state
    expected = {
        "mean": torch.stack([tokens[0].mean(0), tokens[1, :3].mean(0)]),
        "cls": tokens[:, 0],
        "pooler": outputs.pooler_output,
        "none": tokens,
    }
    assert torch.allclose(found, expected[pooling], atol=1e-6)


def test_a_pooler_that_is_not_there() -> None:
    encoder = nn.Module()
    encoder.pooler = None
    with pytest.raises(UnsupportedModelError, match="has no pooler, .*: choose --pooling mean, cls or none"):
        PoolerHead(encoder)


def test_masks_need_a_mask_token(make_checkpoint: MakeCheckpoint) -> None:
    folder = make_checkpoint(head="ForMaskedLM")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(CheckpointError, match="has no mask token"):
        load_checkpoint(folder)


def test_questions_need_two_numbers_a_token(make_checkpoint: MakeCheckpoint) -> None:
    folder = make_checkpoint(head="ForQuestionAnswering", labels=("a", "b", "c"))
    with pytest.raises(UnsupportedModelError, match="answers questions with 3 numbers a token, where two are expected"):
        load_checkpoint(folder)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_tied_weights_are_tied_again(family: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """A masked language model's file holds the word embeddings once, though its head reads them too."""
    checkpoint = load_checkpoint(make_checkpoint(family=family, head="ForMaskedLM"))
    plan = plan_by_hand(checkpoint, (LayerPlan(heads=(0, 2), neurons=tuple(range(9))),))
    checkpoint.open().apply_widths(plan)
    ids = torch.randint(5, 40, (2, 7))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        expected = ServingModule(checkpoint)(ids, mask)
        save_pruned(checkpoint, plan, tmp_path)
        assert torch.allclose(ServingModule(load_checkpoint(tmp_path))(ids, mask), expected, atol=1e-6)
    model = load_pruned(tmp_path)
    words = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is words
    assert words.requires_grad
