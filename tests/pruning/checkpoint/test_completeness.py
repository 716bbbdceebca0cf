import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import TINY_FAMILIES

from pruning import load_checkpoint
from pruning.checkpoint.completeness import check_types, storage_dtype, stored_tensors
from pruning.checkpoint.source import find_checkpoint
from pruning.errors import CheckpointError

MakeCheckpoint = Callable[..., Path]


@pytest.fixture
def folder(classifier: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(classifier, tmp_path / "model"))


def add_weights(folder: Path, **weights: torch.Tensor) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path) | {name.replace("__", "."): x for name, x in weights.items()}, path, {"format": "pt"})


def edit_config(folder: Path, name: str = "config.json", **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    [
        "pre_classifier.weight",
        "bert.encoder.layer.0.output.adapters.news.adapter_down.0.weight",
        "bert.encoder.layer.1.attention.self.query.lora_A.weight",
        "linear.weight",  # the projection of a ColBERT
        "poolers.dense.weight",
        "bert.encoder.pooler.dense.weight",
    ],
)
def test_weights_that_the_model_has_no_place_for_are_refused_by_name(name: str, folder: Path) -> None:
    add_weights(folder, **{name: torch.ones(8, 32)})
    with pytest.raises(
        CheckpointError, match=rf"holds 1 weight \({name}\) that a BertForSequenceClassification .* no pl"
    ):
        load_checkpoint(folder)


def test_layers_beyond_those_declared_are_refused(folder: Path) -> None:
    edit_config(folder, num_hidden_layers=1)
    with pytest.raises(
        CheckpointError, match=r"holds 16 weights \(bert.encoder.layer.1.* and 13 more\).*number of layers"
    ):
        load_checkpoint(folder)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_heads_of_pretraining_and_poolers_that_a_task_does_not_read_are_left_out(
    family: str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    """As hub checkpoints have them: fine-tuned on one task, with weights of another left over."""
    pretrained = load_file(make_checkpoint(family=family, head="ForMaskedLM") / "model.safetensors")
    encoder = load_file(make_checkpoint(family=family, head="") / "model.safetensors")
    prefix = next(iter(pretrained)).partition(".")[0]
    leftovers = {name: x for name, x in pretrained.items() if not name.startswith(f"{prefix}.")}
    leftovers |= {f"{prefix}.{name}": x for name, x in encoder.items() if name.startswith("pooler.")}
    assert leftovers
    for head in ("ForSequenceClassification", "ForTokenClassification", "ForMaskedLM", ""):
        folder = tmp_path / (head or "encoder")
        shutil.copytree(make_checkpoint(family=family, head=head), folder)
        own = load_file(folder / "model.safetensors")
        add_weights(
            folder,
            **({name.removeprefix(f"{prefix}.") if not head else name: x for name, x in leftovers.items()} | own),
        )
        load_checkpoint(folder, pooling=None if head else "none")
    load_checkpoint(make_checkpoint(family=family, head="ForMaskedLM"), pooling="mean")


def test_other_heads_of_pretraining(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    folders = {}
    for family, names in {
        "bert": ("cls.seq_relationship.weight", "bert.embeddings.position_ids"),
        "electra": ("discriminator_predictions.dense.weight", "generator_lm_head.bias"),
        "deberta-v2": ("lm_predictions.lm_head.dense.weight", "mask_predictions.dense.weight"),
    }.items():
        folders[family] = Path(shutil.copytree(make_checkpoint(family=family), tmp_path / family))
        add_weights(folders[family], **{x: torch.ones(2, 2) for x in names})
        load_checkpoint(folders[family])
    add_weights(folders["bert"], **{"lm_head.dense.weight": torch.ones(2, 2)})  # no head that BERT is pre-trained with
    with pytest.raises(CheckpointError, match=r"lm_head.dense.weight"):
        load_checkpoint(folders["bert"])


def test_counters_of_integers_are_no_weights(folder: Path) -> None:
    add_weights(
        folder,
        bert__embeddings__position_ids=torch.arange(64)[None],
        bert__embeddings__token_type_ids=torch.zeros(1, 64, dtype=torch.int64),
    )
    load_checkpoint(folder)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        (torch.int8, "I8"),
        (torch.bool, "BOOL"),
        (torch.int32, "I32"),
        (torch.complex64, "C64"),
        (torch.float8_e4m3fn, "F8_E4M3"),
    ],
)
@pytest.mark.parametrize("pickled", [False, True])
def test_weights_that_are_no_floats_are_refused(dtype: torch.dtype, kind: str, pickled: bool, folder: Path) -> None:
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    weights = load_file(folder / "model.safetensors")
    weights[name] = weights[name].to(dtype)
    if pickled:
        (folder / "model.safetensors").unlink()
        torch.save(weights, folder / "pytorch_model.bin")
        kind = str(dtype).removeprefix("torch.")
    else:
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"holds 1 weight \({name}\) of the type {kind}, which cannot be pruned"):
        load_checkpoint(folder, allow_pickle=pickled)


