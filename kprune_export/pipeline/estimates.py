"""Expected durations of a run's stages, from the time that the dense model takes on this machine."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from kprune_export.pipeline.job import Job
from pruning.calibration.batches import Batch

Expected = Callable[[], Mapping[str, float]]
"""Returns the expected duration in seconds of each stage that will run, by its title; measures the pace first."""
_MOST_TOKENS = 2048


@dataclass(frozen=True)
class Pace:
    """Speed of the dense model in torch, and how much it has to read.

    Attributes:
        token_s: seconds for each token, with padding, of a forward pass.
        calibration_tokens: the tokens of the calibration texts, with padding.
        held_out_tokens: the tokens of the held-out texts, with padding.

    """

    token_s: float
    calibration_tokens: int
    held_out_tokens: int

    @property
    def calibration_pass_s(self) -> float:
        """Seconds for a forward pass over the calibration texts."""
        return self.token_s * self.calibration_tokens

    @property
    def held_out_pass_s(self) -> float:
        """Seconds for a forward pass over the held-out texts."""
        return self.token_s * self.held_out_tokens


def pace_of(job: Job) -> Pace:
    """Time the dense model on one batch of the run's texts."""
    calibration = job.source.batches(job.calibration, job.recipe.seed) if job.calibration else ()
    held_out = job.source.batches(job.held_out, job.recipe.seed) if job.held_out else ()
    tokens = [sum(batch.attention_mask.numel() for batch in batches) for batches in (calibration, held_out)]
    timed = min((*calibration, *held_out), key=lambda x: abs(x.attention_mask.numel() - _MOST_TOKENS), default=None)
    return Pace(_token_s(job, timed) if timed else 0.0, *tokens)


@torch.no_grad()
def _token_s(job: Job, batch: Batch) -> float:
    adapter = job.source.open()
    context = adapter.context(batch.attention_mask, batch.counted)
    seconds = 0.0
    for _ in range(2):  # the first warms up
        start = time.perf_counter()
        hidden = adapter.embed(batch.inputs)
        for sublayer in adapter.sublayers:
            hidden = sublayer.forward(hidden, context)
        seconds = time.perf_counter() - start
    return seconds / batch.attention_mask.numel()
