"""Comparisons of classes chosen for tokens, batch by batch."""

from collections.abc import Sequence

import numpy as np

from exporters.runners.base import Array
from kprune_export.evaluation.base import Outputs
from kprune_export.evaluation.fidelity import ClassComparison

_COMPARED = ("dense", "pruned", "kl")


def as_arrays(comparison: ClassComparison) -> dict[str, Array]:
    """Return a comparison as arrays by name, (choices,) each; `as_comparisons` reads them."""
    return {f"compared_{name}": getattr(comparison, name) for name in _COMPARED}


def as_comparisons(reduced: Outputs) -> list[ClassComparison]:
    """Return the comparison of a batch, where it had a token that counts."""
    if "compared_kl" not in reduced:
        return []
    return [ClassComparison(*(reduced[f"compared_{name}"] for name in _COMPARED))]


def joined(comparisons: Sequence[ClassComparison]) -> ClassComparison:
    """Return the comparisons of several batches as one."""
    return ClassComparison(*(np.concatenate([getattr(x, name) for x in comparisons]) for name in _COMPARED))
