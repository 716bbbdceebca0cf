"""The model card that a pruned checkpoint carries, read back by huggingface_hub."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from kprune_export.bundle.model_card import card_facts, model_card
from kprune_export.pipeline.run import Outcome, prune
from kprune_export.recipe.recipe import Recipe
from pruning.checkpoint.load import load_checkpoint
from pruning.checkpoint.source import CARD_FILE
from pruning.errors import CheckpointError

MakeRecipe = Callable[..., Recipe]
CARD = """---
license: other
license_name: my-licence
license_link: https://example.org/licence
language: [no, en]
base_model: someone/base
model-index: nonsense
---
# Mine
"""


@pytest.fixture
def source(classifier: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(classifier, tmp_path / "source"))


def test_it_is_part_of_the_reproducible_checkpoint(built: Outcome) -> None:
    assert "checkpoint/README.md" in built.manifest.reproducible_hashes()
    card = ModelCard.load(built.output / "checkpoint" / CARD_FILE)
    assert card.data.to_dict() == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "metrics": ["accuracy"],
        "tags": ["kprune", "pruned"],
    }
    assert built.plan is not None
    assert f"{built.plan.flops_reduction:.2%} of the encoder's FLOPs" in card.text
    for n, layer in enumerate(built.plan.layers):
        assert f"\n| {n} | {len(layer.heads)} | {len(layer.neurons)} |\n" in card.text
    assert "AutoModelForSequenceClassification.from_pretrained" in card.text
    assert str(built.output) not in card.content
    assert built.manifest.source.model not in card.content


def test_the_licence_is_carried_over_and_decides_the_hash(
    source: Path, texts_file: Path, make_recipe: MakeRecipe, tmp_path: Path, built: Outcome
) -> None:
    (source / CARD_FILE).write_text(CARD, encoding="utf-8")
    first = prune(make_recipe(source, tmp_path / "first", texts_file)).manifest
    data = ModelCard.load(tmp_path / "first" / "checkpoint" / CARD_FILE).data.to_dict()
    assert data["license"] == "other"
    assert data["license_name"] == "my-licence"
    assert data["license_link"] == "https://example.org/licence"
    assert data["language"] == ["no", "en"]
    assert data["base_model"] == "someone/base"
    again = prune(make_recipe(source, tmp_path / "again", texts_file)).manifest
    assert again.reproducible_hashes() == first.reproducible_hashes()
    assert again.stages == first.stages
    (source / CARD_FILE).write_text(CARD.replace("my-licence", "another"), encoding="utf-8")
    changed = prune(make_recipe(source, tmp_path / "first", texts_file)).manifest
    differing = set(changed.reproducible_hashes().items()) ^ set(first.reproducible_hashes().items())
    assert {path for path, _ in differing} == {"checkpoint/README.md"}


def test_a_hub_id_is_the_base_model(source: Path, built: Outcome) -> None:
    (source / CARD_FILE).write_text(CARD, encoding="utf-8")
    checkpoint = load_checkpoint(source)
    assert card_facts("owner/name", checkpoint).base_model == "owner/name"
    assert card_facts(str(source), checkpoint).base_model == "someone/base"
    assert built.plan is not None
    card = ModelCard(model_card(card_facts("owner/name", checkpoint), checkpoint, built.plan))
    assert card.data.base_model == "owner/name"
    assert "A pruned version of owner/name: " in card.text
    card = ModelCard(model_card(card_facts(str(source), checkpoint), checkpoint, built.plan))
    assert "A pruned version: " in card.text  # of a model made from someone/base, not of that itself


def test_an_embedder_is_for_sentence_transformers(embedder: Path, built: Outcome) -> None:
    checkpoint = load_checkpoint(embedder)
    assert built.plan is not None
    card = ModelCard(model_card(card_facts(str(embedder), checkpoint), checkpoint, built.plan))
    assert (card.data.library_name, card.data.pipeline_tag) == ("sentence-transformers", "sentence-similarity")
    assert "SentenceTransformer(" in card.text


@pytest.mark.parametrize("block", ["license: [", "- a", "license: {a: b}", "base_model: [[x]]"])
def test_metadata_that_cannot_be_read_is_refused(source: Path, block: str) -> None:
    (source / CARD_FILE).write_text(f"---\n{block}\n---\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="README.md, the model's licence perhaps, cannot be read") as caught:
        card_facts(str(source), load_checkpoint(source))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "# A model\n", "---\n---\n", "---\nlicense:\n---\n"])
def test_cards_without_metadata_say_nothing(source: Path, text: str) -> None:
    (source / CARD_FILE).write_text(text, encoding="utf-8")
    assert card_facts(str(source), load_checkpoint(source)).carried == {}
