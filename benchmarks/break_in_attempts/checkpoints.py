"""Checkpoints that do not work, or that only just do: one clear sentence with the right diagnosis, or a good bundle."""

import json
from pathlib import Path
from typing import Any

from break_in_attempts.checks import Broken, cheap, clean, no_crash, refused
from break_in_attempts.scene import QUICK, Kind, Scene, each

_PRUNING = (*QUICK[:4], *QUICK[8:])
COMMANDS = ("inspect", "prune", "export")


def _run(scene: Scene, command: str, model: Path) -> Any:
    if command == "inspect":
        return scene.run("inspect", model)
    if command == "export":
        return scene.run("export", model, "-o", scene.out, "--threads", 1)
    return scene.run(command, model, "-o", scene.out, *scene.texts, *(_PRUNING if command == "prune" else QUICK))


def settings(scene: Scene, change: dict[str, Any]) -> None:
    """A setting that changes what a model returns: pruned and exported as ever, or refused before anything is done."""
    model = scene.copy("classifier", "model")
    scene.edit(model / "config.json", **change)
    ended = _run(scene, "prune-and-build" if set(change) <= _BUILT else "prune", model)
    refused(ended, codes=(0, 2, 5))
    if ended.code and "[2/" in ended.err:
        raise Broken("refused after all of pruning")
    if "another transformers" in ended.err or "install" in " ".join(ended.errors):
        raise Broken(f"a wrong diagnosis: {ended.errors}")