@pytest.mark.parametrize(
    ("dtypes", "stored"),
    [
        ((torch.float16, torch.float16), torch.float16),
        ((torch.bfloat16, torch.float16), torch.float32),
        ((torch.float32, torch.float16), torch.float32),
        ((torch.float32, torch.float64), torch.float64),
    ],
)
@pytest.mark.parametrize("pickled", [False, True])
def test_the_type_that_holds_all_weights_exactly(
    dtypes: tuple[torch.dtype, torch.dtype], stored: torch.dtype, pickled: bool, folder: Path
) -> None:
    weights = load_file(folder / "model.safetensors")
    mixed = {name: x.to(dtypes[i % 2]) for i, (name, x) in enumerate(weights.items())}
    if pickled:
        (folder / "model.safetensors").unlink()
        torch.save(mixed, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    else:
        save_file(mixed, folder / "model.safetensors", {"format": "pt"})
    found = find_checkpoint(folder, allow_pickle=pickled)
    tensors = stored_tensors(found)
    check_types(found, tensors)
    assert storage_dtype(tensors) is stored
    checkpoint = load_checkpoint(folder, allow_pickle=pickled)
    name = "bert.encoder.layer.1.output.dense.weight"
    assert torch.equal(checkpoint.model.state_dict()[name].double(), mixed[name].double())


@pytest.mark.parametrize("place", ["adapter_config.json", "news/adapter_config.json", "pytorch_adapter.bin"])
def test_adapters_beside_the_weights_are_refused(place: str, folder: Path) -> None:
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_text("{}")
    with pytest.raises(CheckpointError, match=rf"adapter beside its weights \({place}\).*merge it"):
        load_checkpoint(folder)


def test_weights_of_other_shapes_are_named(folder: Path) -> None:
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    add_weights(folder, **{name: torch.ones(40, 32)})
    with pytest.raises(
        CheckpointError, match=rf"1 weight \({name}\) of other shapes .* is \(40, 32\), where \(48, 32\)"
    ):
        load_checkpoint(folder)


def test_code_of_the_checkpoint_is_not_ignored_in_silence(folder: Path, classifier: Path) -> None:
    assert load_checkpoint(classifier).notes == ()
    (folder / "modeling_own.py").write_text("raise SystemExit('ran')")
    edit_config(folder, auto_map={"AutoModelForSequenceClassification": "modeling_own.OwnModel"})
    edit_config(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_own.Own", None]})
    model, tokenizer = load_checkpoint(folder).notes
    assert "code of its own in config.json (modeling_own.OwnModel), which is not run" in model
    assert "read as transformers' BertForSequenceClassification" in model
    assert "tokenizer_config.json (tokenization_own.Own)" in tokenizer


def test_a_class_that_transformers_does_not_have_is_named(folder: Path) -> None:
    edit_config(folder, architectures=["HeavyBertForSequenceClassification"])
    (note,) = load_checkpoint(folder).notes
    assert "from the class HeavyBertForSequenceClassification, which transformers does not have" in note


def test_the_classifier_of_a_setfit_model_is_named(embedder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(embedder, tmp_path / "model"))
    (folder / "config_setfit.json").write_text("{}")
    (note,) = load_checkpoint(folder).notes
    assert "SetFit" in note
