"""Checkpoints whose results would be about another model than the user's."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from break_in_attempts.checks import clean, mentions, refused
from break_in_attempts.scene import QUICK, Kind, Scene, each, expect

COMMANDS = ("prune", "export", "prune-and-build")


def _command(scene: Scene, command: str, model: Path) -> tuple[object, ...]:
    options = {"export": ("--threads", 1), "prune": QUICK[:4] + QUICK[8:], "prune-and-build": QUICK}[command]
    texts = () if command == "export" else scene.texts
    return (command, model, "-o", scene.out, *texts, *options)


def without_vocabulary(scene: Scene, command: str, what: str) -> None:
    """The vocabulary is gone, is of other words, or of another size than the embeddings."""
    model = scene.copy("classifier", "model")
    if what == "of eight words":
        from tiny_models import save_tiny

        save_tiny(model, vocab_size=1000)
    path = model / "tokenizer.json"
    match what:
        case "gone":
            path.unlink()
        case "gone with its configuration":
            path.unlink()
            (model / "tokenizer_config.json").unlink()
        case "empty":
            path.write_text("")
        case "of eight words":
            values = json.loads(path.read_text())
            values["model"]["vocab"] = dict(list(values["model"]["vocab"].items())[:8])
            path.write_text(json.dumps(values))
        case "larger than the embeddings":
            values = json.loads(path.read_text())
            count = len(values["model"]["vocab"])
            values["model"]["vocab"] |= {f"new{n}": count + n for n in range(50)}
            path.write_text(json.dumps(values))
    scene.refuse(_command(scene, command, model), "tokenizer|token", keeps=(model,))


def _weights(model: Path, change: Callable[[dict], dict]) -> None:  # type: ignore[type-arg]
    from safetensors.torch import load_file, save_file

    path = model / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def more_weights(scene: Scene, command: str, name: str) -> None:
    """Weights that the model's class has no place for."""
    import torch

    model = scene.copy("classifier", "model")
    _weights(model, lambda weights: weights | {name: torch.ones(8, 32)})
    scene.refuse(_command(scene, command, model), name, keeps=(model,))


def other_types(scene: Scene, command: str, dtype: str) -> None:
    """Weights that are no floats, or floats of eight bits."""
    import torch

    name = "bert.encoder.layer.0.intermediate.dense.weight"
    model = scene.copy("classifier", "model")
    _weights(model, lambda weights: weights | {name: weights[name].to(getattr(torch, dtype))})
    scene.refuse(_command(scene, command, model), name, keeps=(model,))


def weights_missing(scene: Scene, command: str, name: str) -> None:
    """Weights that the class needs are gone, or of another shape."""
    import torch

    model = scene.copy("classifier", "model")
    if name.startswith("other shape of "):
        name = name.removeprefix("other shape of ")
        _weights(model, lambda weights: weights | {name: torch.ones(8, 8)})
    else:
        _weights(model, lambda weights: {k: v for k, v in weights.items() if k != name})
    scene.refuse(_command(scene, command, model), keeps=(model,))


def other_configuration(scene: Scene, command: str, key: str, value: object) -> None:
    """A configuration that says something else than the weights."""
    model = scene.copy("classifier", "model")
    scene.edit(model / "config.json", **{key: value})
    scene.refuse(_command(scene, command, model), keeps=(model,))


def adapters(scene: Scene, command: str, name: str) -> None:
    """An adapter beside the weights."""
    model = scene.copy("classifier", "model")
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("{}")
    scene.refuse(_command(scene, command, model), "adapter", keeps=(model,))


def own_code(scene: Scene, file: str, key: str, value: object) -> None:
    """Code of the checkpoint's own, which is not run: results are about another class, and everything says so."""
    model = scene.copy("classifier", "model")
    (model / "own.py").write_text(f"open({str(scene.mark)!r}, 'w')\n")
    scene.edit(model / file, **{key: value})
    ended = scene.run(*_command(scene, "prune-and-build", model))
    refused(ended, codes=(0, 2))
    expect(not scene.mark.exists(), "code of the checkpoint was run")
    if ended.code == 0:
        mentions(ended.err, "not run|does not have")
        mentions((scene.out / "report.html").read_text(), "not run|does not have")


def changed_before_a_rerun(scene: Scene, change: str) -> None:
    """An input changes between two runs; the second one must come to what a fresh one comes to."""
    model, texts = scene.copy("classifier", "model"), scene.folder / "texts.txt"
    shutil.copyfile(scene.made.texts, texts)
    command = ("prune", model, "--calibration", texts, *QUICK[:4], *QUICK[8:])
    clean(scene.run(*command, "-o", scene.out))
    match change:
        case "model_max_length":
            scene.edit(model / "tokenizer_config.json", model_max_length=6)
        case "the vocabulary's order":
            values = json.loads((model / "tokenizer.json").read_text())
            words = list(values["model"]["vocab"])
            words[5:] = words[:4:-1]
            values["model"]["vocab"] = {word: number for number, word in enumerate(words)}
            (model / "tokenizer.json").write_text(json.dumps(values))
        case "weights":
            _weights(model, lambda weights: {name: 1.1 * x for name, x in weights.items()})
        case "layer_norm_eps":
            scene.edit(model / "config.json", layer_norm_eps=0.1)
        case "texts":
            texts.write_text("\n".join(reversed(texts.read_text().splitlines())) + "\ngood\n")
    fresh = scene.folder / "fresh"
    for output in (scene.out, fresh):
        clean(scene.run(*command, "-o", output))
    plans = [(folder / "plan.json").read_text() for folder in (scene.out, fresh)]
    expect(plans[0] == plans[1], "the rerun took a stale input")


