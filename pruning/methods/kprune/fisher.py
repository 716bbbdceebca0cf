"""The Fisher information of the model's output with respect to each sublayer's output.

Where student and teacher agree the divergence's gradient is zero, but its curvature is not: it is the
Fisher information, ``E[g·gᵀ]`` with g the gradient of the log-likelihood of an output that is drawn from
the model's own prediction (Martens, JMLR 2020, section 5). One draw and one backward pass give an
unbiased estimate for all sublayers at once.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from pruning.calibration.batches import Batch
from pruning.families.base import EncoderAdapter
from pruning.methods.cholesky import cholesky_factor
from pruning.methods.disk_store import Spill
from pruning.methods.likelihood import likelihood_gradients
from pruning.methods.placement import Placement
from pruning.methods.shards import sum_over_processes

DAMPING = 0.1
"""How much of the identity is mixed into the metric, relative to its mean diagonal."""


def fisher_information(
    adapter: EncoderAdapter,
    batches: Sequence[Batch],
    placement: Placement,
    spill: Spill,
    done: Callable[[int], None],
) -> Iterator[tuple[int, Tensor]]:
    """Estimate ``Σ_tokens g·gᵀ`` at every sublayer's output before the norm, from the top to the bottom.

    Args:
        adapter: the dense model.
        batches: the calibration set; each batch's draw depends on its own texts' numbers only.
        placement: where the network runs.
        spill: where hidden states wait.
        done: called with how many sublayers a batch has passed.

    Yields:
        A sublayer's number and a float64 tensor, (d, d), on the device.

    """
    size = adapter.shape.hidden_size
    for number, gradients in likelihood_gradients(adapter, batches, placement, spill):
        information = torch.zeros(size, size, dtype=torch.float64, device=placement.device)
        for gradient in gradients:
            rows = gradient.at_total.float()
            information += rows.T @ rows
            done(1)
        sum_over_processes(information)
        yield number, information


def metric_root(information: Tensor) -> Tensor:
    """Return a square root M, (d, d), of the damped metric ``M·Mᵀ = F/mean(diag F) + DAMPING·I``.

    Where the output does not depend on the sublayer at all, F is zero and the metric the identity's.
    """
    scale = information.diagonal().mean()
    metric = information / scale if scale != 0 else torch.zeros_like(information)  # NaN is no 0
    metric = metric + DAMPING * torch.eye(len(metric), dtype=metric.dtype, device=metric.device)
    return cholesky_factor(metric, "Fisher information of a sublayer's output")
