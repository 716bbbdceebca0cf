"""A run that torchrun started in several processes: the first does it, the others help it to prune.

    torchrun --nproc-per-node 4 --no-python kprune-export prune-and-build …

The first process runs the command as ever. The others wait; when it comes to pruning they are sent what to
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

from exporters.machine.cpu_quota import usable_cpus
from kprune_export.errors import SurroundingsError
from pruning.calibration.examples import Example
from pruning.checkpoint.identity import CheckpointIdentity
from pruning.checkpoint.load import load_checkpoint
from pruning.errors import CheckpointError, PruningError
from pruning.methods.placement import placement_on
from pruning.prune import prune_checkpoint, sensitivity_of
from pruning.settings import PruningSettings

_OF_TORCHRUN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""The environment variables that a process of several needs: https://docs.pytorch.org/docs/stable/elastic/run.html."""
WAIT = timedelta(hours=24)
"""How long a process waits for another: the first may export and measure meanwhile."""


def launched_processes() -> int:
    """Return how many processes torchrun has started this command in; 1 without it.

    Raises:
        SurroundingsError: the environment variable that says so holds no count.

    """
    return _count("WORLD_SIZE", 1)


def _count(variable: str, default: int) -> int:
    said = os.environ.get(variable) or str(default)
    count = int(said) if said.isascii() and said.isdecimal() else 0
    if count < 1:
        raise SurroundingsError(f"The environment variable {variable} is {said!r}, which is no count: unset it.")
    return count


def _check_launched() -> None:
    missing = [name for name in _OF_TORCHRUN if not os.environ.get(name)]
    if missing:
        raise SurroundingsError(
            f"The environment variable WORLD_SIZE is {launched_processes()}, but torchrun's {', '.join(missing)} are "
            "not set: start the command with torchrun, or unset WORLD_SIZE."
        )


def own_device(name: str) -> str:
    """Return this process's device: of several processes on a machine, each takes the GPU of its number."""
    if launched_processes() > 1 and name in ("cuda", "auto") and torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return name


class PruningTask(BaseModel):
    """What the first process asks the others to help with.

    Attributes:
        source: the identity of the model's files; a process that finds other files takes no part.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    source: CheckpointIdentity
    allow_pickle: bool
    pooling: str | None
    texts: tuple[tuple[str, str | None], ...]
    settings: PruningSettings
    device: str
    offload: bool
    journal: str
    curves_only: bool = False

    def help(self) -> None:
        """Do it with this process's share of the texts, and throw the result away: the first process has it too.

        Raises:
            PruningError: the model cannot be loaded as the first process has it, or cannot be pruned.

        """
        try:
            checkpoint = load_checkpoint(self.model, self.allow_pickle, self.pooling, self.source)
        except BaseException:
            _failures(1)
            raise
        if _failures(0):  # the first process reports it
            return
        examples = [Example(*pair) for pair in self.texts]
        placement = placement_on(own_device(self.device), self.offload)
        run = sensitivity_of if self.curves_only else prune_checkpoint
        run(checkpoint, examples, self.settings, placement, Path(self.journal))


@contextlib.contextmanager
def process_group() -> Iterator[bool]:
    """Join the other processes, if there are any; yields whether this process is the one that runs the command.

    When the first leaves, the others are notified that there is nothing more to do.

    Raises:
        SurroundingsError: the environment variables that torchrun sets contradict each other.

    """
    if launched_processes() == 1:
        yield True
        return
    _check_launched()
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
    """Have the other processes, if there are any, help with a task while the context lasts.

    Raises:
        CheckpointError: one of them cannot load the same model.

    """
    if launched_processes() == 1:
        yield
        return
    _tell(task.model_dump_json())
    if failed := _failures(0):
        raise CheckpointError(
            f"{failed} of {launched_processes()} processes could not load {task.model} as the first one has it: its "
            "files changed during the run, or are not the same for all; run the command again once they are."
        )
    try:
        with _share_of_threads():
            yield
    except BaseException:
        dist.destroy_process_group()  # the others may wait in the middle of a sum: they must not keep waiting
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
    here = _count("LOCAL_WORLD_SIZE", launched_processes())
    torch.set_num_threads(max(1, usable_cpus() // here))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _failures(own: int) -> int:
    """Return in how many processes something failed, given whether it did in this one; all wait for each other."""
    total = torch.tensor(own)
    dist.all_reduce(total)
    return int(total)


def _tell(message: str) -> None:
    """Send a text from the first process to all others; not pickled, as torch's own way would be."""
    data = torch.frombuffer(bytearray(message.encode()) or bytearray(1), dtype=torch.uint8)
    dist.broadcast(torch.tensor(len(message.encode())), src=0)
    dist.broadcast(data, src=0)


def _hear() -> str:
    """Receive what the first process sends; the empty text where it is gone."""
    length = torch.tensor(0)
    try:
        dist.broadcast(length, src=0)
        data = torch.empty(max(1, int(length)), dtype=torch.uint8)
        dist.broadcast(data, src=0)
    except RuntimeError:
        return ""
    return bytes(data.tolist())[: int(length)].decode()
