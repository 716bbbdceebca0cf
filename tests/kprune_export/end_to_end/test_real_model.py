"""The main job on the real embedded model, at a small setting, and the libraries that open its result."""

import html
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kprune_export.pipeline.run import Outcome, prune_and_build
from kprune_export.recipe.recipe import Recipe
from pruning import load_pruned, load_sentence_transformer

TEXTS = ["A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell sharply today."]


@pytest.fixture(scope="module")
def bundle(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    settings = {
        "model": str(minilm),
        "output": tmp_path_factory.mktemp("real") / "bundle",
        "flops_reduction": 0.3,
        "samples": 150,
        "held_out": 40,
        "shapes": "1x16",
        "timing_seconds": 0.2,
        "threads": 2,
    }
    return prune_and_build(Recipe.build(None, settings))


def test_it_lands_and_keeps_meaning(bundle: Outcome) -> None:
    assert bundle.plan is not None
    assert bundle.reports[0].fidelity is not None
    assert 0.3 <= bundle.plan.flops_reduction < 0.3001
    assert bundle.reports[0].fidelity.headline.name == "mean_cosine"
    assert bundle.reports[0].fidelity.headline.value > 0.8


def test_sentence_transformers_opens_it_and_agrees_with_the_onnx(bundle: Outcome) -> None:
    """ONNX Runtime is used as the report says: its own code runs, in a process of its own."""
    model = load_sentence_transformer(bundle.output / "checkpoint")
    embeddings = model.encode(TEXTS)
    page = html.unescape((bundle.output / "report.html").read_text())
    snippet = page[page.index("import onnxruntime") : page.index("</pre>", page.index("import onnxruntime"))]
    program = snippet.replace('["a text"]', repr(TEXTS)) + "\nimport numpy\nnumpy.save('served.npy', outputs[0])\n"
    subprocess.run([sys.executable, "-c", program], cwd=bundle.output, check=True, timeout=120)
    served = np.load(bundle.output / "served.npy")
    (bundle.output / "served.npy").unlink()
    assert np.abs(served - embeddings).max() < 1e-5
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert embeddings[0] @ embeddings[1] > embeddings[0] @ embeddings[2] + 0.2


def test_pipeline_and_trainer_take_a_pruned_classifier(
    built: Outcome, make_sentences: Callable[..., list[str]], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer, Trainer, TrainingArguments, pipeline

    model, tokenizer = (
        load_pruned(built.output / "checkpoint"),
        AutoTokenizer.from_pretrained(built.output / "checkpoint"),
    )
    answers = pipeline("text-classification", model=model, tokenizer=tokenizer)(make_sentences(4))
    assert {answer["label"] for answer in answers} <= {"negative", "positive"}
    rows = [
        {**tokenizer(text, padding="max_length", max_length=16), "labels": i % 2}
        for i, text in enumerate(make_sentences(16))
    ]
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=8,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    before = model.classifier.weight.detach().clone()
    trainer.train()
    assert not (model.classifier.weight == before).all()
    trainer.save_model(str(tmp_path / "tuned"))
    assert (load_pruned(tmp_path / "tuned").classifier.weight == model.classifier.weight).all()
