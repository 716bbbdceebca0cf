"""The weights that belong to each unit of a sublayer."""

import torch
from torch import Tensor, nn

from pruning.families.base import Sublayer


def incoming_weights(sublayer: Sublayer) -> Tensor:
    """Return the weights that every unit has in the Linears before it: rows of query, key and value, or of the FFN's.

    Where a Linear is fused (query with key and value, or a neuron with its gate), a unit has rows in each part.

    Args:
        sublayer: a sublayer with units.

    Returns:
        A tensor of shape (units, values).

    """
    columns, parts = sublayer.projection.in_features, []
    for name in sublayer.inputs:
        layer: nn.Linear = sublayer.module.get_submodule(name)
        rows = layer.weight.detach().view(-1, columns, layer.in_features).transpose(0, 1)
        parts.append(rows.reshape(sublayer.units, -1))
    return torch.cat(parts, dim=1)


def outgoing_weights(sublayer: Sublayer) -> Tensor:
    """Return the weights that every unit has in the output projection: (units, d·unit_size)."""
    return sublayer.projection.weight.detach().T.reshape(sublayer.units, -1)
