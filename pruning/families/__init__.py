"""The supported architectures, by the ``model_type`` of their configurations."""

from pruning.errors import UnsupportedModelError
from pruning.families.base import Family
from pruning.families.bert import BERT

FAMILIES: dict[str, Family] = {BERT.name: BERT}


def family_of(model_type: str) -> Family:
    """Return the family that handles a ``model_type``.

    Raises:
        UnsupportedModelError: none does; the message names those that are supported.

    """
    try:
        return FAMILIES[model_type]
    except KeyError:
        raise UnsupportedModelError(
            f"The checkpoint's architecture is {model_type!r}, which is not supported: "
            f"supported are {', '.join(sorted(FAMILIES))}."
        ) from None
