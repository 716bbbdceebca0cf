from pathlib import Path

import pytest
import torch

from pruning import load_checkpoint
from pruning.calibration.batches import Batch
from pruning.errors import SolveError
from pruning.methods.disk_store import Spill
from pruning.methods.kprune.fisher import DAMPING, fisher_information, metric_root
from pruning.methods.kprune.sensitivity import measured_widths, sensitivity_curves
from pruning.methods.placement import CPU


def test_information_is_what_autograd_finds_over_the_whole_model(classifier: Path, batches: tuple[Batch, ...]) -> None:
    adapter = load_checkpoint(classifier).open()
    found = dict(fisher_information(adapter, batches[:2], CPU, Spill(), lambda _: None))
    expected = [torch.zeros(32, 32, dtype=torch.float64) for _ in adapter.sublayers]
    for batch in batches[:2]:
        context = adapter.context(batch.attention_mask, batch.counted)
        hidden, totals = adapter.embed(batch.inputs).requires_grad_(), []
        for sublayer in adapter.sublayers:
            totals.append(hidden + sublayer.projection(sublayer.features(hidden, context)))
            hidden = sublayer.finish(totals[-1])
        generator = torch.Generator().manual_seed(batch.rows[0])
        likelihood = adapter.sampled_likelihood(adapter.output(hidden, context), context, generator)
        for total, gradient in zip(expected, torch.autograd.grad(likelihood, totals), strict=True):
            rows = gradient[batch.attention_mask.bool()].double()
            total += rows.T @ rows
    for ours, theirs in ((found[number], x) for number, x in enumerate(expected)):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6 * float(theirs.abs().max()))
        assert float(ours.diagonal().min()) >= 0
        assert float(ours.abs().max()) > 0  # not zero anywhere, though student and teacher agree


def test_metric_root_is_a_root_of_the_damped_metric() -> None:
    rows = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    information = rows.T @ rows
    root = metric_root(information)
    expected = information / information.diagonal().mean() + DAMPING * torch.eye(4, dtype=torch.float64)
    assert torch.allclose(root @ root.T, expected)
    nothing = metric_root(torch.zeros(4, 4, dtype=torch.float64))
    assert torch.allclose(nothing @ nothing.T, DAMPING * torch.eye(4, dtype=torch.float64))


def test_curves_start_at_nothing_lost_and_end_with_the_sublayer_gone(
    classifier: Path, batches: tuple[Batch, ...]
) -> None:
    adapter = load_checkpoint(classifier).open()
    before = {name: value.clone() for name, value in adapter.model.state_dict().items()}
    curves = sensitivity_curves(
        adapter, batches, lambda _: torch.eye(32, dtype=torch.float64), CPU, None, lambda _: None
    )
    assert all(torch.equal(value, before[name]) for name, value in adapter.model.state_dict().items())
    for curve, sublayer in zip(curves, adapter.sublayers, strict=True):
        assert list(curve.widths) == measured_widths(sublayer.units)
        assert curve.widths[0] == sublayer.units
        assert curve.widths[-1] == 0
        assert curve.losses[0] < 1e-3 * max(curve.losses)
    # the top FFN without units, measured by hand: its bias becomes the mean of what it added on the fitted texts
    top = adapter.sublayers[-1]
    fitted = torch.zeros(32)
    count, lost, texts = 0, 0.0, 0
    states = []
    for batch in batches:
        context = adapter.context(batch.attention_mask, batch.counted)
        hidden = adapter.embed(batch.inputs)
        for sublayer in adapter.sublayers[:-1]:
            hidden = sublayer.forward(hidden, context)
        added = top.projection(top.features(hidden, context))
        fit = batch.attention_mask.bool().clone()
        fit[::4] = False
        fitted += added[fit].sum(0)
        count += int(fit.sum())
        states.append((batch, context, hidden))
    for _, context, hidden in states:
        teacher = adapter.output(top.forward(hidden, context), context)
        student = adapter.output(top.finish(hidden + fitted / count), context)
        divergence = adapter.divergence(student, teacher, context, 1.0)[::4]
        lost += float(divergence.sum())
        texts += len(divergence)
    assert abs(curves[-1].losses[-1] - lost / texts) < 1e-4 * lost / texts + 1e-9


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_information_that_is_not_finite_is_refused(value: float) -> None:
    information = torch.eye(3)
    information[1, 1] = value
    with pytest.raises(SolveError, match="Fisher information of a sublayer's output cannot be factored"):
        metric_root(information)