_BUILT = {"output_attentions", "return_dict", "chunk_size_feed_forward"}
"""Settings that only showed in the export."""
_SETTINGS: dict[str, dict[str, Any]] = {
    "output_attentions": {"output_attentions": True},
    "output_hidden_states": {"output_hidden_states": True},
    "return_dict": {"return_dict": False},
    "use_cache": {"use_cache": True},
    "is_decoder": {"is_decoder": True},
    "add_cross_attention": {"is_decoder": True, "add_cross_attention": True},
    "chunk_size_feed_forward": {"chunk_size_feed_forward": 4},
    "torchscript": {"torchscript": True},
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "dtype": {"dtype": "float16"},
    "an unknown dtype": {"dtype": "float3"},
    "quantization_config": {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
    "quantization_config of gptq": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    "an unknown quantization_config": {"quantization_config": {"quant_method": "x"}},
    "tie_word_embeddings": {"tie_word_embeddings": False},
    "pruned_heads": {"pruned_heads": {"0": [1]}},
    "attn_implementation": {"attn_implementation": "flash_attention_2", "_attn_implementation": "flash_attention_2"},
    "hidden_act": {"hidden_act": "nothing"},
    "position_embedding_type": {"position_embedding_type": "relative_key"},
    "problem_type": {"problem_type": "unknown"},
    "id2label as a list": {"id2label": ["a", "b"]},
    "one label twice": {"id2label": {"0": "a", "1": "a"}, "label2id": {"a": 1}},
    "an empty label": {"id2label": {"0": "", "1": " "}, "label2id": {"": 0, " ": 1}},
}


def broken_file(scene: Scene, name: str, content: bytes | None) -> None:
    """A file of a checkpoint that is none: refused by all commands that read it."""
    for command in COMMANDS:
        model = scene.copy("embedder" if "Pooling" in name or name == "modules.json" else "classifier", f"m-{command}")
        path = model / name
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        ended = _run(scene, command, model)
        no_crash(ended)
        cheap(ended, 30, 1000, scene.base_mib)
        if ended.code == 0 and command != "inspect" and (name, content) != ("tokenizer_config.json", None):
            raise Broken(f"{command} took it")


_CONTENTS: dict[str, bytes | None] = {
    "gone": None, "empty": b"", "not UTF-8": b"\xff\xfe", "a list": b"[]", "null": b"null", "deep": b"[" * 50_000,
    "NaN": b"NaN", "zeros": b"\x00" * 4096,
}  # fmt: skip


def weights_file(scene: Scene, how: str) -> None:
    """A safetensors file whose header lies."""
    model = scene.copy("classifier", "model")
    path = model / "model.safetensors"
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    name = "classifier.weight"
    match how:
        case "cut":
            path.write_bytes(whole[:-7])
        case "a length of 2^63":
            path.write_bytes((2**63).to_bytes(8, "little") + whole[8:])
        case "offsets beyond":
            header[name]["data_offsets"] = [0, 2**40]
        case "offsets backwards":
            header[name]["data_offsets"] = [100, 0]
        case "a shape of 2^40":
            header[name]["shape"] = [2**40, 2**40]
        case "a negative shape":
            header[name]["shape"] = [-2, -32]
        case "an unknown type":
            header[name]["dtype"] = "F7"
        case "overlapping":
            header[name]["data_offsets"] = header["classifier.bias"]["data_offsets"]
        case "bytes more":
            path.write_bytes(whole + b"x" * 100)
    if path.read_bytes() == whole:
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    ended = scene.run("export", model, "-o", scene.out, "--threads", 1)
    refused(ended, "model.safetensors|weights|cannot be loaded")
    cheap(ended, 30, 1000, scene.base_mib)


def values(scene: Scene, how: str) -> None:
    """Weights whose values no arithmetic survives, or that are dead: the right diagnosis, or a bundle."""
    import torch
    from safetensors.torch import load_file, save_file

    model = scene.copy("classifier", "model")
    path = model / "model.safetensors"
    weights = load_file(path)
    ffn = "bert.encoder.layer.0.intermediate.dense"
    match how:
        case "nan":
            weights[f"{ffn}.weight"][0, 0] = float("nan")
        case "inf":
            weights[f"{ffn}.weight"][0, 0] = float("inf")
        case "1e30":
            weights = {name: x * 1e30 for name, x in weights.items()}
        case "1e-40":
            weights = {name: x * 1e-40 for name, x in weights.items()}
        case "all zero":
            weights = {name: torch.zeros_like(x) for name, x in weights.items()}
        case "a dead FFN":
            weights[f"{ffn}.weight"].zero_()
            weights[f"{ffn}.bias"].fill_(-100.0)
        case "a dead output":
            weights["bert.encoder.layer.0.output.dense.weight"].zero_()
        case "dead attention":
            weights["bert.encoder.layer.0.attention.self.value.weight"].zero_()
            weights["bert.encoder.layer.0.attention.self.value.bias"].zero_()
        case "equal neurons":
            weights[f"{ffn}.weight"][:] = weights[f"{ffn}.weight"][0]
            weights[f"{ffn}.bias"][:] = 0.1
        case "a classifier of zeros":
            weights["classifier.weight"].zero_()
    save_file(weights, path, {"format": "pt"})
    ended = _run(scene, "prune-and-build" if how in ("1e30", "a dead FFN") else "prune", model)
    refused(ended, codes=(0, 2, 3, 4, 6))
    said = " ".join(ended.errors)
    for wrong in ("more text", "ridge above 0", "another transformers"):
        if wrong in said:
            raise Broken(f"a wrong diagnosis: {said}")


def not_a_model(scene: Scene, what: str) -> None:
    """A model that is none."""
    place = scene.folder / "model"
    match what:
        case "a file":
            place.write_text("x")
        case "an empty folder":
            place.mkdir()
        case "a folder of texts":
            place.mkdir()
            (place / "texts.txt").write_text("x")
        case "a bundle of an export":
            place = scene.made.exported
        case "a repository":
            place = scene.made.repository
        case "an ONNX file":
            place = scene.made.bundle / "onnx" / "model.onnx"
        case "nothing":
            pass
        case "a link in a circle":
            place.symlink_to(place)
        case "a device":
            place = Path("/dev/null")
        case "a URL":
            place = Path("http://127.0.0.1:9/model")
        case "a file URL":
            place = Path("file:///etc")
        case "an empty name":
            refused(scene.run("export", "", "-o", scene.out))
            return
        case "a null":
            return
    refused(scene.run("export", place, "-o", scene.out, "--threads", 1))
    refused(scene.run("prune", place, "-o", scene.out, *scene.texts, *_PRUNING))


def other_heads(scene: Scene, head: str) -> None:
    """Heads and architectures that pruning does not know."""
    model = scene.copy("classifier", "model")
    kind, _, architecture = head.partition(" ")
    scene.edit(model / "config.json", model_type=kind, architectures=[architecture])
    ended = scene.run("prune", model, "-o", scene.out, *scene.texts, *_PRUNING)
    refused(ended)


def pruned_again(scene: Scene, damage: str) -> None:
    """A pruned checkpoint whose record of what was pruned is not true."""
    bundle = scene.copy("bundle")
    model = bundle / "checkpoint"
    config = json.loads((model / "config.json").read_text())
    if damage == "whole":
        clean(scene.run("export", model, "-o", scene.out, "--threads", 1))
        return
    kept = config["kprune"]
    text = json.dumps(kept)
    changes: dict[str, Any] = {
        "no record": ..., "null": None, "a list": [], "empty": {}, "of numbers": json.loads(text.replace("0", "7")),
        "negative": json.loads(text.replace(": 1", ": -1")), "deep": [[[[]]]],
    }  # fmt: skip
    scene.edit(model / "config.json", kprune=changes[damage])
    for command in ("export", "inspect", "prune"):
        ended = _run(scene, command, model)
        no_crash(ended)
        if ended.code == 0 and command == "export" and changes[damage] != kept:
            raise Broken("a checkpoint with a false record was exported")


KINDS = (
    Kind(
        "settings that change what a model returns",
        "a bundle, or refused at once",
        each(settings, {k: (v,) for k, v in _SETTINGS.items()}),
    ),
    Kind(
        "files of a checkpoint that are none",
        "one sentence",
        each(
            broken_file,
            {
                f"{name} {how}": (name, content)
                for name in (
                    "config.json",
                    "tokenizer.json",
                    "tokenizer_config.json",
                    "model.safetensors",
                    "1_Pooling/config.json",
                    "modules.json",
                )
                for how, content in _CONTENTS.items()
                if not (name == "1_Pooling/config.json" and how == "gone")
                and not (name == "modules.json" and content is None)
            },
        ),
    ),
    Kind(
        "a safetensors file that lies",
        "one sentence, no memory taken",
        each(
            weights_file,
            (
                "cut",
                "a length of 2^63",
                "offsets beyond",
                "offsets backwards",
                "a shape of 2^40",
                "a negative shape",
                "an unknown type",
                "overlapping",
                "bytes more",
            ),
        ),
    ),
    Kind(
        "weights that are dead or overflow",
        "the right diagnosis",
        each(
            values,
            (
                "nan",
                "inf",
                "1e30",
                "1e-40",
                "all zero",
                "a dead FFN",
                "a dead output",
                "dead attention",
                "equal neurons",
                "a classifier of zeros",
            ),
        ),
    ),
    Kind(
        "models that are none",
        "one sentence",
        each(
            not_a_model,
            (
                "a file",
                "an empty folder",
                "a folder of texts",
                "a bundle of an export",
                "a repository",
                "an ONNX file",
                "nothing",
                "a link in a circle",
                "a device",
                "a URL",
                "a file URL",
                "an empty name",
            ),
        ),
    ),
    Kind(
        "heads that pruning does not know",
        "refused",
        each(
            other_heads,
            (
                "bert BertForMultipleChoice",
                "bert BertForNextSentencePrediction",
                "bert BertLMHeadModel",
                "gpt2 GPT2LMHeadModel",
                "t5 T5EncoderModel",
                "nothing NothingModel",
                "vit ViTForImageClassification",
            ),
        ),
    ),
    Kind(
        "a pruned checkpoint with a false record",
        "refused",
        each(pruned_again, ("whole", "no record", "null", "a list", "empty", "of numbers", "negative", "deep")),
    ),
)
