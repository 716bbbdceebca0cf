"""The module that is deployed: token ids in, the task's outputs out."""

from torch import Tensor, nn

from pruning.checkpoint.load import EncoderCheckpoint


class ServingModule(nn.Module):
    """A checkpoint's model with its head, as one module with plain tensors for inputs and output.

    It runs the model as pruning does, through its family's adapter: so a graph is exported without
    transformers' own mask building, which looks at the data, and without products of no units.
    """

    def __init__(self, checkpoint: EncoderCheckpoint) -> None:
        super().__init__()
        self.model = checkpoint.model
        self.head = checkpoint.head
        self.adapter = checkpoint.open()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Return the task's outputs for int64 inputs of shape (texts, tokens): one tensor, or several."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        outputs: Tensor | tuple[Tensor, ...] = self.head(self.adapter.encode(inputs, padded=True), attention_mask)
        return outputs
