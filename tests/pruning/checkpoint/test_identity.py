import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import pruning.checkpoint.load
from pruning import load_checkpoint
from pruning.checkpoint.identity import CheckpointIdentity
from pruning.errors import CheckpointError

MakeCheckpoint = Callable[..., Path]


@pytest.fixture
def folder(classifier: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(classifier, tmp_path / "model"))


def scale_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({name: 1.5 * x for name, x in load_file(path).items()}, path, {"format": "pt"})


def set_max_length(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 32}))


def set_epsilon(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layer_norm_eps": 1e-3}))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (scale_weights, "the weights"),
        (set_epsilon, "config.json"),
        (set_max_length, "tokenizer_config.json"),
        (lambda folder: (folder / "vocab.txt").write_text("a\n"), "vocab.txt"),
    ],
)
def test_a_checkpoint_that_changed_is_not_loaded_again(
    change: Callable[[Path], object], name: str, folder: Path
) -> None:
    checkpoint = load_checkpoint(folder)
    assert checkpoint.reload().identity == checkpoint.identity
    change(folder)
    with pytest.raises(CheckpointError, match=f"^{name} in .* changed during the run"):
        checkpoint.reload()
    assert load_checkpoint(folder).identity != checkpoint.identity


def test_what_a_loaded_model_computes_does_not_follow_its_file(folder: Path) -> None:
    """As transformers loads it, it would: its weights are the mapped file."""
    checkpoint = load_checkpoint(folder)
    before = {name: x.clone() for name, x in checkpoint.model.state_dict().items()}
    path = folder / "model.safetensors"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 4)
        file.write(bytes(path.stat().st_size // 2))
    assert all(torch.equal(x, before[name]) for name, x in checkpoint.model.state_dict().items())


def test_a_file_that_is_written_while_it_is_loaded_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training job saves its next step after the weights were read and before they are hashed."""
    check = pruning.checkpoint.load.check_forward

    def save_meanwhile(*arguments: object) -> None:
        scale_weights(folder)
        check(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pruning.checkpoint.load, "check_forward", save_meanwhile)
    with pytest.raises(CheckpointError, match=r"^the weights in .* changed while the checkpoint was being loaded"):
        load_checkpoint(folder)


def test_a_tokenizer_that_is_replaced_while_it_is_loaded_is_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = pruning.checkpoint.load.check_forward

    def replace_meanwhile(*arguments: object) -> None:
        set_max_length(folder)
        check(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pruning.checkpoint.load, "check_forward", replace_meanwhile)
    with pytest.raises(CheckpointError, match=r"^tokenizer_config.json in .* while the checkpoint was being loaded"):
        load_checkpoint(folder)


def test_every_file_that_decides_what_is_loaded_is_a_companion(
    make_checkpoint: MakeCheckpoint, embedder: Path, tmp_path: Path
) -> None:
    assert set(load_checkpoint(embedder).identity.companions) == {
        "tokenizer.json",
        "tokenizer_config.json",
        "modules.json",
        "1_Pooling/config.json",
    }
    moved = Path(shutil.copytree(embedder, tmp_path / "moved"))
    (moved / "1_Pooling").rename(moved / "pooling")
    modules = (moved / "modules.json").read_text().replace("1_Pooling", "pooling")
    (moved / "modules.json").write_text(modules)
    assert "pooling/config.json" in load_checkpoint(moved).identity.companions
    roberta = Path(shutil.copytree(make_checkpoint(family="roberta"), tmp_path / "roberta"))
    slow = json.loads((roberta / "tokenizer.json").read_text())["model"]
    (roberta / "vocab.json").write_text(json.dumps(slow["vocab"]))
    (roberta / "merges.txt").write_text("\n".join(" ".join(pair) for pair in slow["merges"]))
    (roberta / "tokenizer.json").unlink()
    assert {"vocab.json", "merges.txt"} <= set(load_checkpoint(roberta).identity.companions)


def test_what_differs_is_named() -> None:
    one = CheckpointIdentity(weights_sha256="a", config_sha256="b", companions={"x": "1", "y": "2"})
    other = CheckpointIdentity(weights_sha256="a", config_sha256="c", companions={"y": "3", "z": "4"})
    assert one.changed_files(one) == ()
    assert one.changed_files(other) == ("config.json", "x", "y", "z")
    reordered = one.model_copy(update={"companions": {"y": "2", "x": "1"}})
    assert reordered.companions_sha256 == one.companions_sha256 != other.companions_sha256
