"""Loss of a recovery: the task's divergence from the dense model, and the hidden states' distance, layer by layer."""

from dataclasses import dataclass

from torch import Tensor

from pruning.calibration.batches import Batch
from pruning.families.base import EncoderAdapter
from pruning.families.sublayer import Context


@dataclass(frozen=True)
class Activations:
    """What a model gives for a batch.

    Attributes:
        output: what the task's divergence compares.
        hidden: the hidden states above each layer, (texts, tokens, d) each.
        context: the batch's masks.

    """

    output: Tensor
    hidden: tuple[Tensor, ...]
    context: Context


def activations(adapter: EncoderAdapter, batch: Batch) -> Activations:
    """Run a model on a batch."""
    context = adapter.context(batch.attention_mask, batch.counted)
    hidden, layers = adapter.embed(batch.inputs), []
    for number, sublayer in enumerate(adapter.sublayers):
        hidden = sublayer.forward(hidden, context)
        if number % 2:  # a layer is attention and FFN
            layers.append(hidden)
    return Activations(adapter.output(hidden, context), tuple(layers), context)


def output_loss(adapter: EncoderAdapter, student: Activations, teacher: Activations) -> Tensor:
    """Return the mean divergence of a text, or, for tasks with an output for each token, of a token that counts."""
    by_text = adapter.divergence(student.output, teacher.output, student.context, 1.0)
    if adapter.task.outputs[0].per_token:
        return by_text.sum() / student.context.counted.sum().clamp(min=1)
    return by_text.mean()


def hidden_loss(student: Activations, teacher: Activations) -> Tensor:
    """Return the squared distance of hidden states relative to the teacher's squares, a mean over layers.

    Both are means over tokens that are not padding and over dimensions; models differ in the scale of their hidden
    states, and layers of pre-norm models do too.
    """
    mask = student.context.attention_mask.bool()
    distances = [
        (mine - theirs).square().mean(-1)[mask].mean() / theirs.square().mean(-1)[mask].mean()
        for mine, theirs in zip(student.hidden, teacher.hidden, strict=True)
    ]
    total = distances[0]
    for distance in distances[1:]:
        total = total + distance
    return total / len(distances)
