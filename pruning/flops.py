"""Floating-point operations of an encoder's prunable units, as exact integers.

One multiply-add counts as two operations. For a sequence of ``s`` tokens, hidden size ``d`` and head
size ``d_h`` (Park, Choi and Kang, ICLR 2024, section 2):

* an attention head costs ``8·d·d_h·s + 4·s²·d_h`` (its share of the query, key, value and output
  projections, and its two attention products), and ``2·p·d_h·s`` more where each token is also compared
  with p rows of positions, as in DeBERTa;
* an FFN neuron costs ``2·m·d·s``, ``m`` being the number of weight matrices that it has a row or a
  column in: 2, or 3 where the FFN is gated.

Embeddings, norms, biases and task heads are not counted.
"""

from dataclasses import dataclass
from fractions import Fraction

from pruning.errors import BudgetError


@dataclass(frozen=True)
class UnitCosts:
    """FLOPs of one attention head and of one FFN neuron, at the sequence length they were made for."""

    head: int
    neuron: int


def unit_costs(
    hidden_size: int, head_size: int, ffn_matrices: int, sequence_length: int, position_rows: int = 0
) -> UnitCosts:
    """Return what one head and one neuron cost for a sequence of ``sequence_length`` tokens."""
    d, d_h, s, p = hidden_size, head_size, sequence_length, position_rows
    return UnitCosts(head=8 * d * d_h * s + 4 * s * s * d_h + 2 * p * d_h * s, neuron=2 * ffn_matrices * d * s)


def check_reduction(reduction: float) -> None:
    """Refuse a FLOPs reduction that is not strictly between 0 and 1.

    Raises:
        BudgetError: it is not; NaN is not either.

    """
    if not 0.0 < reduction < 1.0:
        raise BudgetError(
            f"The FLOPs reduction must be above 0 and below 1, but {reduction!r} was given: "
            "use for example 0.5 to remove half of the encoder's FLOPs."
        )


def budget_flops(dense_flops: int, reduction: float) -> int:
    """Return the most FLOPs that may be kept so that at least ``reduction`` of them is removed.

    The arithmetic is exact: ``reduction`` is taken as the decimal number that it prints as, so that
    0.7 of 1,000 FLOPs leaves 300, not 299.

    Raises:
        BudgetError: ``reduction`` is not strictly between 0 and 1.

    """
    check_reduction(reduction)
    return int((1 - Fraction(repr(reduction))) * dense_flops)
