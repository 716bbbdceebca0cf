"""The walk-throughs of docs/how-to: their code adds a task and a family, and both go from a checkpoint to a bundle."""

import html
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from project_root import ROOT

from kprune_export.bundle.inspection import inspect
from kprune_export.pipeline.run import Outcome, prune_and_build
from kprune_export.recipe.recipe import Recipe
from kprune_export.triton.repository_record import RepositoryRecord
from pruning import load_pruned
from pruning.errors import CalibrationError
from pruning.families import modeling_kprune

MakeCheckpoint = Callable[..., Path]
MakeRecipe = Callable[..., Recipe]
MakeSentences = Callable[..., list[str]]
LAYOUTS_FILE = "pruning/families/modeling_kprune.py"
BLOCK = re.compile(r"^```python\n# (\S+\.py)(?:, in (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPEN_IN_TRANSFORMERS = """
import sys
import transformers
from transformers import AutoModelForNextSentencePrediction

model = AutoModelForNextSentencePrediction.from_pretrained(sys.argv[1], trust_remote_code=True)
print(type(model).__name__, sum(x.numel() for x in model.parameters()))
"""


@dataclass(frozen=True)
class Block:
    """A block of a page: a new module, or the entries of a registry in a module that is there."""

    file: str
    registry: str
    code: str

    @property
    def module(self) -> str:
        """The module's name; those of tests are imported without their folder."""
        return self.file.removeprefix("tests/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def blocks_of(page: str) -> list[Block]:
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    return [Block(*found) for found in BLOCK.findall(text)]


def follow(page: str, patch: pytest.MonkeyPatch) -> None:
    """Do in memory what a page says: no file is edited."""
    added: dict[str, Any] = {}
    for block in blocks_of(page):
        if not block.registry:
            module = ModuleType(block.module)
            patch.setitem(sys.modules, block.module, module)
            exec(block.code, vars(module))
            added |= {name: x for name, x in vars(module).items() if getattr(x, "__module__", "") == block.module}
            added |= {name: x for name, x in vars(module).items() if name.isupper()}
            continue
        there = import_module(block.module)
        for name, value in eval(f"{{{block.code}}}", {**vars(there), **added}).items():
            patch.setitem(getattr(there, block.registry), name, value)


def edited_modelling_file(folder: Path) -> Path:
    """Return a copy of the file that checkpoints carry, with the entry of the walk-through."""
    (entry,) = (x.code for x in blocks_of("add-a-family.md") if x.file == LAYOUTS_FILE)
    text = (ROOT / LAYOUTS_FILE).read_text(encoding="utf-8")
    assert text.count("\nLAYOUTS = {\n") == 1
    path = folder / Path(LAYOUTS_FILE).name
    path.write_text(text.replace("\nLAYOUTS = {\n", f"\nLAYOUTS = {{\n    {entry}"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        follow("add-a-task.md", patch)
        follow("add-a-family.md", patch)
        patch.setattr(modeling_kprune, "__file__", str(edited_modelling_file(tmp_path_factory.mktemp("edited"))))
        yield


def write_pairs(path: Path, make_sentences: MakeSentences) -> Path:
    texts = make_sentences(220, length=15)
    rows = [
        {"sentence1": first, "sentence2": second, "label": ("next", "random")[number % 2]}
        for number, (first, second) in enumerate(pairwise(texts))
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def bundle(
    followed: None,
    make_checkpoint: MakeCheckpoint,
    make_recipe: MakeRecipe,
    make_sentences: MakeSentences,
    tmp_path_factory: pytest.TempPathFactory,
) -> Outcome:
    folder = tmp_path_factory.mktemp("walkthrough")
    model = make_checkpoint(family="ernie", head="ForNextSentencePrediction", num_hidden_layers=3)
    data = write_pairs(folder / "pairs.jsonl", make_sentences)
    settings = {"flops_reduction": 0.2, "min_agreement": 0.1, "triton": True}
    return prune_and_build(make_recipe(model, folder / "out", data, **settings))


def test_a_task_and_a_family_touch_no_other_files() -> None:
    task = [(x.file, x.registry) for x in blocks_of("add-a-task.md")]
    assert task == [
        ("pruning/tasks/next_sentence.py", ""),
        ("pruning/checkpoint/purpose.py", "HEADS"),
        ("kprune_export/evaluation/next_sentence.py", ""),
        ("kprune_export/evaluation/__init__.py", "EVALUATIONS"),
    ]
    family = [(x.file, x.registry) for x in blocks_of("add-a-family.md")]
    assert family == [
        (LAYOUTS_FILE, "LAYOUTS"),
        ("pruning/families/ernie.py", ""),
        ("pruning/families/__init__.py", "FAMILIES"),
        ("tests/tiny_models.py", "TINY_FAMILIES"),
    ]


@pytest.mark.parametrize("page", ["add-a-task.md", "add-a-family.md"])
def test_steps_are_numbered_and_every_block_of_python_is_run(page: str) -> None:
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    steps = [int(number) for number in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)]
    assert steps == list(range(1, len(steps) + 1))
    assert text.count("```python") == len(blocks_of(page))
    for block in blocks_of(page):
        assert (ROOT / block.file).is_file() == bool(block.registry)  # nothing that is here already is added


def test_the_model_is_pruned_exported_and_evaluated(bundle: Outcome) -> None:
    manifest = bundle.manifest
    assert (manifest.task, manifest.labels) == ("next sentence prediction", ("next", "random"))
    assert manifest.verdict == "passed"
    (report,) = bundle.reports
    assert report.parity is not None
    assert report.parity.passed
    assert report.fidelity is not None
    assert [x.name for x in report.fidelity.measures] == ["agreement", "mean_kl_nats", "kappa"]
    assert report.fidelity.metric is not None
    assert (report.fidelity.metric.name, report.fidelity.metric.examples) == ("accuracy", report.fidelity.texts)
    found = inspect(str(bundle.output / "checkpoint"))
    assert (found.family, found.task) == ("ernie", "next sentence prediction")


def test_report_and_card_have_the_words_of_the_task(bundle: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    report = (bundle.output / "report.html").read_text(encoding="utf-8")
    assert "Next sentence prediction · ernie, 3 layers" in report
    snippets = [html.unescape(text) for text in re.findall(r"<pre>(.*?)</pre>", report, flags=re.DOTALL)[:2]]
    assert all('[("a sentence.", "the next sentence.")]' in snippet for snippet in snippets)
    monkeypatch.chdir(bundle.output)
    exec(next(snippet for snippet in snippets if "load_pruned" in snippet), {})
    card = (bundle.output / "checkpoint" / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(card.split("---")[1])
    assert (metadata["pipeline_tag"], metadata["metrics"]) == ("text-classification", ["accuracy"])
    assert "AutoModelForNextSentencePrediction.from_pretrained(path, trust_remote_code=True)" in card


def test_pairs_can_be_served(bundle: Outcome) -> None:
    text = RepositoryRecord.of_repository(bundle.output / "triton").text
    assert text is not None
    assert (text.activation, [x.name for x in text.inputs]) == ("softmax", ["text", "text_pair"])
    assert [(x.name, x.dims) for x in text.outputs] == [("labels", (2,)), ("scores", (2,))]


def test_plain_transformers_opens_the_checkpoint(bundle: Outcome, tmp_path: Path) -> None:
    checkpoint = str(bundle.output / "checkpoint")
    done = subprocess.run(
        [sys.executable, "-c", OPEN_IN_TRANSFORMERS, checkpoint],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": ""},
    )
    name, parameters = done.stdout.split()
    assert name == "ErnieForNextSentencePrediction"
    assert int(parameters) == sum(x.numel() for x in load_pruned(checkpoint).parameters())


def test_single_texts_are_refused_in_one_sentence(
    followed: None, make_checkpoint: MakeCheckpoint, make_recipe: MakeRecipe, texts_file: Path, tmp_path: Path
) -> None:
    model = make_checkpoint(family="ernie", head="ForNextSentencePrediction")
    with pytest.raises(CalibrationError, match=r"reads pairs of texts, but \d+ of \d+ examples are single texts"):
        prune_and_build(make_recipe(model, tmp_path / "out", texts_file, flops_reduction=0.2))
    assert not (tmp_path / "out").exists()
