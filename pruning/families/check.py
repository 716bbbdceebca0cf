"""Does an adapter run a model as transformers does? Asked once, when a model is loaded."""

import torch

from pruning.families.base import EncoderAdapter, changed_implementation


@torch.no_grad()
def check_forward(adapter: EncoderAdapter) -> None:
    """Run a few tokens through a model in both ways, and refuse it if they differ.

    Raises:
        UnsupportedModelError: they do: transformers has changed the architecture under its adapter.

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
        found = adapter.encode(inputs)[mask.bool()]
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise changed_implementation(adapter.family.name, " ".join(str(error).split())[:200]) from error
    difference = float((found - expected).abs().max() / expected.abs().max())
    if not difference < 4 * torch.finfo(expected.dtype).eps ** 0.5:
        what = f"hidden states differ by {difference:.1%} of the largest"
        raise changed_implementation(adapter.family.name, what)
