"""What travels beside a pruned model's weights: what is known, what the tokenizer reads, and nothing from elsewhere."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_models import TINY_FAMILIES, plan_by_hand

from pruning.checkpoint.companions import check_companions
from pruning.checkpoint.load import load_checkpoint
from pruning.checkpoint.save import save_pruned
from pruning.checkpoint.source import find_checkpoint
from pruning.errors import CheckpointError, UnsupportedModelError

MakeCheckpoint = Callable[..., Path]
SECRET = "AWS_SECRET_ACCESS_KEY=0123456789"
TEXT = "Don't PANIC: a naïve café cost 3.50 €, good  film [MASK] <mask> 漢字"


def saved(source: Path, folder: Path) -> Path:
    checkpoint = load_checkpoint(source)
    check_companions(checkpoint)
    save_pruned(checkpoint, plan_by_hand(checkpoint, ()), folder)
    return folder


def edit(path: Path, **values: Any) -> None:
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(settings | values), encoding="utf-8")


@pytest.fixture
def classifier_copy(classifier: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(classifier, tmp_path / "source"))


@pytest.fixture
def embedder_copy(embedder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(embedder, tmp_path / "source"))


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_texts_are_read_as_before(family: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    source = make_checkpoint(family=family)
    folder = saved(source, tmp_path / "pruned")
    before, after = (transformers.AutoTokenizer.from_pretrained(path) for path in (source, folder))
    assert type(before) is type(after)
    assert before(TEXT).data == after(TEXT).data
    assert before.special_tokens_map == after.special_tokens_map
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "modeling_kprune.py",
        "tokenizer.json",
        "tokenizer_config.json",
    }


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_the_model_is_configured_as_before(family: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    source = make_checkpoint(family=family)
    before, after = (
        transformers.AutoConfig.from_pretrained(x).to_dict() for x in (source, saved(source, tmp_path / "pruned"))
    )
    for name in ("kprune", "auto_map"):
        del after[name]
    for name in ("output_attentions", "_name_or_path"):
        before.pop(name, None)
        after.pop(name, None)
    assert after == before


def test_a_vocabulary_without_tokenizer_json_is_what_travels(classifier_copy: Path, tmp_path: Path) -> None:
    vocabulary = transformers.AutoTokenizer.from_pretrained(classifier_copy).get_vocab()
    words = "".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.__getitem__))
    (classifier_copy / "vocab.txt").write_text(words, encoding="utf-8")
    (classifier_copy / "vocab.json").write_text(SECRET)  # of another kind of tokenizer: nobody reads it
    assert not (saved(classifier_copy, tmp_path / "one") / "vocab.txt").exists()
    (classifier_copy / "tokenizer.json").unlink()
    folder = saved(classifier_copy, tmp_path / "two")
    assert (folder / "vocab.txt").read_text(encoding="utf-8") == words
    assert not (folder / "vocab.json").exists()
    found = transformers.AutoTokenizer.from_pretrained(folder)(TEXT).data
    assert found == transformers.AutoTokenizer.from_pretrained(classifier_copy)(TEXT).data


def test_settings_of_older_tokenizers_travel(classifier_copy: Path, tmp_path: Path) -> None:
    token = {"content": "[MASK]", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
    edit(
        classifier_copy / "special_tokens_map.json",
        pad_token="[PAD]",
        mask_token=token,
        additional_special_tokens=["[SEP]"],
        x=SECRET,
    )
    edit(classifier_copy / "added_tokens.json", **{"[PAD]": 0})
    folder = saved(classifier_copy, tmp_path / "pruned")
    special = json.loads((folder / "special_tokens_map.json").read_text())
    assert special == {"pad_token": "[PAD]", "mask_token": token, "additional_special_tokens": ["[SEP]"]}
    assert json.loads((folder / "added_tokens.json").read_text()) == {"[PAD]": 0}


def test_what_names_code_and_what_nobody_reads_stays_behind(classifier_copy: Path, tmp_path: Path) -> None:
    evil = {"AutoTokenizer": ["evil.Evil", "evil.Evil"], "AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}
    pipelines = {"text-classification": {"impl": "evil.Evil", "pt": ["AutoModel"]}}
    unknown = {"trust_remote_code": True, "note": SECRET, "processor_class": "Evil", "name_or_path": "/home/someone"}
    edit(classifier_copy / "config.json", auto_map=evil, custom_pipelines=pipelines, **unknown)
    edit(
        classifier_copy / "tokenizer_config.json",
        auto_map=evil,
        custom_pipelines=pipelines,
        chat_template="{{ evil }}",
        tokenizer_file="/etc/passwd",
        **unknown,
    )
    run = tmp_path / "ran"
    (classifier_copy / "evil.py").write_text(f"open({str(run)!r}, 'w')\nclass Evil: pass\n", encoding="utf-8")
    (classifier_copy / "chat_template.jinja").write_text("{{ evil }}", encoding="utf-8")
    folder = saved(classifier_copy, tmp_path / "pruned")
    names = {path.name for path in folder.iterdir()}
    assert not names & {"evil.py", "chat_template.jinja"}
    for name in ("config.json", "tokenizer_config.json"):
        text = (folder / name).read_text(encoding="utf-8")
        assert not any(x in text for x in ("evil", "Evil", SECRET, "someone", "passwd", "trust_remote_code")), name
    shutil.copy(classifier_copy / "evil.py", folder)  # even then nothing names it
    code = (
        "import sys, transformers\n"
        "run = transformers.pipeline('text-classification', sys.argv[1], trust_remote_code=True)\n"
        "assert run('a good film')\n"
        "transformers.AutoConfig.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-P", "-c", code, folder], check=True, env=environment)
    assert not run.exists()


def test_the_settings_of_sentence_transformers(embedder_copy: Path, tmp_path: Path) -> None:
    modules = json.loads((embedder_copy / "modules.json").read_text())
    for module in modules:
        module["kwargs"] = [SECRET]
    (embedder_copy / "modules.json").write_text(json.dumps(modules))
    edit(embedder_copy / "1_Pooling" / "config.json", activation_function="evil.Evil")
    edit(
        embedder_copy / "sentence_bert_config.json",
        max_seq_length=32,
        model_args={"attn_implementation": "evil/kernel"},
        tokenizer_args={"trust_remote_code": True},
        modality_config={"text": {"method": "forward", "x": SECRET}, "audio": {"method": "save_pretrained"}},
    )
    settings = {"prompts": {"query": "q: ", "x": {"y": SECRET}}, "similarity_fn_name": "cosine", "note": SECRET}
    edit(embedder_copy / "config_sentence_transformers.json", activation_fn="os.abort", **settings)
    folder = saved(embedder_copy, tmp_path / "pruned")

    def read(name: str) -> Any:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    assert read("modules.json") == [{key: x for key, x in module.items() if key != "kwargs"} for module in modules]
    assert read("1_Pooling/config.json") == {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    assert read("sentence_bert_config.json") == {
        "max_seq_length": 32,
        "modality_config": {"text": {"method": "forward"}},
    }
    assert read("config_sentence_transformers.json") == {"prompts": {"query": "q: "}, "similarity_fn_name": "cosine"}


def test_modules_of_other_packages_are_refused(embedder_copy: Path) -> None:
    modules = json.loads((embedder_copy / "modules.json").read_text())
    modules[0]["type"] = "evil.Transformer"
    (embedder_copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UnsupportedModelError, match="chains evil.Transformer, Pooling"):
        load_checkpoint(embedder_copy)


def test_what_sentence_transformers_saves_opens_in_it_again(classifier: Path, embedder: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    dense = library.SentenceTransformer(str(embedder))
    dense.save_pretrained(str(tmp_path / "embedder"))
    pruned = library.SentenceTransformer(str(saved(tmp_path / "embedder", tmp_path / "one")), trust_remote_code=True)
    texts = ["a good film", "dull"]
    torch.testing.assert_close(dense.encode(texts), pruned.encode(texts), atol=1e-5, rtol=0)

    cross = library.CrossEncoder(str(classifier), activation_fn=torch.nn.Tanh())
    cross.save_pretrained(str(tmp_path / "cross"))
    folder = saved(tmp_path / "cross", tmp_path / "two")
    found = library.CrossEncoder(str(folder), trust_remote_code=True)
    assert isinstance(found.activation_fn, torch.nn.Tanh)
    pairs = [("a film", "a good film"), ("dull", "bright")]
    torch.testing.assert_close(cross.predict(pairs), found.predict(pairs), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "kept"), [("torch.nn.modules.linear.Identity", True), ("evil.Evil", False)])
def test_the_activation_of_a_cross_encoder(classifier_copy: Path, tmp_path: Path, name: str, kept: bool) -> None:
    edit(
        classifier_copy / "config.json",
        sbert_ce_default_activation_function=name,
        sentence_transformers={"activation_fn": name, "x": SECRET},
    )
    config = json.loads((saved(classifier_copy, tmp_path / "pruned") / "config.json").read_text(encoding="utf-8"))
    assert config.get("sbert_ce_default_activation_function") == (name if kept else None)
    assert config.get("sentence_transformers") == ({"activation_fn": name} if kept else None)


@pytest.mark.parametrize(
    "name", ["vocab.json", "tokenizer.json", "config.json", "README.md", "special_tokens_map.json"]
)
def test_files_that_lie_elsewhere_are_refused(classifier_copy: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    if (classifier_copy / name).exists():
        (classifier_copy / name).rename(secret)
    else:
        secret.write_text(SECRET)
    (classifier_copy / name).symlink_to(os.path.relpath(secret, classifier_copy))
    with pytest.raises(CheckpointError, match=f"{name} is a symbolic link to .*secret, outside the checkpoint"):
        find_checkpoint(classifier_copy)


def test_files_behind_a_linked_folder_are_refused(embedder_copy: Path, tmp_path: Path) -> None:
    (embedder_copy / "1_Pooling").rename(tmp_path / "elsewhere")
    (embedder_copy / "1_Pooling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="outside the checkpoint"):
        find_checkpoint(embedder_copy)


def test_links_inside_a_checkpoint_and_in_the_hubs_cache_are_followed(classifier: Path, tmp_path: Path) -> None:
    cached = tmp_path / "models--me--model"
    snapshot = cached / "snapshots" / ("0" * 40)
    (cached / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(classifier.iterdir())):
        shutil.copy(file, cached / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    (snapshot / "vocab.txt").symlink_to("tokenizer.json")
    (tmp_path / "link").symlink_to(snapshot)
    for path in (snapshot, tmp_path / "link"):
        load_checkpoint(path)
    (snapshot / "vocab.json").symlink_to("../../../secret")
    (tmp_path / "secret").write_text(SECRET)
    with pytest.raises(CheckpointError, match="outside the checkpoint"):
        find_checkpoint(snapshot)


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o027, 0o640), (0o022, 0o644)])
def test_files_have_the_mode_that_the_umask_gives(classifier: Path, tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        folder = saved(classifier, tmp_path / "pruned")
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()} == {
        path.name: mode for path in folder.iterdir() if path.is_file()
    }
