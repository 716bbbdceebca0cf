"""Each task from a checkpoint to a bundle, with what its data look like."""

import html
import json
import re
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch

from exporters.runners.onnxruntime_runner import session_options
from kprune_export.bundle.inputs import repeatable_settings
from kprune_export.bundle.inspection import inspect
from kprune_export.errors import ProductError
from kprune_export.evaluation import EVALUATIONS
from kprune_export.pipeline.run import Outcome, prune, prune_and_build, validate
from kprune_export.recipe.recipe import Recipe
from pruning import load_checkpoint, load_sentence_transformer
from pruning.errors import CheckpointError, PruningError, UnsupportedModelError
from pruning.serving import ServingModule
from pruning.tasks import SentenceEmbedding

MakeCheckpoint = Callable[..., Path]
MakeRecipe = Callable[..., Recipe]
MakeSentences = Callable[..., list[str]]
Row = dict[str, Any]

BIO = ("O", "B-FILM", "I-FILM")


def scored(text: str, number: int) -> Row:
    return {"text": text, "score": number % 3 + 0.5}


def pair(text: str, number: int) -> Row:
    return {"sentence1": text, "sentence2": f"{text} good film", "score": number % 3}


def words(text: str, number: int) -> Row:
    tokens = text.split()
    return {"tokens": tokens, "ner_tags": [1 if word == "film" else 0 for word in tokens]}


def question(text: str, number: int) -> Row:
    return {"question": text, "context": f"the {text}", "answers": {"text": [text.split()[0]], "answer_start": [4]}}


CASES: dict[str, tuple[dict[str, Any], Callable[[str, int], Row], dict[str, Any], str, tuple[str, ...], Any]] = {
    # the checkpoint, a row of its data, further settings, the headline, the metrics, the output's axes
    "single label": (
        {"labels": ("a", "b", "c")},
        lambda text, number: {"text": text, "label": number % 3},
        {},
        "agreement",
        ("accuracy",),
        {"logits": ["batch", 3]},
    ),
    "multi-label": (
        {"problem_type": "multi_label_classification"},
        lambda text, number: {"text": text, "labels": [number % 2, 1]},
        {},
        "agreement",
        ("micro_f1",),
        {"logits": ["batch", 2]},
    ),
    "regression": (
        {"labels": ("score",), "problem_type": "regression"},
        scored,
        {},
        "r2",
        ("spearman",),
        {"logits": ["batch", 1]},
    ),
    "reranker": ({"labels": ("LABEL_0",)}, pair, {}, "rank_agreement", ("spearman",), {"logits": ["batch", 1]}),
    "embedder": ({"pooling": "mean"}, pair, {}, "mean_cosine", ("spearman",), {"sentence_embedding": ["batch", 32]}),
    "tokens": (
        {"head": "ForTokenClassification", "labels": BIO},
        words,
        {},
        "agreement",
        ("entity_f1", "token_accuracy"),
        {"logits": ["batch", "sequence", 3]},
    ),
    "answers": (
        {"head": "ForQuestionAnswering"},
        question,
        {},
        "span_agreement",
        ("answer_f1", "exact_match"),
        {"start_logits": ["batch", "sequence"], "end_logits": ["batch", "sequence"]},
    ),
    "masked": (
        {"head": "ForMaskedLM"},
        lambda text, number: {"text": text},
        {"min_metric": 0.0},
        "agreement",
        ("masked_accuracy",),
        {"logits": ["batch", "sequence", 54]},
    ),
    "pooler": (
        {"head": ""},
        pair,
        {"pooling": "pooler"},
        "mean_cosine",
        ("spearman",),
        {"sentence_embedding": ["batch", 32]},
    ),
    "features": (
        {"head": ""},
        lambda text, number: {"text": text},
        {"pooling": "none"},
        "mean_cosine",
        (),
        {"last_hidden_state": ["batch", "sequence", 32]},
    ),
}


def write_rows(path: Path, row: Callable[[str, int], Row], make_sentences: MakeSentences, count: int = 200) -> Path:
    rows = [row(text, number) for number, text in enumerate(make_sentences(count, length=15))]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


Build = Callable[[str], Outcome]


@pytest.fixture(scope="module")
def build(
    make_checkpoint: MakeCheckpoint,
    make_recipe: MakeRecipe,
    make_sentences: MakeSentences,
    tmp_path_factory: pytest.TempPathFactory,
) -> Build:
    """Return a function that builds a case's bundle, each once."""

    @cache
    def build_case(case: str) -> Outcome:
        options, row, settings, *_ = CASES[case]
        folder = tmp_path_factory.mktemp("task")
        data = write_rows(folder / "data.jsonl", row, make_sentences)
        recipe = make_recipe(make_checkpoint(**options), folder / "out", data, flops_reduction=0.2, **settings)
        return prune_and_build(recipe)

    return build_case


def test_every_task_has_a_case_and_an_evaluation(make_checkpoint: MakeCheckpoint) -> None:
    names = {
        load_checkpoint(make_checkpoint(**options), pooling=settings.get("pooling")).task.name
        for options, _, settings, *_ in CASES.values()
    }
    assert names == set(EVALUATIONS)


