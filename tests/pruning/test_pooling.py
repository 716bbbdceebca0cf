import json
from pathlib import Path

import pytest
import torch

from pruning.errors import CheckpointError, UnsupportedModelError
from pruning.pooling import SentenceHead, read_sentence_head

HIDDEN = torch.tensor([[[1.0, 2.0], [3.0, -4.0], [100.0, 100.0]]])
MASK = torch.tensor([[1, 1, 0]])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls", [1.0, 2.0]),
        ("mean", [2.0, -1.0]),
        ("max", [3.0, 2.0]),
        ("mean_sqrt_len_tokens", [4 / 2**0.5, -2 / 2**0.5]),
    ],
)
def test_modes_by_hand(mode: str, expected: list[float]) -> None:
    assert SentenceHead((mode,), normalize=False)(HIDDEN, MASK)[0].tolist() == pytest.approx(expected)


def test_modes_are_concatenated_and_the_whole_is_normalised() -> None:
    embedding = SentenceHead(("cls", "mean"), normalize=True)(HIDDEN, MASK)[0]
    raw = torch.tensor([1.0, 2.0, 2.0, -1.0])
    assert torch.allclose(embedding, raw / raw.norm())


def declare(folder: Path, types: list[str], pooling: dict[str, object], path: str = "1_Pooling") -> Path:
    entries = [{"idx": i, "name": str(i), "path": path if i == 1 else "", "type": t} for i, t in enumerate(types)]
    (folder / "modules.json").write_text(json.dumps(entries), encoding="utf-8")
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder


OLD = ["sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling"]
NEW = [
    "sentence_transformers.base.modules.transformer.Transformer",
    "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "sentence_transformers.base.modules.normalize.Normalize",
]


@pytest.mark.parametrize(
    ("types", "pooling", "modes", "normalize"),
    [
        (OLD, {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, ("mean",), False),
        (OLD, {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean"), False),
        (OLD, {}, ("mean",), False),
        (NEW, {"pooling_mode": "cls"}, ("cls",), True),
        (NEW, {"pooling_mode": ["max", "mean"]}, ("max", "mean"), True),
    ],
)
def test_reads_what_checkpoints_declare(
    tmp_path: Path, types: list[str], pooling: dict[str, object], modes: tuple[str, ...], normalize: bool
) -> None:
    declare(tmp_path, types, pooling)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 77}', encoding="utf-8")
    read = read_sentence_head(tmp_path)
    assert read is not None
    assert (read[0].modes, read[0].normalize, read[1]) == (modes, normalize, 77)


def test_a_plain_checkpoint_declares_nothing(tmp_path: Path) -> None:
    assert read_sentence_head(tmp_path) is None


def test_refuses_other_poolings_and_chains(tmp_path: Path) -> None:
    declare(tmp_path, OLD, {"pooling_mode_lasttoken": True})
    with pytest.raises(UnsupportedModelError, match="pools its tokens by lasttoken"):
        read_sentence_head(tmp_path)
    declare(tmp_path, [*OLD, "sentence_transformers.models.Dense"], {})
    with pytest.raises(UnsupportedModelError, match="chains Transformer, Pooling, Dense"):
        read_sentence_head(tmp_path)


def test_refuses_damage_and_paths_outside(tmp_path: Path) -> None:
    for path in ("../elsewhere", "1_Pooling\0"):
        declare(tmp_path, OLD, {}, path)
        with pytest.raises(CheckpointError, match="outside the checkpoint"):
            read_sentence_head(tmp_path)
    (tmp_path / "modules.json").write_text('{"a": 1}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="not a list of modules"):
        read_sentence_head(tmp_path)
    (tmp_path / "modules.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        read_sentence_head(tmp_path)
