from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from pruning import PruningSettings, load_checkpoint
from pruning.calibration.batches import Batch
from pruning.methods.base import PruningRun, Work
from pruning.methods.boundary import Boundary
from pruning.methods.kprune_paper.method import PublishedKPrune
from pruning.methods.placement import CPU

MakeCheckpoint = Callable[..., Path]


def test_no_layer_below_the_boundary_runs_again(make_checkpoint: MakeCheckpoint, batches: tuple[Batch, ...]) -> None:
    checkpoint = load_checkpoint(make_checkpoint(num_hidden_layers=3))
    calls: Counter[int] = Counter()
    for number, layer in enumerate(checkpoint.model.bert.encoder.layer):
        layer.intermediate.dense.register_forward_hook(lambda *_, n=number: calls.update([n]))
    # hooks vanish as layers are cut, so every count is of the dense layers: the teacher's outputs (1), each
    # score pass at or below the FFN (2·layer + 2), the teacher's move (1) and the student's features (1)
    settings = PruningSettings(flops_reduction=0.4, method="kprune-paper", sequence_length=16)
    PublishedKPrune().prune(PruningRun(checkpoint.open(), batches, settings))
    assert calls == {layer: len(batches) * (1 + (2 * layer + 2) + 1 + 1) for layer in range(3)}


def test_scores_are_the_curvature_that_an_explicit_mask_has(
    make_checkpoint: MakeCheckpoint, batches: tuple[Batch, ...]
) -> None:
    """K_pred against its definition: masks on every unit, one set for each text, differentiated by autograd."""
    checkpoint = load_checkpoint(make_checkpoint(dtype=torch.float64))
    adapter = checkpoint.open()
    boundary = Boundary.at_embeddings(adapter, batches, CPU)
    targets = boundary.teacher.outputs(adapter)
    for target in targets:  # a teacher that differs, so that the gradient is not zero
        target += torch.randn(target.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    settings = PruningSettings(
        flops_reduction=0.5, method="kprune-paper", balance=0.0, head_weight=1.0, sequence_length=16
    )
    run = PruningRun(adapter, batches, settings)
    found = PublishedKPrune()._scores(run, boundary, targets, 1, Work(1, lambda _: None))

    expected = [torch.zeros(x.units, dtype=torch.float64) for x in adapter.sublayers[1:]]
    for batch in boundary.batches:
        context = boundary.student.contexts[batch]
        texts = len(context.attention_mask)
        masks = [torch.ones(texts, x.units, dtype=torch.float64, requires_grad=True) for x in adapter.sublayers[1:]]
        hidden = boundary.student.hidden[batch]
        for sublayer, mask in zip(adapter.sublayers[1:], masks, strict=True):
            features = sublayer.features(hidden, context) * mask.repeat_interleave(sublayer.unit_size, 1)[:, None]
            hidden = sublayer.finish(hidden + sublayer.projection(features))
        student = adapter.output(hidden, context)
        adapter.divergence(student, targets[batch], context, 2.0).sum().backward()
        for total, mask in zip(expected, masks, strict=True):
            assert mask.grad is not None
            total += 0.5 * mask.grad.square().sum(0)
    for scores, total, cost in zip(found, expected, run.costs[1:], strict=True):
        assert torch.allclose(scores * cost, total, rtol=1e-9)
