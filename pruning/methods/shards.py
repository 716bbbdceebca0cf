"""A calibration set that several processes share: each has some of the batches, and sums are reduced.

Scores, Gram matrices and losses are sums over tokens or texts, so every process ends with the same sums
and takes the same decisions. Without a process group there is one process, and nothing is reduced.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch.distributed as dist
from torch import Tensor

Item = TypeVar("Item")


def processes() -> int:
    """Return how many processes share the calibration set."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first_process() -> bool:
    """Return whether this process is the one that writes files."""
    return processes() == 1 or dist.get_rank() == 0


def shard(items: Sequence[Item]) -> Sequence[Item]:
    """Return this process's share of the items: every n-th, so that long and short batches are spread evenly."""
    return items[dist.get_rank() :: processes()] if processes() > 1 else items


def sum_over_processes(tensor: Tensor) -> None:
    """Replace a tensor by its sum over the processes."""
    if processes() > 1:
        dist.all_reduce(tensor)
