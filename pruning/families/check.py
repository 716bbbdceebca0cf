"""Does an adapter run a model as transformers does? Asked once, when a model is loaded."""

import torch

from pruning.errors import CheckpointError
from pruning.families.base import EncoderAdapter, changed_implementation

_FAILURES = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


@torch.no_grad()
def check_forward(adapter: EncoderAdapter, origin: str) -> None:
    """Run a few tokens through a model in both ways, and refuse it if they differ.

    Args:
        adapter: over the model.
        origin: the checkpoint, for messages.

    Raises:
        CheckpointError: transformers itself cannot run the model, or it gives values that are not finite.
        UnsupportedModelError: they differ: transformers has changed the architecture under its adapter.

    """
    config = adapter.model.config
    tokens = min(adapter.family.tokens_that_tell(config), adapter.family.max_positions(config))
    ids = torch.arange(2 * tokens).view(2, tokens) * 7 % config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, (tokens + 1) // 2 :] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if adapter.encoder.training:
        raise ValueError("a model in training mode drops out units")
    try:
        expected = adapter.encoder(**inputs).last_hidden_state[mask.bool()]
    except _FAILURES as error:
        raise CheckpointError(f"The model in {origin} cannot run {tokens} tokens: {_reason(error)}.") from error
    if not bool(torch.isfinite(expected).all()):
        name, largest = _largest_weight(adapter)
        raise CheckpointError(
            f"The model in {origin} gives values that are NaN or infinite for {tokens} tokens: its weights are too "
            f"large, up to {largest:.0e} in {name}, as after a training that diverged."
        )
    try:
        found = adapter.encode(inputs)[mask.bool()]
    except _FAILURES as error:
        raise changed_implementation(adapter.family.name, _reason(error)) from error
    largest = float(expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny))
    difference = float((found - expected).abs().max()) / largest
    if not difference < 4 * torch.finfo(expected.dtype).eps ** 0.5:
        what = f"hidden states differ by {difference:.1%} of the largest"
        raise changed_implementation(adapter.family.name, what)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")


def _largest_weight(adapter: EncoderAdapter) -> tuple[str, float]:
    """Return the name of the parameter with the largest magnitude, and that."""
    sizes = {name: float(x.abs().max()) for name, x in adapter.model.named_parameters() if x.numel()}
    name = max(sizes, key=lambda name: sizes[name])
    return name, sizes[name]
