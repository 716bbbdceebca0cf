"""Placement of a run's weights and activations on devices, and the precision of the network."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pruning.calibration.batches import Batch
from pruning.errors import DeviceError, DeviceMissingError
from pruning.families.base import Context, EncoderAdapter, Sublayer


@dataclass(frozen=True)
class Placement:
    """Device and precision of a run.

    Weights and hidden states rest in ``storage`` and are computed with on ``device``. Where the two are
    the same, nothing moves. Where they differ, a layer is on the device only while it is computed with, and
    hidden states a batch at a time, so that the device holds a few layers whatever the depth; embeddings
    and the task's head stay in storage.

    Attributes:
        device: where sublayers run, and where Gram matrices are summed and solved, in float64.
        storage: where weights and hidden states rest.
        forward_dtype: the type that the network's products are computed in, by autocast; None for the
            weights' own.

    """

    device: torch.device
    storage: torch.device
    forward_dtype: torch.dtype | None = None

    @property
    def offloads(self) -> bool:
        """Whether weights rest somewhere else than where they run."""
        return self.device != self.storage

    @contextlib.contextmanager
    def layer(self, sublayer: Sublayer) -> Iterator[None]:
        """Have a sublayer's layer on the device."""
        if not self.offloads:
            yield
            return
        sublayer.module.to(self.device)
        try:
            yield
        finally:
            sublayer.module.to(self.storage)

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Run the network, and nothing but it, in the forward precision."""
        if self.forward_dtype is None:
            yield
            return
        with torch.autocast(self.device.type, self.forward_dtype):
            yield

    def context(self, adapter: EncoderAdapter, batch: Batch) -> Context:
        """Return a batch's context, in storage."""
        stored = batch.to(self.storage)
        return adapter.context(stored.attention_mask, stored.counted)

    def to_device(self, value: Tensor) -> Tensor:
        """Return hidden states where they are computed with."""
        return value.to(self.device)

    def to_storage(self, value: Tensor) -> Tensor:
        """Return hidden states where they rest, in float32 at least."""
        return value.to(self.storage, torch.promote_types(value.dtype, torch.float32))

    def context_on_device(self, context: Context) -> Context:
        """Return a context where it is computed with."""
        if not self.offloads:
            return context
        tensors = {name: value.to(self.device) for name, value in vars(context).items() if isinstance(value, Tensor)}
        return replace(context, **tensors)


CPU = Placement(torch.device("cpu"), torch.device("cpu"))


def placement_on(name: str, offload: bool) -> Placement:
    """Return the placement for a device's name: ``cpu``, ``cuda``, ``cuda:1``, or ``auto``.

    On a GPU the network runs in bfloat16 where it can, sums and solves in float64.

    Raises:
        DeviceError: the name is no device's, or there is nothing to offload from.
        DeviceMissingError: the device is not here.

    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"{name!r} is not a device: use cpu, cuda, cuda:N or auto.") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"Pruning runs on cpu and cuda, not on {name!r}.")
    if device.type == "cpu":
        if offload:
            raise DeviceError("--offload keeps one layer at a time on a GPU, but the device is the CPU: leave it out.")
        return CPU
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        found = f"torch {torch.__version__} sees {count} of them" if count else f"torch {torch.__version__} sees none"
        raise DeviceMissingError(f"--device {name} needs a CUDA GPU, but {found}: use --device cpu or auto.")
    device = torch.device("cuda", device.index or 0)
    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    return Placement(device, torch.device("cpu") if offload else device, dtype)
