"""A loaded checkpoint as exporters see it: its specification, calibration feeds, and the tolerances of its variants."""

from collections.abc import Sequence

from exporters.onnx.write import GraphRecord
from exporters.parity.check import (
    BFLOAT16_TOLERANCE,
    FLOAT16_TOLERANCE,
    FLOAT32_TOLERANCE,
    Tolerance,
    int8_tolerance,
)
from exporters.runners.base import Feeds
from exporters.spec import BATCH, SEQUENCE, ModelSpec, TensorSpec
from exporters.variant import Precision, Variant
from pruning.calibration.examples import Example
from pruning.checkpoint.load import EncoderCheckpoint
from pruning.tasks import Output

RANGE_TEXTS = 64
"""How many calibration texts int8's ranges are measured on."""


def model_spec(checkpoint: EncoderCheckpoint, versions: dict[str, str]) -> ModelSpec:
    """Describe a checkpoint to the exporters, with the metadata that its graph carries."""
    config = checkpoint.model.config
    plan = checkpoint.plan
    metadata = {
        "kprune.task": checkpoint.task.name,
        "kprune.pooling": checkpoint.pooled_by or "",
        "kprune.labels": "\n".join(checkpoint.task.labels),
        "kprune.max_tokens": str(checkpoint.max_tokens),
        "kprune.plan_sha256": plan.sha256 if plan else "",
        "kprune.source_sha256": plan.source_sha256 if plan else checkpoint.identity.weights_sha256,
        **{f"version.{name}": version for name, version in versions.items()},
    }
    return ModelSpec(
        inputs=checkpoint.inputs,
        outputs=tuple(_tensor_spec(output) for output in checkpoint.task.outputs),
        max_positions=checkpoint.max_positions,
        vocabulary=config.vocab_size,
        token_types=checkpoint.family.token_types(config),
        pad_token_id=checkpoint.tokenizer.pad_token_id or 0,
        attention_layers=plan.attention_layers if plan else config.num_hidden_layers,
        metadata=metadata,
    )


def _tensor_spec(output: Output) -> TensorSpec:
    tokens = (SEQUENCE,) if output.per_token else ()
    width = () if output.width is None else (output.width,)
    return TensorSpec(output.name, "float32", (BATCH, *tokens, *width))


def feeds_of(checkpoint: EncoderCheckpoint, texts: Sequence[Example], seed: int = 0) -> tuple[Feeds, ...]:
    """Return the first `RANGE_TEXTS` texts as batches of inputs.

    Args:
        checkpoint: what they are for.
        texts: calibration texts.
        seed: decides which tokens are masked, for a masked language model.

    """
    batches = checkpoint.batches(texts[:RANGE_TEXTS], seed)
    return tuple({name: batch.inputs[name].numpy() for name in checkpoint.inputs} for batch in batches)


_FLOAT_TOLERANCES = {
    Precision.FP32: FLOAT32_TOLERANCE,
    Precision.FP16: FLOAT16_TOLERANCE,
    Precision.BF16: BFLOAT16_TOLERANCE,
}


def tolerance_of(variant: Variant, graph: GraphRecord) -> Tolerance:
    """Return how far a variant's values may be off."""
    if variant.precision is Precision.INT8:
        return int8_tolerance(sum(x.quantized for x in graph.matmuls))
    return _FLOAT_TOLERANCES[variant.precision]
