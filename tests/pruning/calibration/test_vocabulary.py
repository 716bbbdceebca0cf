import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers

from pruning import load_checkpoint
from pruning.errors import CheckpointError

MakeCheckpoint = Callable[..., Path]


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "deberta-v2", "modernbert", "mpnet"])
@pytest.mark.parametrize("with_config", [True, False])
def test_a_checkpoint_without_its_vocabulary_is_refused(
    family: str, with_config: bool, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(make_checkpoint(family=family), tmp_path / "model"))
    (folder / "tokenizer.json").unlink()
    if not with_config:
        (folder / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no tokenizer files|The tokenizer in .* cannot be loaded"):
        load_checkpoint(folder)


def test_byte_pairs_need_their_merges(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """Without them words fall into letters, which all have embeddings."""
    folder = Path(shutil.copytree(make_checkpoint(family="roberta"), tmp_path / "model"))
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(CheckpointError, match=r"without tokenizer.json it needs merges.txt|cannot be loaded"):
        load_checkpoint(folder)


def test_a_tokenizer_of_another_size_than_the_embeddings(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    padded = make_checkpoint(vocab_size=128)
    tokens = len(transformers.AutoTokenizer.from_pretrained(padded))
    assert load_checkpoint(padded).model.config.vocab_size == 128
    with pytest.raises(CheckpointError, match=rf"knows {tokens} tokens, but the model has embeddings for 1000"):
        load_checkpoint(make_checkpoint(vocab_size=1000))
