"""RoBERTa, XLM-RoBERTa and CamemBERT: BERT's layers over position numbers that leave padding out."""

from typing import Any

from pruning.families.base import Family
from pruning.families.bert import BertAdapter


class RobertaFamily(Family):
    """Checkpoints whose positions are counted from the padding token's id on."""

    pretraining_heads = ("lm_head.",)

    def max_positions(self, config: Any) -> int:
        """Return the positions without those up to the padding's, which no token has: 512 of 514."""
        return int(config.max_position_embeddings) - int(config.pad_token_id) - 1


ROBERTA = RobertaFamily("roberta", BertAdapter)
XLM_ROBERTA = RobertaFamily("xlm-roberta", BertAdapter)
CAMEMBERT = RobertaFamily("camembert", BertAdapter)
