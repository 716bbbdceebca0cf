"""The module that is deployed: token ids in, logits or sentence embeddings out."""

from typing import Any

from torch import Tensor, nn

from pruning.checkpoint.load import EncoderCheckpoint
from pruning.families.base import pair_mask


class ServingModule(nn.Module):
    """A checkpoint's model with its head, as one module with plain tensors for inputs and output.

    The attention mask reaches the model as the boolean (texts, 1, tokens, tokens) mask that its
    attention reads in the end: the graph is exported without transformers' own mask building, and the
    outputs are the same.
    """

    def __init__(self, checkpoint: EncoderCheckpoint) -> None:
        super().__init__()
        self.model = checkpoint.model
        self.sentence_head = checkpoint.sentence_head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return the task's output, (texts, outputs), for int64 inputs of shape (texts, tokens)."""
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": pair_mask(attention_mask)}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        outputs = self.model(**inputs)
        if self.sentence_head is None:
            logits: Tensor = outputs.logits
            return logits
        embedding: Tensor = self.sentence_head(outputs.last_hidden_state, attention_mask)
        return embedding
