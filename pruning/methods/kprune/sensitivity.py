"""Sensitivity curves: the divergence of the model's output when one sublayer is cut to a width, as measured.

Each sublayer of the dense model is cut by elimination, its projection re-solved on three quarters of the
texts, and the divergence at the output measured on the others, at a grid of widths. The curves do not
depend on the budget: they serve every rate.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, FiniteFloat, model_validator
from torch import Tensor

from pruning.calibration.batches import Batch
from pruning.families.base import EncoderAdapter, Sublayer
from pruning.memory import return_freed_memory
from pruning.methods.boundary import HiddenStates
from pruning.methods.journal import Journal
from pruning.methods.kprune.elimination import Elimination, eliminate
from pruning.methods.least_squares import NormalEquations
from pruning.methods.placement import Placement
from pruning.methods.shards import is_first_process, sum_over_processes

MEASURED = slice(0, None, 4)
"""The texts of a batch that a cut sublayer is measured on."""
RIDGE = 1e-2
"""The ridge that the curves and the eliminations are solved with."""
WIDTH_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.32, 0.25, 0.18, 0.12, 0.07, 0.03, 0.01, 0.0)
"""The widths that are measured, as shares of the units; no two closer than one unit."""
MEASURED_TOKENS = 4096
"""How many padded tokens pass a sublayer at once while widths are measured."""


class SensitivityCurve(BaseModel):
    """The mean divergence for each text, in the task's unit, at some widths of one sublayer.

    Attributes:
        widths: how many units are kept, descending.
        losses: the divergence at each.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    widths: tuple[int, ...]
    losses: tuple[FiniteFloat, ...]

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if len(self.widths) != len(self.losses) or len(self.widths) < 2 or self.widths[-1] != 0:
            raise ValueError("a curve has a loss at each of its widths, the last of which is 0")
        if any(after >= before for before, after in pairwise(self.widths)):
            raise ValueError("a curve's widths descend")
        return self


def measured_widths(units: int) -> list[int]:
    """Return the widths at which a sublayer of some units is measured, descending, from all to none."""
    return sorted({round(units * share) for share in WIDTH_SHARES}, reverse=True)


def sensitivity_curves(
    adapter: EncoderAdapter,
    batches: Sequence[Batch],
    metric: Callable[[int], Tensor],
    placement: Placement,
    journal: Journal | None,
    done: Callable[[int], None],
) -> list[SensitivityCurve]:
    """Measure the curve of every sublayer of a dense model.

    Args:
        adapter: the dense model, which stays as it is.
        batches: the calibration set.
        metric: given a sublayer's number, returns the square root of its output error's metric, (d, d).
        placement: where the network runs.
        journal: where finished curves are recorded and taken from.
        done: called with how many sublayers a batch has passed.

    """
    measured = HiddenStates.at_embeddings(adapter, [batch.texts(MEASURED) for batch in batches], placement)
    others = [batch.without(MEASURED) for batch in batches]
    fitted = HiddenStates.at_embeddings(adapter, [batch for batch in others if batch.rows], placement)
    targets = measured.outputs(adapter)
    curves = []
    for number, sublayer in enumerate(adapter.sublayers):
        above = adapter.sublayers[number + 1 :]
        step = f"curve-{number:03d}"
        found = journal.load(step) if journal else None
        if found is None:
            with placement.layer(sublayer):
                eliminations = _eliminations(sublayer, fitted, metric(number))
            losses = torch.zeros(len(eliminations), dtype=torch.float64)
            texts = torch.zeros(1, dtype=torch.float64)
            for batch in measured.batches:
                losses += _divergences(adapter, sublayer, above, measured, batch, eliminations, targets[batch])
                texts += len(measured.hidden[batch])
                done(2 + len(above))
            for part in (losses, texts):
                sum_over_processes(part)
            found = {"widths": torch.tensor([len(x.kept) for x in eliminations]), "losses": losses / texts}
            if journal and is_first_process():
                journal.save(step, found)
        else:
            done((2 + len(above)) * len(measured.batches))
        curves.append(SensitivityCurve(widths=tuple(found["widths"].tolist()), losses=tuple(found["losses"].tolist())))
        return_freed_memory()
        with placement.layer(sublayer):
            for states in (fitted, measured):
                for batch in states.batches:
                    states.advance(batch, sublayer)
    return curves


def _eliminations(sublayer: Sublayer, states: HiddenStates, metric: Tensor) -> list[Elimination]:
    """Solve a dense sublayer at every width that is measured."""
    projection = sublayer.projection
    columns, size = projection.in_features, projection.out_features
    problem = NormalEquations(columns, size, sublayer.bias is not None, states.placement.device)
    for batch in states.batches:
        features = states.features(batch, sublayer)
        with torch.no_grad(), states.placement.network():
            target = projection(features)
        problem.add(states.tokens(batch, features), states.tokens(batch, target))
    problem.reduce()
    return eliminate(problem, projection.weight, RIDGE, sublayer.unit_size, measured_widths(sublayer.units), metric)


@torch.no_grad()
def _divergences(
    adapter: EncoderAdapter,
    sublayer: Sublayer,
    above: Sequence[Sublayer],
    states: HiddenStates,
    batch: int,
    eliminations: Sequence[Elimination],
    target: Tensor,
) -> Tensor:
    """Return the divergence of one batch's texts, summed, with the sublayer cut to each width: (widths,)."""
    placement, masks = states.placement, states.contexts[batch]
    texts, tokens = masks.attention_mask.shape
    together = max(1, MEASURED_TOKENS // (texts * tokens))
    with placement.layer(sublayer):
        features = states.features(batch, sublayer)
    hidden = placement.to_device(states.hidden[batch])
    sums = []
    for start in range(0, len(eliminations), together):
        cuts = eliminations[start : start + together]
        with placement.layer(sublayer), placement.network():
            stacked = torch.cat([sublayer.finish(hidden + _projected(sublayer, features, cut)) for cut in cuts])
        repeated = adapter.context(masks.attention_mask.repeat(len(cuts), 1), masks.counted.repeat(len(cuts), 1))
        moving = HiddenStates(placement, [repeated], [placement.to_storage(stacked)])
        for upper in above:
            with placement.layer(upper):
                moving.advance(0, upper)
        teacher = target.repeat(len(cuts), *[1] * (target.dim() - 1))
        moved = adapter.divergence(adapter.output(moving.hidden[0], repeated), teacher, repeated, 1.0)
        sums.append(moved.view(len(cuts), texts).double().sum(1).cpu())
    return torch.cat(sums)


def _projected(sublayer: Sublayer, features: Tensor, cut: Elimination) -> Tensor:
    """Return what a cut sublayer adds to its input, (texts, tokens, d)."""
    kept = features[..., sublayer.columns(cut.kept)]
    weight, bias = cut.weight.to(features.dtype), cut.bias.to(features.dtype)
    return kept @ weight + bias.sum(0)
