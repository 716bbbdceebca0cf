"""Entities, labelled words and answers from a real server, beside a short computation of the same with torch."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import tritonclient.utils

from kprune_export.pipeline.run import prune_and_build
from kprune_export.recipe.recipe import Recipe
from kprune_export.triton.check import Load, check_server
from kprune_export.triton.clients import open_client
from kprune_export.triton.repository import RepositoryRequest, write_repository
from kprune_export.triton.server import Endpoints, running_server
from pruning.calibration.examples import Example
from pruning.checkpoint.load import load_checkpoint

MakeCheckpoint = Callable[..., Path]
MakeRecipe = Callable[..., Recipe]
MakeSentences = Callable[..., list[str]]

BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TEXTS = (
    "a good film, by the (great) poor actor",
    "Über-\tlong naïve story!  slow   dark",
    "",
    "?!",
    "the dull plot " * 60,
)
KINDS = {
    "entities": {"head": "ForTokenClassification", "labels": BIO, "seed": 3},
    "words": {"head": "ForTokenClassification", "labels": ("NOUN", "VERB"), "family": "xlm-roberta"},
    "bytes": {"head": "ForTokenClassification", "labels": BIO, "family": "roberta"},
    "answers": {"head": "ForQuestionAnswering"},
}


@pytest.fixture(scope="module")
def bundles(
    make_checkpoint: MakeCheckpoint,
    make_recipe: MakeRecipe,
    make_sentences: MakeSentences,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("spans")
    texts = folder / "texts.jsonl"
    sentences = make_sentences(100)
    rows = [{"question": text, "context": f"the {text}"} for text in sentences]
    texts.write_text("\n".join(map(json.dumps, rows)))
    (folder / "texts.txt").write_text("\n".join(sentences))
    found = {}
    for name, settings in KINDS.items():
        source = texts if name == "answers" else folder / "texts.txt"
        recipe = make_recipe(make_checkpoint(**settings), folder / name, source, samples=60, shapes=("2x8",))
        found[name] = prune_and_build(recipe).output
    return found


@pytest.fixture(scope="module")
def repositories(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("served")
    for name, bundle in bundles.items():
        write_repository(RepositoryRequest(bundle=bundle, output=folder / name, name=name, backend="python"))
    return {name: folder / name for name in bundles}


@pytest.fixture(scope="module")
def endpoints(server: str, repositories: dict[str, Path]) -> Iterator[Endpoints]:
    first, *others = repositories.values()
    with running_server(first, server, [f"--model-repository={path}" for path in others]) as running:
        yield running


def ask(endpoints: Endpoints, name: str, inputs: dict[str, tuple[str, ...]], outputs: tuple[str, ...]) -> list[Any]:
    """Return the outputs, text by text."""
    sent = {key: np.array([[x.encode()] for x in texts], dtype=np.object_) for key, texts in inputs.items()}
    with open_client("grpc", str(endpoints.grpc)) as client:
        found = client.infer(f"{name}-onnxruntime-fp32-text", sent, outputs)
    return list(zip(*(found[x].tolist() for x in outputs if found[x] is not None), strict=True))


def torch_outputs(bundle: Path, *texts: str) -> tuple[Any, Any]:
    checkpoint = load_checkpoint(bundle / "checkpoint")
    tokenizer = transformers.AutoTokenizer.from_pretrained(bundle / "checkpoint")
    encoded = tokenizer(*texts, truncation=True, return_tensors="pt", max_length=checkpoint.max_tokens)
    inputs = {name: encoded[name] for name in checkpoint.inputs}
    with torch.no_grad():
        return checkpoint.model.eval()(**inputs), encoded


def labelled(bundle: Path, text: str) -> list[tuple[str, float, int, int]]:
    """Return each word with the label of its first token; words are runs of letters, and marks one by one."""
    output, encoded = torch_outputs(bundle, text)
    chances = output.logits[0].softmax(-1)
    names = transformers.AutoConfig.from_pretrained(bundle / "checkpoint").id2label
    found, reached = [], 0
    for word in re.finditer(r"\w+|[^\w\s]", text):
        for token in range(reached, len(chances)):
            place = encoded.token_to_chars(0, token)
            if place is not None and place.end > word.start() and text[place.start : place.end].strip():
                if place.start < word.end():
                    best = int(chances[token].argmax())
                    last = max(
                        x.end
                        for x in (encoded.token_to_chars(0, t) for t in range(token, len(chances)))
                        if x is not None and x.start < word.end()
                    )
                    found.append((names[best], float(chances[token, best]), word.start(), min(last, word.end())))
                    reached = token + 1
                break
    return found


def entities(words: list[tuple[str, float, int, int]]) -> list[tuple[str, float, int, int]]:
    groups: list[list[tuple[str, float, int, int]]] = []
    for before, word in itertools.pairwise([("O", 0.0, 0, 0), *words]):
        if word[0] == "O":
            continue
        if word[0][0] == "I" and before[0][1:] == word[0][1:]:
            groups[-1].append(word)
        else:
            groups.append([word])
    return [(x[0][0][2:], float(np.mean([w[1] for w in x])), x[0][2], x[-1][3]) for x in groups]


@pytest.mark.parametrize("name", ["entities", "words", "bytes"])
def test_words_and_entities_are_those_of_torch(endpoints: Endpoints, bundles: dict[str, Path], name: str) -> None:
    texts = TEXTS
    if name == "words":  # its tokenizer makes one unknown token of a word and the marks at it
        texts = tuple(re.sub(r"[^\w\s]", " ", text) for text in TEXTS)
    found = ask(endpoints, name, {"text": texts}, ("labels", "scores", "starts", "ends"))
    some = 0
    for text, columns in zip(texts, found, strict=True):
        words = labelled(bundles[name], text)
        expected = words if name == "words" else entities(words)
        some += len(expected)
        items = list(zip(*columns, strict=True))
        assert all(item == (b"", 0, -1, -1) for item in items[len(expected) :])
        items = items[: len(expected)]
        assert [(x[0].decode(), x[2], x[3]) for x in items] == [(x[0], x[2], x[3]) for x in expected]
        assert [x[1] for x in items] == pytest.approx([x[1] for x in expected], abs=1e-4)
    assert some > 10


def test_answers_are_those_of_torch(endpoints: Endpoints, bundles: dict[str, Path]) -> None:
    questions = ("was it good?", "the plot", "", "dark " * 80)
    contexts = ("A GOOD film, by the actor", "Über naïve story " * 40, "?", "film")
    columns = ("answer", "score", "start", "end")
    found = ask(endpoints, "answers", {"question": questions, "context": contexts}, columns)
    for question, context, ((answer,), (score,), (start,), (end,)) in zip(questions, contexts, found, strict=True):
        output, encoded = torch_outputs(bundles["answers"], question, context)
        places = [i for i, part in enumerate(encoded.sequence_ids(0)) if part == 1]
        starts, ends = output.start_logits[0], output.end_logits[0]
        pairs = [(i, j) for i in places for j in places if 0 <= j - i < 30]
        first, last = max(pairs, key=lambda pair: float(starts[pair[0]] + ends[pair[1]]))
        expected = (encoded.token_to_chars(0, first).start, encoded.token_to_chars(0, last).end)
        assert ((start, end), answer.decode()) == (expected, context[slice(*expected)])
        counted = [0, *places]
        chance = starts[counted].softmax(0)[counted.index(first)] * ends[counted].softmax(0)[counted.index(last)]
        assert score == pytest.approx(float(chance), abs=1e-4)


def test_there_is_no_answer_without_a_context(endpoints: Endpoints) -> None:
    columns = ("answer", "score", "start", "end")
    found = ask(endpoints, "answers", {"question": ("was it good?", "a"), "context": ("", " \t ")}, columns)
    assert found == [([b""], [0.0], [-1], [-1])] * 2


def test_texts_that_are_not_utf_8_are_refused(endpoints: Endpoints) -> None:
    with open_client("grpc", str(endpoints.grpc)) as client:
        sent = {"text": np.array([[b"good \xff"]], dtype=np.object_)}
        with pytest.raises(tritonclient.utils.InferenceServerException, match="A text is not UTF-8"):
            client.infer("entities-onnxruntime-fp32-text", sent, ("labels",))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("with_bundle", [True, False])
def test_the_check_passes(
    endpoints: Endpoints, bundles: dict[str, Path], repositories: dict[str, Path], name: str, with_bundle: bool
) -> None:
    examples = [Example(text, "the film and the plot, by an actor") for text in TEXTS if text]
    bundle = bundles[name] if with_bundle else None
    report = check_server(repositories[name], endpoints, "", examples, bundle, Load(8, 4))
    assert [row.failures for row in report.rows] == [()] * 4
    assert all(row.max_abs_error <= row.tolerance for row in report.rows)
    assert not with_bundle or all(row.max_abs_error > 0 for row in report.rows)  # torch rounds otherwise
