"""Pruned checkpoints in plain transformers, in a process that cannot import this project."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import MAX_TOKENS, TINY_FAMILIES, plan_by_hand
from torch import Tensor

from pruning import load_checkpoint, load_pruned, save_pruned
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.checkpoint.source import find_checkpoint, read_config
from pruning.plan import LayerPlan

MakeCheckpoint = Callable[..., Path]
MODELLING_FILE = "modeling_kprune.py"
LAYERS = (
    LayerPlan(heads=(1, 3), neurons=(0, 5, 7)),
    LayerPlan(heads=(), neurons=tuple(range(9))),
    LayerPlan(heads=(2,), neurons=()),
)
HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM", "")
STRANGER = """
import importlib.abc, json, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pruning", "exporters", "kprune_export"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import torch, transformers
from pathlib import Path
from safetensors.torch import load_file, save_file

for name in json.loads(sys.argv[1]):
    folder, auto = Path(name), json.loads((Path(name) / "auto.json").read_text())
    model = getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True).eval()
    with torch.no_grad():
        save_file({"output": model(**load_file(folder / "inputs.st"))[0].contiguous()}, folder / "output.st")
    model.save_pretrained(folder / "again")
"""


def be_a_stranger(code: str, argument: str, home: Path) -> None:
    """Run Python code where neither this project nor a cache of modules of others is there."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code, argument], check=True, cwd=home, env=environment)


def inputs(checkpoint: EncoderCheckpoint) -> Mapping[str, Tensor]:
    ids = torch.arange(2 * 15).view(2, 15) * 3 % checkpoint.model.config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(scope="module")
def opened(make_checkpoint: MakeCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pruned checkpoints by family and head, with the outputs that plain transformers gave for them."""
    home = tmp_path_factory.mktemp("home")
    made = {}
    for family in TINY_FAMILIES:
        for head in HEADS if family in ("bert", "deberta-v2", "modernbert") else HEADS[:1]:
            source = make_checkpoint(family=family, head=head, num_hidden_layers=3)
            folder = tmp_path_factory.mktemp("pruned")
            checkpoint = load_checkpoint(source, pooling=None if head else "none")
            plan = plan_by_hand(checkpoint, LAYERS)
            checkpoint.open().apply_widths(plan)
            save_pruned(checkpoint, plan, folder)
            (folder / "auto.json").write_text(json.dumps(f"AutoModel{head}"))
            save_file(dict(inputs(checkpoint)), folder / "inputs.st")
            made[f"{family} {head}".strip()] = folder
    be_a_stranger(STRANGER, json.dumps([str(folder) for folder in made.values()]), home)
    return made


def test_plain_transformers_gives_the_same_outputs(opened: dict[str, Path]) -> None:
    for name, folder in opened.items():
        found = load_file(folder / "output.st")["output"]
        for again in (folder, folder / "again"):  # also what plain transformers has saved
            with torch.no_grad():
                expected = load_pruned(again)(**load_file(folder / "inputs.st"))[0]
            assert torch.allclose(found, expected, atol=1e-6), name


def test_what_is_saved_again_carries_its_code(opened: dict[str, Path], tmp_path: Path) -> None:
    for name, folder in opened.items():
        load_pruned(folder).save_pretrained(tmp_path / name)
        for again in (folder / "again", tmp_path / name):
            assert (again / MODELLING_FILE).read_bytes() == (folder / MODELLING_FILE).read_bytes()
            config = json.loads((again / "config.json").read_text())
            assert config["auto_map"] == json.loads((folder / "config.json").read_text())["auto_map"]
            assert "AutoConfig" not in config["auto_map"]


def test_the_code_is_short_and_needs_nothing_of_this_project(opened: dict[str, Path]) -> None:
    code = (next(iter(opened.values())) / MODELLING_FILE).read_text(encoding="utf-8")
    assert len(code.splitlines()) < 200
    imports = {line.split()[1].split(".")[0] for line in code.splitlines() if line.startswith(("import ", "from "))}
    assert imports == {"collections", "dataclasses", "typing", "torch", "transformers"}


@pytest.mark.parametrize("trust", [None, False])
def test_without_its_code_it_fails_clearly(opened: dict[str, Path], trust: bool | None) -> None:
    import transformers

    for folder in opened.values():
        auto = getattr(transformers, json.loads((folder / "auto.json").read_text()))
        with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
            auto.from_pretrained(folder, trust_remote_code=trust)


def test_no_code_of_a_checkpoint_is_run_here(opened: dict[str, Path], tmp_path: Path) -> None:
    folder = opened["bert ForSequenceClassification"]
    evil = f"import pathlib\npathlib.Path({str(tmp_path / 'run')!r}).touch()\n"
    genuine = (folder / MODELLING_FILE).read_text(encoding="utf-8")
    config = (folder / "config.json").read_text(encoding="utf-8")
    map_all = json.loads(config)
    map_all["auto_map"] |= {"AutoConfig": "modeling_kprune.BertConfig", "AutoTokenizer": ["modeling_kprune.T", None]}
    try:
        (folder / MODELLING_FILE).write_text(evil + genuine, encoding="utf-8")
        (folder / "config.json").write_text(json.dumps(map_all), encoding="utf-8")
        load_checkpoint(folder)
        load_pruned(folder)
        read_config(find_checkpoint(folder))
    finally:
        (folder / MODELLING_FILE).write_text(genuine, encoding="utf-8")
        (folder / "config.json").write_text(config, encoding="utf-8")
    assert not (tmp_path / "run").exists()


def test_a_pipeline_opens_it_by_its_path(opened: dict[str, Path], tmp_path: Path) -> None:
    code = (
        "import sys, transformers\n"
        "classify = transformers.pipeline('text-classification', model=sys.argv[1], trust_remote_code=True)\n"
        "assert classify('a good film')[0]['label'] in ('negative', 'positive')\n"
    )
    be_a_stranger(code, str(opened["roberta ForSequenceClassification"]), tmp_path)


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert"])
def test_sentence_transformers_opens_it(family: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    checkpoint = load_checkpoint(make_checkpoint(family=family, pooling="mean", num_hidden_layers=3))
    plan = plan_by_hand(checkpoint, LAYERS)
    checkpoint.open().apply_widths(plan)
    save_pruned(checkpoint, plan, tmp_path / "pruned")
    text = "the story is long and sad"
    with torch.no_grad():
        batch = checkpoint.tokenizer(text, return_tensors="pt", truncation=True, max_length=MAX_TOKENS)
        given = {name: batch[name] for name in checkpoint.inputs}
        expected = checkpoint.head(checkpoint.open().encode(given), batch["attention_mask"])
    code = (
        "import sys, torch\n"
        "from safetensors.torch import save_file\n"
        "from sentence_transformers import SentenceTransformer\n"
        "model = SentenceTransformer(sys.argv[1], trust_remote_code=True, device='cpu')\n"
        f"save_file({{'e': torch.tensor(model.encode([{text!r}]))}}, 'embedding.st')\n"
    )
    be_a_stranger(code, str(tmp_path / "pruned"), tmp_path)
    assert torch.allclose(load_file(tmp_path / "embedding.st")["e"], expected, atol=1e-6)
