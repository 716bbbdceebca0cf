"""Running a torch module."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from exporters.runners.base import Array, Feeds, Runner
from exporters.runners.device import DeviceRunner
from exporters.spec import BATCH, SEQUENCE, ModelSpec, TensorSpec


class TorchRunner(Runner):
    """A torch module on the CPU; the reference that artefacts are compared with.

    Args:
        module: maps int64 tensors (batch, sequence), given by name, to its outputs: one tensor, or a tuple of them.
        spec: its inputs and its outputs.

    """

    name = "torch"

    def __init__(self, module: Callable[..., Tensor | tuple[Tensor, ...]], spec: ModelSpec) -> None:
        self._module = module
        self._spec = spec

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs that the spec names, int64."""
        return tuple(TensorSpec(name, "int64", (BATCH, SEQUENCE)) for name in self._spec.inputs)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs that the spec names."""
        return self._spec.outputs

    def close(self) -> None:
        """Do nothing: the module belongs to the caller."""

    @torch.no_grad()
    def _run(self, feeds: Feeds) -> dict[str, Array]:
        inputs = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}
        values = self._module(**inputs)
        tensors = (values,) if isinstance(values, Tensor) else values
        return {spec.name: tensor.numpy() for spec, tensor in zip(self._spec.outputs, tensors, strict=True)}


class TorchDeviceRunner(DeviceRunner):
    """A torch module on a device, in eager mode: what a GPU's other runtimes are measured beside.

    Args:
        module: as `TorchRunner` takes it, already on the device.
        spec: its inputs and its outputs.
        device: where it is.

    """

    def __init__(
        self, module: Callable[..., Tensor | tuple[Tensor, ...]], spec: ModelSpec, device: torch.device
    ) -> None:
        super().__init__(device)
        self.name = f"torch ({device.type})"
        self._module = module
        self._spec = spec
        self._arguments: Mapping[str, Tensor] = {}
        self._values: Mapping[str, Tensor] = {}

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs that the spec names, int64."""
        return tuple(TensorSpec(name, "int64", (BATCH, SEQUENCE)) for name in self._spec.inputs)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs that the spec names."""
        return self._spec.outputs

    def close(self) -> None:
        """Free the buffers; the module belongs to the caller."""
        self.synchronize()
        self._arguments = self._values = {}
        self._buffers.clear()

    @torch.no_grad()
    def enqueue(self) -> None:
        """Start one run."""
        with self.on_stream():
            values = self._module(**self._arguments)
        tensors = (values,) if isinstance(values, Tensor) else values
        self._values = {spec.name: tensor for spec, tensor in zip(self._spec.outputs, tensors, strict=True)}

    def _bind(self, inputs: Mapping[str, Tensor]) -> None:
        self._arguments = inputs

    def _results(self) -> Mapping[str, Tensor]:
        return self._values
