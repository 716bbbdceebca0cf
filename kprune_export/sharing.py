"""A run that torchrun started in several processes: the first does it, the others help it to prune.

    torchrun --nproc-per-node 4 -m kprune_export prune-and-build …

The first process runs the command as ever. The others wait; when it comes to pruning they are told what to
prune, take their share of the calibration batches, and reduce their sums with it. They write nothing.
"""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from pydantic import BaseModel, ConfigDict

from exporters.cpu_quota import usable_cpus
from pruning.calibration.examples import Example
from pruning.checkpoint.load import load_checkpoint
from pruning.errors import PruningError
from pruning.methods.placement import placement_on
from pruning.methods.settings import PruningSettings
from pruning.prune import prune_checkpoint, sensitivity_of

WAIT = timedelta(hours=24)
"""How long a process waits for another: the first may export and measure meanwhile."""


def launched_processes() -> int:
    """Return how many processes torchrun has started this command in; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def own_device(name: str) -> str:
    """Return this process's device: of several processes on a machine, each takes the GPU of its number."""
    if launched_processes() > 1 and name in ("cuda", "auto") and torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return name


class PruningTask(BaseModel):
    """What the first process asks the others to help with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    allow_pickle: bool
    pooling: str | None
    texts: tuple[tuple[str, str | None], ...]
    settings: PruningSettings
    device: str
    offload: bool
    journal: str
    curves_only: bool = False

    def help(self) -> None:
        """Do it with this process's share of the texts, and throw the result away: the first process has it too."""
        checkpoint = load_checkpoint(self.model, self.allow_pickle, self.pooling)
        examples = [Example(*pair) for pair in self.texts]
        placement = placement_on(own_device(self.device), self.offload)
        run = sensitivity_of if self.curves_only else prune_checkpoint
        run(checkpoint, examples, self.settings, placement, Path(self.journal))


@contextlib.contextmanager
def process_group() -> Iterator[bool]:
    """Join the other processes, if there are any; yields whether this process is the one that runs the command.

    When the first leaves, the others are told that there is nothing more to do.
    """
    if launched_processes() == 1:
        yield True
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=WAIT)
    try:
        yield dist.get_rank() == 0
    finally:
        if dist.is_initialized():
            if dist.get_rank() == 0:
                _tell("")
            dist.destroy_process_group()


@contextlib.contextmanager
def helped(task: PruningTask) -> Iterator[None]:
    """Have the other processes, if there are any, help with a task while the context lasts."""
    if launched_processes() == 1:
        yield
        return
    _tell(task.model_dump_json())
    try:
        with _share_of_threads():
            yield
    except BaseException:
        dist.destroy_process_group()  # the others may wait in the middle of a sum: they must not go on waiting
        raise


def follow() -> None:
    """Help the first process until it has nothing more to do, or is gone."""
    while (message := _hear()) != "":
        # an error is the first process's to report: it has the same sums, and so the same error
        with _share_of_threads(), contextlib.suppress(PruningError, RuntimeError):
            PruningTask.model_validate_json(message).help()


@contextlib.contextmanager
def _share_of_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", launched_processes()))
    torch.set_num_threads(max(1, usable_cpus() // here))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tell(message: str) -> None:
    """Send a text from the first process to all others; not pickled, as torch's own way would be."""
    data = torch.frombuffer(bytearray(message.encode()) or bytearray(1), dtype=torch.uint8)
    dist.broadcast(torch.tensor(len(message.encode())), src=0)
    dist.broadcast(data, src=0)


def _hear() -> str:
    """Receive what the first process tells; the empty text where it is gone."""
    length = torch.tensor(0)
    try:
        dist.broadcast(length, src=0)
        data = torch.empty(max(1, int(length)), dtype=torch.uint8)
        dist.broadcast(data, src=0)
    except RuntimeError:
        return ""
    return bytes(data.tolist())[: int(length)].decode()
