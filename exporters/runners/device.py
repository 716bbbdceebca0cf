"""Runners that work through a queue of their device, which is what lets them be timed there."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from exporters.errors import MissingRuntimeError, RunnerError, first_line
from exporters.runners.base import Array, Feeds, Runner

CPU = torch.device("cpu")


def cuda_device(runtime: str) -> torch.device:
    """Return the current CUDA device.

    Args:
        runtime: what needs it, in words, for the message.

    Raises:
        MissingRuntimeError: torch finds none.

    """
    if not torch.cuda.is_available():
        raise MissingRuntimeError(
            f"{runtime} needs an NVIDIA GPU, but torch {torch.__version__} finds none: "
            "run on a machine with one, and with a CUDA build of torch."
        )
    return torch.device("cuda", torch.cuda.current_device())


class DeviceBuffers:
    """Memory for tensors by name, on the device and on the host, used again from call to call.

    Host memory is pinned beside a GPU, as only then do copies run without the host.

    Args:
        device: where the device's memory is.
        fixed: keep memory of its own for each shape, so that a tensor of a name and shape never moves. Otherwise
            there is one piece of memory for each name, which moves when it grows.

    """

    def __init__(self, device: torch.device, fixed: bool = False) -> None:
        self._device = device
        self._fixed = fixed
        self._held: dict[tuple[str, tuple[int, ...], str], Tensor] = {}

    def on_device(self, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        """Return the device's memory for a tensor, its contents undefined or those of the last call."""
        return self._place(name, dtype, shape, self._device, pinned=False)

    def on_host(self, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        """Return the host's memory for a tensor, likewise."""
        return self._place(name, dtype, shape, CPU, pinned=self._device.type == "cuda")

    def _place(
        self, name: str, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device, pinned: bool
    ) -> Tensor:
        size = prod(shape) * dtype.itemsize
        key = (name, shape if self._fixed else (), "pinned" if pinned else device.type)
        held = self._held.get(key)
        if held is None or held.numel() < size:
            held = self._held[key] = torch.empty(size, dtype=torch.uint8, device=device, pin_memory=pinned)
        return held[:size].view(dtype).view(shape)

    def clear(self) -> None:
        """Free everything."""
        self._held.clear()


class DeviceRunner(Runner):
    """A runner whose device works through a queue: a CUDA stream of its own, or none on the CPU.

    `run` goes from host memory to host memory, and waits. Timers call what it consists of: `load`, `enqueue`
    as often as they like, `fetch`.

    Outputs come in the dtype that the model gives. bfloat16, which numpy does not have, is that of ml_dtypes: two
    bytes an element and no conversion, and `astype` widens it exactly.

    Args:
        device: where the model runs.
        fixed_addresses: never move a tensor of the same name and shape: for CUDA graphs.

    """

    def __init__(self, device: torch.device, fixed_addresses: bool = False) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._buffers = DeviceBuffers(device, fixed_addresses)

    @abstractmethod
    def enqueue(self) -> None:
        """Start one run on what was loaded last, and do not wait for it.

        Raises:
            RunnerError: the runtime refused.

        """

    @abstractmethod
    def _bind(self, inputs: Mapping[str, Tensor]) -> None:
        """Prepare to run on these tensors, which are on the device; their contents may still be on the way."""

    @abstractmethod
    def _results(self) -> Mapping[str, Tensor]:
        """Return the last run's outputs, on the device; their contents may still be on the way."""

    def load(self, feeds: Feeds) -> None:
        """Copy inputs to the device and prepare to run on them.

        Raises:
            RunnerError: the feeds are not the model's inputs, or the runtime cannot run on their shape.

        """
        self.check(feeds)
        with self._reported():
            self._load(feeds)

    def fetch(self) -> dict[str, Array]:
        """Wait for the last run and return its outputs."""
        hosts = {}
        with self.on_stream():
            for name, tensor in self._results().items():
                hosts[name] = self._buffers.on_host(name, tensor.dtype, tuple(tensor.shape))
                hosts[name].copy_(tensor, non_blocking=True)
        self.synchronize()
        return {name: numpy_copy(host) for name, host in hosts.items()}

    def on_stream(self) -> AbstractContextManager[Any]:
        """Make the runner's stream torch's current one."""
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it."""
        if self.stream is not None:
            self.stream.synchronize()

    def _load(self, feeds: Feeds) -> None:
        self.synchronize()  # the host's memory is written again, which an earlier copy may still be reading
        inputs = {}
        with self.on_stream():
            for name, array in feeds.items():
                source = torch.from_numpy(np.ascontiguousarray(array))
                host = self._buffers.on_host(name, source.dtype, tuple(source.shape))
                host.copy_(source)
                inputs[name] = self._buffers.on_device(name, source.dtype, tuple(source.shape))
                inputs[name].copy_(host, non_blocking=True)
            self._bind(inputs)

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        with self._reported():
            self._load(feeds)
            self.enqueue()
            return self.fetch()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Report what torch says of a device, out of memory included, as a runner's error."""
        try:
            yield
        except RuntimeError as error:
            raise RunnerError(f"{self.name} failed on {self.device}: {first_line(error)}") from error


def numpy_copy(tensor: Tensor) -> Array:
    """Return a copy of a tensor in host memory as an array of the same dtype, bfloat16 as that of ml_dtypes."""
    if tensor.dtype == torch.bfloat16:
        bits: Array = tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return bits.copy()
    return tensor.numpy().copy()
