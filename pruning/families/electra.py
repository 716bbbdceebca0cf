"""ELECTRA: BERT's layers over embeddings that may be narrower than they are."""

from collections.abc import Mapping

from torch import Tensor

from pruning.families.base import Family
from pruning.families.bert import BertAdapter


class ElectraAdapter(BertAdapter):
    """A model whose encoder is an ElectraModel."""

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the embeddings, widened to the hidden size where they are narrower."""
        embedded = super().embed(inputs)
        if not hasattr(self.encoder, "embeddings_project"):
            return embedded
        widened: Tensor = self.encoder.embeddings_project(embedded)
        return widened


class ElectraFamily(Family):
    """Checkpoints of ELECTRA, of its discriminators as of its generators."""

    pretraining_heads = ("discriminator_predictions.", "generator_predictions.", "generator_lm_head.")


ELECTRA = ElectraFamily("electra", ElectraAdapter)
