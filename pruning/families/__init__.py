"""The supported architectures, by the ``model_type`` of their configurations."""

from pruning.errors import UnsupportedModelError
from pruning.families.base import Family
from pruning.families.bert import BERT
from pruning.families.deberta import DEBERTA_V2
from pruning.families.distilbert import DISTILBERT
from pruning.families.electra import ELECTRA
from pruning.families.modernbert import MODERNBERT
from pruning.families.mpnet import MPNET
from pruning.families.roberta import CAMEMBERT, ROBERTA, XLM_ROBERTA

FAMILIES: dict[str, Family] = {
    "bert": BERT,
    "camembert": CAMEMBERT,
    "deberta-v2": DEBERTA_V2,
    "distilbert": DISTILBERT,
    "electra": ELECTRA,
    "modernbert": MODERNBERT,
    "mpnet": MPNET,
    "roberta": ROBERTA,
    "xlm-roberta": XLM_ROBERTA,
}
REFUSED = {
    "albert": "all its layers share one set of weights, so that no layer can lose units of its own",
}
"""Architectures that cannot be pruned, and why."""


def family_of(model_type: str) -> Family:
    """Return the family that handles a ``model_type``.

    Raises:
        UnsupportedModelError: none does; the message says why, or names those that are supported.

    """
    if model_type in REFUSED:
        raise UnsupportedModelError(
            f"The checkpoint's architecture is {model_type!r}, which cannot be pruned: {REFUSED[model_type]}."
        )
    try:
        return FAMILIES[model_type]
    except KeyError:
        raise UnsupportedModelError(
            f"The checkpoint's architecture is {model_type!r}, which is not supported: "
            f"supported are {', '.join(sorted(FAMILIES))}."
        ) from None
