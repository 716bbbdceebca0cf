"""Tiny checkpoints of every supported architecture, built from configurations, with tokenizers of their own kind."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from pruning.checkpoint.load import EncoderCheckpoint
from pruning.plan import CalibrationRecord, LayerPlan, MethodRecord, PruningPlan

WORDS = (  # noqa: SIM905 - as a list it would take a line a word
    "a the of and to in is it was for on with as at by an be this that from or good bad film story plot actor scene "
    "music great poor long short funny sad dull sharp bright dark slow fast warm cold new old big small happy angry"
).split()
MAX_TOKENS = 64


def _word_pieces(kind: str, *special: str) -> Any:
    """Whole words, as BERT's tokenizer and its kin read them."""
    vocabulary = {token: number for number, token in enumerate([*special, *WORDS])}
    return getattr(transformers, kind)(vocab=vocabulary)


def _byte_pairs() -> Any:
    """Words put together from letters, as RoBERTa's tokenizer does."""
    words = [mark + word for mark in ("", "Ġ") for word in WORDS]
    merges = list(dict.fromkeys((word[:i], word[i]) for word in words for i in range(1, len(word))))
    letters = sorted({letter for word in words for letter in word})
    tokens = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", *letters, *map("".join, merges), "<mask>"])
    return transformers.RobertaTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=merges)


def _plain_byte_pairs() -> Any:
    """The same without a class of its own, as ModernBERT has it."""
    backend = _byte_pairs().backend_tokenizer
    special = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in special.items()},
    )


def _unigrams(kind: str, *special: str) -> Any:
    """Whole words with their probabilities, as SentencePiece writes them."""
    vocabulary = [(token, 0.0) for token in special] + [("▁" + word, -3.0) for word in WORDS]
    return getattr(transformers, kind)(vocab=[*vocabulary, ("<mask>", 0.0)])


@dataclass(frozen=True)
class TinyFamily:
    """How a tiny model of an architecture is made.

    Attributes:
        config: its configuration's class.
        tokenizer: makes its tokenizer.
        settings: what its configuration needs beside the sizes.
        names: its own names for sizes, where they are not BERT's.
        position_offset: positions that no token has.

    """

    config: str
    tokenizer: Callable[[], Any]
    settings: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    position_offset: int = 0


_BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
_PADDED_BY_1 = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
TINY_FAMILIES = {
    "bert": TinyFamily("BertConfig", lambda: _word_pieces("BertTokenizer", *_BERT_TOKENS)),
    "camembert": TinyFamily(
        "CamembertConfig",
        lambda: _unigrams(
            "CamembertTokenizer", "<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"
        ),
        {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 5, "eos_token_id": 6},
        position_offset=2,
    ),
    "deberta-v2": TinyFamily(
        "DebertaV2Config",
        lambda: _unigrams("DebertaV2Tokenizer", "[PAD]", "[UNK]", "[CLS]", "[SEP]"),
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
            "type_vocab_size": 0,
            "pad_token_id": 0,
        },
    ),
    "distilbert": TinyFamily(
        "DistilBertConfig",
        lambda: _word_pieces("BertTokenizer", *_BERT_TOKENS),
        names={
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
        },
    ),
    "electra": TinyFamily(
        "ElectraConfig", lambda: _word_pieces("BertTokenizer", *_BERT_TOKENS), {"embedding_size": 24}
    ),
    "modernbert": TinyFamily(
        "ModernBertConfig",
        _plain_byte_pairs,
        {
            "global_attn_every_n_layers": 2,
            "local_attention": 8,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "cls_token_id": 0,
            "sep_token_id": 2,
        },
    ),
    "mpnet": TinyFamily(
        "MPNetConfig",
        lambda: _word_pieces("MPNetTokenizer", "<s>", "<pad>", "</s>", "[UNK]", "<mask>"),
        _PADDED_BY_1,
        position_offset=2,
    ),
    "roberta": TinyFamily("RobertaConfig", _byte_pairs, {"type_vocab_size": 1} | _PADDED_BY_1, position_offset=2),
    "xlm-roberta": TinyFamily(
        "XLMRobertaConfig",
        lambda: _unigrams("XLMRobertaTokenizer", *_ROBERTA_TOKENS),
        {"type_vocab_size": 1} | _PADDED_BY_1,
        position_offset=2,
    ),
}


def randomize(model: torch.nn.Module, seed: int) -> None:
    """Give every parameter values of a size at which units differ and outputs are not constant."""
    generator = torch.Generator().manual_seed(seed)
    norms = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.LayerNorm)}
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if id(parameter) in norms:
                parameter.copy_(1 + 0.1 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.1 * noise)
            else:
                parameter.copy_(noise * (1.2 / parameter.shape[-1] ** 0.5))


def save_tiny(
    folder: Path,
    family: str = "bert",
    head: str = "ForSequenceClassification",
    labels: tuple[str, ...] = ("negative", "positive"),
    problem_type: str | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Write a tiny checkpoint with its tokenizer.

    Args:
        folder: where to.
        family: a key of `TINY_FAMILIES`.
        head: the ending of the auto class that makes the model, ``ForTokenClassification`` for example; empty for the
            encoder alone.
        labels: a classifier's labels.
        problem_type: what the configuration says of them.
        dtype: the type of the weights.
        seed: for the weights.
        **config: sizes and settings of the configuration, under BERT's names where it has them.

    """
    kind = TINY_FAMILIES[family]
    tokenizer = kind.tokenizer()
    tokenizer.model_max_length = MAX_TOKENS
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": MAX_TOKENS + kind.position_offset,
        "vocab_size": len(tokenizer),
    }
    names = dict(enumerate(labels))
    sizes |= kind.settings | config
    settings = getattr(transformers, kind.config)(
        id2label=names,
        label2id={v: k for k, v in names.items()},
        problem_type=problem_type,
        **{kind.names.get(name, name): value for name, value in sizes.items()},
    )
    torch.manual_seed(seed)
    model = getattr(transformers, f"AutoModel{head}").from_config(settings)
    randomize(model, seed)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def declare_pooling(folder: Path, pooling: str, normalize: bool = True) -> None:
    """Write what makes a sentence-transformers checkpoint of an encoder's."""
    modules = ["Transformer", "Pooling", "Normalize"][: 3 if normalize else 2]
    entries = [
        {"idx": i, "name": str(i), "path": f"{i}_{name}" if i else "", "type": f"sentence_transformers.models.{name}"}
        for i, name in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(entries), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    width = transformers.AutoConfig.from_pretrained(folder).hidden_size
    legacy = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": width, legacy[pooling]: True}), encoding="utf-8"
    )


def plan_by_hand(checkpoint: EncoderCheckpoint, layers: tuple[LayerPlan, ...]) -> PruningPlan:
    """Return a plan that keeps these units in the lowest layers, and all in those above."""
    shape = checkpoint.family.encoder_shape(checkpoint.model.config)
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