def changed_before_validation(scene: Scene, change: str) -> None:
    """The dense model is not the one that a bundle was made from any more."""
    model = scene.copy("classifier", "model")
    match change:
        case "weights":
            _weights(model, lambda weights: {name: 1.1 * x for name, x in weights.items()})
        case "config.json":
            scene.edit(model / "config.json", layer_norm_eps=0.1)
        case "tokenizer_config.json":
            scene.edit(model / "tokenizer_config.json", model_max_length=32)
        case "tokenizer.json":
            values = json.loads((model / "tokenizer.json").read_text())
            values["truncation"] = None
            (model / "tokenizer.json").write_text(json.dumps(values) + " ")
    command = ("validate", scene.made.bundle, "--dense", model, "--shapes", "1x4", "--threads", 1, "-o", scene.out)
    scene.refuse(command, change)


def overwritten_in_mid_run(scene: Scene, moment: float, name: str) -> None:
    """A training job overwrites the checkpoint during a run: the run ends, or is about one model alone."""
    model = scene.copy("classifier", "model")

    def spoil(_pid: int) -> None:
        time.sleep(moment)
        if name == "model.safetensors":
            _weights(model, lambda weights: {key: 1.1 * x for key, x in weights.items()})
        else:
            scene.edit(model / "config.json", layer_norm_eps=0.5)

    ended = scene.run(*_command(scene, "prune-and-build", model), during=spoil)
    refused(ended, codes=(0, 2))
    if ended.code == 0:  # all that was read is of one moment: it is validated against that, or refused
        again = scene.run("validate", scene.out, "--dense", model, "--shapes", "1x4", "--threads", 1)
        refused(again, codes=(2,))
    else:
        mentions(ended.err, "changed during the run|changed while|differ")


def _for(commands: tuple[str, ...], names: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    return {f"{command}: {name}": (command, name) for command in commands for name in names}


_CONFIGURATIONS: dict[str, tuple[str, object]] = {
    "fewer layers": ("num_hidden_layers", 1),
    "more layers": ("num_hidden_layers", 3),
    "9000 layers": ("num_hidden_layers", 9000),
    "another width": ("hidden_size", 64),
    "a larger vocabulary": ("vocab_size", 2**31),
    "other FFNs": ("intermediate_size", 40),
    "other positions": ("max_position_embeddings", 8),
    "no heads": ("num_attention_heads", 0),
    "uneven heads": ("num_attention_heads", 5),
    "three labels": ("id2label", {"0": "a", "1": "b", "2": "c"}),
}
KINDS = (
    Kind(
        "a checkpoint without its vocabulary",
        "refused",
        each(
            without_vocabulary,
            _for(
                COMMANDS,
                (
                    "gone",
                    "gone with its configuration",
                    "empty",
                    "of eight words",
                    "larger than the embeddings",
                ),
            ),
        ),
    ),
    Kind(
        "weights that the class does not know",
        "refused with their names",
        each(
            more_weights,
            _for(
                ("prune", "export"),
                (
                    "pre_classifier.weight",
                    "bert.encoder.layer.0.output.adapters.news.adapter_down.0.weight",
                    "bert.encoder.layer.1.attention.self.query.lora_A.weight",
                    "linear.weight",
                ),
            ),
        ),
    ),
    Kind(
        "weights that are no floats",
        "refused with their names",
        each(other_types, _for(("prune", "export"), ("int8", "bool", "int32", "complex64", "float8_e4m3fn"))),
    ),
    Kind(
        "weights that are missing",
        "refused",
        each(
            weights_missing,
            _for(
                ("prune", "export"),
                (
                    "classifier.weight",
                    "bert.encoder.layer.1.output.dense.weight",
                    "other shape of bert.encoder.layer.0.intermediate.dense.weight",
                ),
            ),
        ),
    ),
    Kind(
        "a configuration unlike the weights",
        "refused",
        each(
            other_configuration,
            {
                f"{command}: {name}": (command, *change)
                for command in ("prune", "export")
                for name, change in _CONFIGURATIONS.items()
            },
        ),
    ),
    Kind(
        "an adapter beside the weights",
        "refused",
        each(
            adapters,
            _for(("prune", "export"), ("adapter_config.json", "news/adapter_config.json", "pytorch_adapter.bin")),
        ),
    ),
    Kind(
        "results about transformers' own class",
        "code not run, and said in stderr and the report",
        each(
            own_code,
            {
                "auto_map of the model": ("config.json", "auto_map", {"AutoModelForSequenceClassification": "own.Own"}),
                "auto_map of the tokenizer": (
                    "tokenizer_config.json",
                    "auto_map",
                    {"AutoTokenizer": ["own.Own", None]},
                ),
                "an unknown architecture": ("config.json", "architectures", ["HeavyBertForSequenceClassification"]),
            },
        ),
    ),
    Kind(
        "an input that changes before a rerun",
        "the result of a fresh run",
        each(
            changed_before_a_rerun, ("model_max_length", "the vocabulary's order", "weights", "layer_norm_eps", "texts")
        ),
    ),
    Kind(
        "another dense model at validation",
        "refused with the file's name",
        each(changed_before_validation, ("weights", "config.json", "tokenizer_config.json", "tokenizer.json")),
    ),
    Kind(
        "a checkpoint overwritten in mid-run",
        "the run ends",
        each(
            overwritten_in_mid_run,
            {
                f"{name} after {moment} s": (moment, name)
                for name in ("model.safetensors", "config.json")
                for moment in (0.5, 1.0, 2.0)
            },
        ),
    ),
)
