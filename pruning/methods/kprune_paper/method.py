"""K-prune as published, from the bottom sublayer to the top: measure, search, tune, move up."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pruning.errors import DeviceError
from pruning.families.base import Sublayer, SublayerKind
from pruning.memory import return_freed_memory
from pruning.methods.base import PruningMethod, PruningRun, Work, check_budget, prune_upward
from pruning.methods.boundary import Boundary
from pruning.methods.journal import TunedSublayer
from pruning.methods.kprune_paper import knowledge
from pruning.methods.least_squares import NormalEquations
from pruning.methods.selection import select_units
from pruning.methods.shards import sum_over_processes
from pruning.plan import LayerPlan

PUBLISHED_BATCH_SIZE = 32
HELD_TOKENS = 4096
"""How many padded tokens are held at once for the backward pass, summed over the sublayers that it goes through."""


class PublishedKPrune(PruningMethod):
    """K-prune with its published hyperparameters (Park, Choi and Kang, ICLR 2024, section 3 and appendix).

    γ = 2, μ = 64, and λ = 2.5e-4 for gradients of a divergence averaged over batches of 32 texts. Here
    gradients are taken text by text, so that sums do not depend on how texts are batched; that multiplies
    K_pred by 32² (exactly, where the texts' gradients are uncorrelated), and λ with it. The output bias
    is not tuned. The published least-squares problems are unregularised; the ridge of 1e-6 only makes
    those solvable that are not.
    """

    name = "kprune-paper"
    summary = "K-prune as published (Park, Choi and Kang, ICLR 2024)"
    dense_passes = 20.0
    defaults: ClassVar[Mapping[str, float | None]] = {
        "temperature": 2.0,
        "balance": 2.5e-4 * PUBLISHED_BATCH_SIZE**2,
        "head_weight": 64.0,
        "ridge": 1e-6,
    }

    def prune(self, run: PruningRun) -> tuple[LayerPlan, ...]:
        """Prune a dense encoder in place and return what every layer keeps."""
        if run.placement.offloads:
            raise DeviceError(
                f"The method {self.name} runs backward through all layers at once, so its weights cannot be offloaded: "
                "leave out --offload, or use --method kprune."
            )
        left = check_budget(run.adapter.shape, run.settings)
        sublayers, batches = run.adapter.sublayers, len(run.batches)

        def passes(number: int) -> int:  # a score pass over n sublayers costs about 2n, the tuning 3
            return 2 * (len(sublayers) - number) + 3

        work = Work(max(1, batches * sum(map(passes, range(len(sublayers))))), run.progress)
        boundary = Boundary.at_embeddings(run.adapter, run.batches, run.placement)
        targets = boundary.teacher.outputs(run.adapter)
        ridge = self.hyperparameter(run, "ridge")

        def tune(number: int, sublayer: Sublayer) -> TunedSublayer:
            spent = sum(x.units * cost for x, cost in zip(sublayers[:number], run.costs, strict=False))
            scores = self._scores(run, boundary, targets, number, work)
            kept = select_units(scores, run.costs[number:], left - spent)[0]
            return _tuned(sublayer, boundary, kept, ridge, work)

        return prune_upward(run, boundary, tune, skip=lambda number: work.done(batches * passes(number)))

    def _scores(
        self, run: PruningRun, boundary: Boundary, targets: list[Tensor], start: int, work: Work
    ) -> list[Tensor]:
        """Measure the knowledge of the sublayers from ``start`` up, in one pass forward and backward."""
        adapter, device, temperature = run.adapter, run.placement.device, self.hyperparameter(run, "temperature")
        sublayers = adapter.sublayers[start:]
        predictive = [knowledge.zeros(x.units, device) for x in sublayers]
        energy = [knowledge.zeros(x.units * x.unit_size, device) for x in sublayers]
        for batch, texts in _texts_at_once(boundary, len(sublayers)):
            masks = boundary.student.contexts[batch]
            context = adapter.context(masks.attention_mask[texts], masks.counted[texts])
            hidden = boundary.student.hidden[batch][texts]
            for i, sublayer in enumerate(sublayers):
                features = sublayer.features(hidden, context)
                if i == 0:  # everything below is constant: the backward pass ends here
                    features = features.detach().requires_grad_()
                values = features.detach()
                energy[i] += knowledge.feature_energy(values, context.attention_mask)

                def accumulate(gradient: Tensor, i: int = i, values: Tensor = values) -> None:
                    size = sublayers[i].unit_size
                    predictive[i] += knowledge.predictive_knowledge(values, gradient, size)

                features.register_hook(accumulate)  # type: ignore[no-untyped-call]
                hidden = sublayer.finish(hidden + sublayer.projection(features))
            moved = adapter.divergence(adapter.output(hidden, context), targets[batch][texts], context, temperature)
            moved.sum().backward()  # type: ignore[no-untyped-call]
            del features, values, hidden, moved  # the graph goes before the next one is built
            if texts.start == 0:
                if batch % 4 == 0:  # pages that are given back take time to come again
                    return_freed_memory()
                work.done(2 * len(sublayers))
        for part in (*predictive, *energy):
            sum_over_processes(part)
        return [
            knowledge.importance(
                predictive[i],
                knowledge.representational_knowledge(energy[i], sublayer.projection.weight, sublayer.unit_size),
                self.hyperparameter(run, "balance"),
                self.hyperparameter(run, "head_weight") if sublayer.kind is SublayerKind.ATTENTION else 1.0,
                run.costs[start + i],
            ).cpu()
            for i, sublayer in enumerate(sublayers)
        ]


def _texts_at_once(boundary: Boundary, sublayers: int) -> Iterator[tuple[int, slice]]:
    """Yield batches in parts of so few texts that the activations of all sublayers above may be held."""
    for batch in boundary.batches:
        texts, tokens = boundary.student.contexts[batch].attention_mask.shape
        together = max(1, HELD_TOKENS // (tokens * sublayers))
        for start in range(0, texts, together):
            yield batch, slice(start, start + together)


@torch.no_grad()
def _tuned(sublayer: Sublayer, boundary: Boundary, kept: Tensor, ridge: float, work: Work) -> TunedSublayer:
    """Solve the kept units' output projection again; the teacher moves above the sublayer meanwhile."""
    projection = sublayer.projection
    kept = kept.to(projection.weight.device)
    columns = sublayer.columns(kept)
    problem = NormalEquations(len(columns), projection.out_features, bias=False, device=projection.weight.device)
    for batch in boundary.batches:
        target = boundary.advance_teacher(batch, sublayer)
        if sublayer.bias is not None:
            target = target - sublayer.bias
        features = boundary.student.features(batch, sublayer)[..., columns]
        problem.add(boundary.student.tokens(batch, features).double(), boundary.student.tokens(batch, target).double())
        work.done(3)
    problem.reduce()
    weight, _ = problem.solve(projection.weight[:, columns], None, ridge)
    bias = None if sublayer.bias is None else sublayer.bias.detach()
    return TunedSublayer(kept, weight.to(projection.weight.dtype), bias)
