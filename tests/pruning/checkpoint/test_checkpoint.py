import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import plan_by_hand

from pruning import load_checkpoint, load_pruned
from pruning.checkpoint.save import save_pruned
from pruning.errors import CheckpointError, UnsupportedModelError
from pruning.tasks import MultiLabel, Regression, Reranking, SentenceEmbedding, SingleLabel, Task

MakeCheckpoint = Callable[..., Path]


@pytest.fixture
def folder(classifier: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(classifier, tmp_path / "model"))


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("options", "kind", "labels"),
    [
        ({}, SingleLabel, ("negative", "positive")),
        ({"labels": ("score",)}, Reranking, ("score",)),
        ({"labels": ("score",), "problem_type": "regression"}, Regression, ("score",)),
        ({"problem_type": "multi_label_classification"}, MultiLabel, ("negative", "positive")),
        ({"problem_type": "regression"}, Regression, ("negative", "positive")),
        ({"pooling": "mean"}, SentenceEmbedding, ()),
    ],
)
def test_tasks_are_recognised(
    make_checkpoint: MakeCheckpoint, options: dict[str, Any], kind: type[Task], labels: tuple[str, ...]
) -> None:
    checkpoint = load_checkpoint(make_checkpoint(**options))
    assert (type(checkpoint.task), checkpoint.task.labels) == (kind, labels)
    assert checkpoint.plan is None
    assert checkpoint.max_positions == 64


def test_a_problem_type_that_is_not_known_is_refused(make_checkpoint: MakeCheckpoint) -> None:
    folder = make_checkpoint()
    edit_config(folder, problem_type="multilabel")
    with pytest.raises(UnsupportedModelError, match="problem_type is 'multilabel', which is none that transformers"):
        load_checkpoint(folder)


def test_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no config.json"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="is a file"):
        load_checkpoint(tmp_path / "file")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"a": 1}')
    with pytest.raises(CheckpointError, match="names no model_type"):
        load_checkpoint(tmp_path)


def test_a_hub_id_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="owner/nothing is neither a folder here nor could it be fetched"):
        load_checkpoint("owner/nothing")


def test_unsupported_architectures_are_named(folder: Path) -> None:
    edit_config(folder, model_type="gpt2", architectures=["GPT2ForSequenceClassification"])
    with pytest.raises(UnsupportedModelError, match=r"'gpt2', which is not supported: supported are .*bert"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["BertLMHeadModel"]},
        {"architectures": ["GPT2ForCausalLM"], "model_type": "gpt2"},
        {"is_decoder": True},
        {"is_encoder_decoder": True},
    ],
)
def test_decoders(folder: Path, changes: dict[str, Any]) -> None:
    edit_config(folder, **changes)
    with pytest.raises(UnsupportedModelError, match="is a decoder"):
        load_checkpoint(folder)


def test_heads_that_are_not_supported(folder: Path) -> None:
    edit_config(folder, architectures=["BertForMultipleChoice"])
    with pytest.raises(
        UnsupportedModelError,
        match="BertForMultipleChoice, whose outputs pruning cannot preserve: supported are …ForSeq",
    ):
        load_checkpoint(folder)
    edit_config(folder, architectures=["BertForSequenceClassification"], position_embedding_type="relative_key")
    with pytest.raises(UnsupportedModelError, match="relative_key position embeddings"):
        load_checkpoint(folder)


def test_pickles_need_permission(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"pickled \(pytorch_model.bin\).* --allow-pickle"):
        load_checkpoint(folder)
    assert load_checkpoint(folder, allow_pickle=True).folder.pickled


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("evil-was-here"),))


def test_a_pickle_that_carries_code_is_refused_and_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"bert.embeddings.word_embeddings.weight": Evil()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="something other than tensors"):
        load_checkpoint(folder, allow_pickle=True)
    assert not (tmp_path / "evil-was-here").exists()


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_checkpoint(folder)


@pytest.mark.parametrize("keep", [0, 5, 100, -100])
def test_truncated_weights(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="is not a sound safetensors file"):
        load_checkpoint(folder)