@pytest.mark.parametrize("case", CASES)
def test_it_goes_through(case: str, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    *_, headline, metrics, axes = CASES[case]
    bundle = build(case)
    assert bundle.reports[0].parity is not None
    assert bundle.reports[0].parity.passed
    fidelity = bundle.reports[0].fidelity
    assert fidelity is not None
    assert fidelity.headline.name == headline
    assert fidelity.headline.value > 0.3
    found = (fidelity.metric, *fidelity.further_metrics) if fidelity.metric else ()
    assert tuple(metric.name for metric in found) == metrics
    graph = onnx.load(bundle.output / "onnx/model.onnx").graph
    assert {x.name: [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim] for x in graph.output} == axes
    gated = bundle.manifest.recipe.get("min_metric") is not None
    assert bundle.manifest.verdict == ("passed" if gated else "not gated")
    report = (bundle.output / "report.html").read_text()
    assert all(f"<code>{name}</code>" in report for name in (headline, *metrics))
    snippets = [html.unescape(text) for text in re.findall(r"<pre>(.*?)</pre>", report, flags=re.DOTALL)[:2]]
    assert "onnxruntime" in snippets[0]
    monkeypatch.chdir(bundle.output)
    # other tests may have made this process's sessions share threads, which a program of a user's own does not
    session = partial(onnxruntime.InferenceSession, sess_options=session_options(2))
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    for snippet in snippets:
        if "load_sentence_transformer" not in snippet or find_spec("sentence_transformers"):
            exec(snippet, {})


def test_a_choice_of_pooling_is_remembered(build: Build, tmp_path: Path) -> None:
    built = build("pooler")
    assert built.manifest.source.pooling == "pooler"
    assert build("embedder").manifest.source.pooling == "mean, normalised"
    assert build("tokens").manifest.source.pooling is None
    metadata = {x.key: x.value for x in onnx.load(built.output / "onnx/model.onnx").metadata_props}
    assert metadata["kprune.pooling"] == "pooler"
    again = load_checkpoint(built.output / "checkpoint")
    assert (again.pooling, type(again.task)) == ("pooler", SentenceEmbedding)
    recipe = Recipe.build(
        None, {**repeatable_settings(built.output), "output": tmp_path / "out", "threads": 2, "shapes": "1x4"}
    )
    assert validate(built.output, recipe).reports[0].fidelity == built.reports[0].fidelity
    with pytest.raises(CheckpointError, match="made with --pooling pooler, which --pooling mean cannot change"):
        load_checkpoint(built.output / "checkpoint", pooling="mean")
    with pytest.raises(UnsupportedModelError, match="is not a sentence embedder"):
        load_sentence_transformer(built.output / "checkpoint")


def test_inspect_says_the_task(build: Build, make_checkpoint: MakeCheckpoint) -> None:
    built = build("pooler").output
    assert inspect(str(built)).task == inspect(str(built / "checkpoint")).task == "sentence embedding"
    assert inspect(str(make_checkpoint(head="ForQuestionAnswering"))).task == "extractive question answering"
    assert inspect(str(make_checkpoint(head=""))).task is None  # left open
    assert inspect(str(make_checkpoint(head="ForMultipleChoice"))).task is None  # not supported


def test_a_pooling_that_was_chosen_opens_in_sentence_transformers(
    make_checkpoint: MakeCheckpoint, make_recipe: MakeRecipe, texts_file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("sentence_transformers")
    prune(make_recipe(make_checkpoint(head="ForMaskedLM"), tmp_path / "out", texts_file, pooling="mean"))
    checkpoint = load_checkpoint(tmp_path / "out" / "checkpoint")
    assert type(checkpoint.model).__name__ == "BertModel"  # the head of pre-training is left out
    encoded = checkpoint.tokenizer(["good film", "a"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = ServingModule(checkpoint)(**encoded)
    found = load_sentence_transformer(tmp_path / "out" / "checkpoint").encode(
        ["good film", "a"], convert_to_tensor=True
    )
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "row", "settings", "problem"),
    [
        ({"head": "ForQuestionAnswering"}, None, {}, "finds answers to questions in contexts, but .* single texts"),
        ({"labels": ("LABEL_0",)}, None, {}, "scores pairs of texts .* problem_type is regression"),
        ({"head": ""}, None, {}, "BertModel without a head.*: choose with --pooling mean, cls, pooler or none"),
        ({}, None, {"pooling": "mean"}, r"has a head of its own \(BertForSequenceClassification\), so --pooling mean"),
        (
            {"pooling": "cls"},
            None,
            {"pooling": "mean"},
            "declares its pooling in modules.json, so --pooling mean cannot",
        ),
        ({"head": "ForMaskedLM"}, None, {"pooling": "pooler"}, "has no pooler, or no weights for it"),
        ({"head": "ForTokenClassification"}, words, {"min_metric": 0.5}, "'a film' has 2 words, but labels for 1"),
        (
            {"head": "ForTokenClassification"},
            None,
            {"min_metric": 0.5},
            "needs labels, but .* has no label column: it has texts alone",
        ),
        ({"head": ""}, words, {"pooling": "none", "min_metric": 0.5}, "features have no metric of their own"),
        ({"head": "ForNextSentencePrediction"}, None, {}, "whose outputs pruning cannot preserve: supported are"),
        ({"head": "ForMultipleChoice"}, None, {}, "is a BertForMultipleChoice, whose outputs pruning cannot preserve"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_written(
    options: dict[str, Any],
    row: Callable[[str, int], Row] | None,
    settings: dict[str, Any],
    problem: str,
    make_checkpoint: MakeCheckpoint,
    make_recipe: MakeRecipe,
    make_sentences: MakeSentences,
    texts_file: Path,
    tmp_path: Path,
) -> None:
    data = tmp_path / "data.txt"
    data.write_text("\n".join(make_sentences(20, seed=7)), encoding="utf-8")
    if row is not None:
        data = write_rows(tmp_path / "data.jsonl", row, make_sentences)
        with data.open("a") as file:
            file.write('\n{"tokens": ["a", "film"], "ner_tags": [1]}')
    recipe = make_recipe(make_checkpoint(**options), tmp_path / "out", texts_file, evaluation=str(data), **settings)
    with pytest.raises((PruningError, ProductError), match=problem) as caught:
        prune_and_build(recipe)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
