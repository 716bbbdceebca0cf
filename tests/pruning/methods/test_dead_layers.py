"""Sublayers that do nothing, as training sometimes leaves them: pruned like others, and first of all."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pruning import load_checkpoint
from pruning.calibration.examples import Example
from pruning.prune import prune_checkpoint
from pruning.settings import PruningSettings

DEAD = {"ffn": "layer.1.intermediate.dense", "attention": "layer.1.attention.self.value"}


@pytest.mark.parametrize("method", ["kprune", "kprune-paper"])
@pytest.mark.parametrize("dead", DEAD)
def test_a_dead_sublayer_is_pruned_without_loss(
    dead: str, method: str, classifier: Path, make_sentences: Callable[..., list[str]], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(classifier, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        if DEAD[dead] in name:
            weights[name].zero_()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    checkpoint = load_checkpoint(folder)
    texts = [Example(text) for text in make_sentences(60)]
    (batch, *_) = checkpoint.batches(texts)
    before = checkpoint.model(**batch.inputs).logits
    reduction = 0.08 if dead == "ffn" else 0.3  # less than all that the sublayer takes
    plan = prune_checkpoint(checkpoint, texts, PruningSettings(flops_reduction=reduction, method=method))
    after = checkpoint.model(**batch.inputs).logits
    assert plan.flops_reduction >= reduction
    assert torch.isfinite(after).all()
    if method == "kprune":  # which measures what removing costs
        assert torch.allclose(before, after, atol=1e-3)