def test_weights_that_are_missing_or_of_another_size(folder: Path) -> None:
    edit_weights(folder, lambda w: w.pop("classifier.weight"))
    with pytest.raises(CheckpointError, match=r"lacks 1 of the model's weights, classifier.weight"):
        load_checkpoint(folder)
    edit_weights(folder, lambda w: w.update({"classifier.weight": torch.zeros(5, 32)}))
    with pytest.raises(CheckpointError, match=r"classifier.weight is \(5, 32\), where \(2, 32\) is expected"):
        load_checkpoint(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(folder: Path, value: float) -> None:
    edit_weights(folder, lambda w: w["bert.pooler.dense.weight"][0, :3].fill_(value))
    with pytest.raises(CheckpointError, match=r"has 3 weights that are NaN or infinite in bert.pooler.dense.weight"):
        load_checkpoint(folder)


def test_an_embedder_without_pooler_loads_and_stays_without(embedder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(embedder, tmp_path / "model"))
    edit_weights(folder, lambda w: [w.pop(key) for key in list(w) if key.startswith("pooler.")])
    assert load_checkpoint(folder).model.pooler is None


@pytest.mark.parametrize("name", ["../outside.safetensors", "x" * 300, "a\0b", ["a"] * 300, "", "."])
def test_shards_that_are_not_in_the_folder_are_refused(name: object, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    index = {"weight_map": {"classifier.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="not in the folder"):
        load_checkpoint(folder)


def test_load_pruned_wants_a_pruned_checkpoint(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="is not pruned"):
        load_pruned(folder)
    edit_config(folder, kprune={"format": "kprune-plan"})
    with pytest.raises(CheckpointError, match=r"config.json is not a valid pruning plan: .*Field required"):
        load_pruned(folder)


def test_a_cross_encoder_as_sentence_transformers_saves_it(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    library.CrossEncoder(str(make_checkpoint(labels=("LABEL_0",)))).save_pretrained(str(tmp_path))
    assert (tmp_path / "modules.json").is_file()  # as embedders have it, but without a pooling
    checkpoint = load_checkpoint(tmp_path)
    assert isinstance(checkpoint.task, Reranking)
    assert [output.name for output in checkpoint.task.outputs] == ["logits"]


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "distilbert", "modernbert", "mpnet"])
def test_settings_of_the_python_api_change_nothing(
    family: str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    plain = make_checkpoint(family=family)
    folder = Path(shutil.copytree(plain, tmp_path / "model"))
    edit_config(folder, output_attentions=True, output_hidden_states=True, return_dict=False, chunk_size_feed_forward=7)
    found, expected = load_checkpoint(folder), load_checkpoint(plain)
    save_pruned(found, plan_by_hand(found, ()), tmp_path / "pruned")
    ids = torch.arange(10)[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    logits = expected.model(**inputs).logits
    assert torch.equal(found.model(**inputs).logits, logits)
    assert torch.allclose(load_pruned(tmp_path / "pruned")(**inputs).logits, logits, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "bitsandbytes"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization_config": {"load_in_8bit": True}}, "quantization_config"),
        ({"compression_config": {"format": "int-quantized"}}, "compression_config"),
    ],
)
def test_quantized_checkpoints_are_refused(folder: Path, settings: dict[str, Any], named: str) -> None:
    edit_config(folder, **settings)
    with pytest.raises(CheckpointError, match=rf"is already quantized \({named}\): give the full-precision checkpoint"):
        load_checkpoint(folder)
    edit_config(folder, **dict.fromkeys(settings))  # null, as some tools write for none
    load_checkpoint(folder)


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "xlm-roberta", "modernbert"])
def test_a_folder_without_tokenizer_files(family: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(make_checkpoint(family=family), tmp_path / "checkpoint-500"))
    for path in folder.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    with pytest.raises(
        CheckpointError, match=r"(has no tokenizer files \(none of .*save_pretrained)|(cannot be loaded)"
    ):
        load_checkpoint(folder)


@pytest.mark.parametrize("add", [{"pad_token": "<pad-new>"}, ["zzcode"]])
def test_tokens_without_an_embedding(folder: Path, add: Any) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = len(tokenizer)
    (tokenizer.add_special_tokens if isinstance(add, dict) else tokenizer.add_tokens)(add)
    tokenizer.save_pretrained(folder)
    token = "<pad-new>" if isinstance(add, dict) else "zzcode"
    with pytest.raises(CheckpointError, match=f"'{token}' has the id {rows}, but the model embeds {rows} tokens"):
        load_checkpoint(folder)


def test_weights_too_large_to_compute_with(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights["bert.encoder.layer.0.output.dense.weight"].fill_(1e30))
    with pytest.raises(CheckpointError, match=r"NaN or infinite .* up to 1e\+30 in bert.encoder.layer.0.output.dense"):
        load_checkpoint(folder)


def test_a_model_of_zeros_is_no_other_architecture(folder: Path) -> None:
    edit_weights(folder, lambda weights: [weight.zero_() for weight in weights.values()])
    load_checkpoint(folder)
